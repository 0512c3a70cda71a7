"""TLS as OpenSSL's own command line sees a listener: what it is shown, whether a session is resumed, who it may be."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK

_TIMEOUT_S: Final = 20
_REQUEST: Final = b"GET /echo HTTP/1.1\r\nHost: www.example.test\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Shown:
    """What one `openssl s_client` saw."""

    text: str

    @property
    def is_resumed(self) -> bool:
        return re.search(r"^Reused, ", self.text, re.MULTILINE) is not None

    @property
    def is_answered(self) -> bool:
        """Whether the request got the answer 200."""
        return "HTTP/1.1 200 OK\r\n" in self.text

    @property
    def subject(self) -> str:
        found = re.search(r"^subject=(.*)$", self.text, re.MULTILINE)
        return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class SClient:
    """OpenSSL's client. `options` go to each of its runs."""

    ca: Path
    options: tuple[str, ...] = ()

    def ask(self, port: int, *options: str) -> Shown:
        """One connection with one request."""
        argv = ["openssl", "s_client", "-connect", f"{LOOPBACK}:{port}", "-CAfile", str(self.ca), "-ign_eof"]
        done = subprocess.run(
            [*argv, *self.options, *options], input=_REQUEST, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        return Shown((done.stdout + done.stderr).decode("utf-8", "replace"))

    def shows(self, files: CertificateFiles) -> SClient:
        """The same with a certificate of its own."""
        return SClient(self.ca, (*self.options, "-cert", str(files.cert), "-key", str(files.key)))

    def begin(self, port: int, session: Path, *options: str) -> Shown:
        """A connection whose session is kept in a file."""
        return self.ask(port, "-sess_out", str(session), *options)

    def resume(self, port: int, session: Path, *options: str) -> Shown:
        """A connection that wants to go on with a kept session."""
        return self.ask(port, "-sess_in", str(session), *options)
