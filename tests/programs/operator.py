"""An operator at the shell: `mfalb` verbs as processes, against the admin socket of a balancer."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_TIMEOUT_S: Final = 120.0


@contextmanager
def socket_path() -> Iterator[Path]:
    """Where an admin socket may be: a test's own folder can have a longer name than a Unix socket (107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="mfalb-") as folder:
        yield Path(folder) / "admin.sock"


@dataclass(frozen=True, slots=True)
class Said:
    """How a verb ended."""

    exit_code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Operator:
    """Types verbs for the balancer whose admin socket this is."""

    socket: Path

    def run(self, verb: str, *arguments: str, typed: str = "") -> Said:
        """The verb to its end; `typed` is its standard input."""
        command = [sys.executable, "-m", "mfalb", verb, *arguments, "--socket", str(self.socket)]
        done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        return Said(done.returncode, done.stdout, done.stderr)

    def ask(self, verb: str, *arguments: str, typed: str = "") -> Any:
        """What it says as JSON; it has to succeed."""
        said = self.run(verb, *arguments, "--json", typed=typed)
        assert said.exit_code == 0, said
        return json.loads(said.out)

    def why(self, *arguments: str, typed: str = "") -> dict[str, Any]:
        """The one verdict."""
        (verdict,) = self.ask("why", *arguments, typed=typed)["verdicts"]
        found: dict[str, Any] = verdict
        return found

    def start(self, verb: str, *arguments: str) -> subprocess.Popen[str]:
        """The verb under way; the caller has to wait for it."""
        command = [sys.executable, "-m", "mfalb", verb, *arguments, "--socket", str(self.socket)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
