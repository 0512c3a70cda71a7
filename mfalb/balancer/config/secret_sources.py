"""Secrets stand in files or environment variables, never in the configuration: `secret_file: path`, `secret_env: NAME`.

This fetches them while a file is loaded and puts Secret values where the models want them. Nothing that was read here
ever gets into a message.
"""

from __future__ import annotations

import base64
import binascii
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mfalb.balancer.config.document import Document, Loc
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.outline import Place, secret_keys
from mfalb.balancer.config.values import Secret, quoted

COOKIE_KEY_BYTES = 32
RADIUS_SECRET_BYTES = 16  # RFC 2865 section 3 asks for "at least 16 octets"
SOURCE_LIMIT_BYTES = 64 * 1024
_READABLE_BY_OTHERS = 0o007
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class SecretSources:
    """Where secrets may come from: files relative to `folder`, variables of `environment`."""

    folder: Path
    environment: Mapping[str, str]
    document: Document
    findings: Findings

    def fetch(self, place: Place) -> None:
        """Replaces `x_file` and `x_env` of a table by the secret `x`; what is wrong becomes a finding."""
        for key, attribute in secret_keys(place.table).items() if place.table is not None else ():
            self._fetch_one(place, key, is_ring=attribute == "cookie_keys")

    def _fetch_one(self, place: Place, key: str, *, is_ring: bool) -> None:
        sources = [name for name in (f"{key}_file", f"{key}_env") if name in place.data]
        accepted = f"write '{key}_file: path' or '{key}_env: NAME'"
        octets: bytes | None = None
        if key in place.data:
            self._error((*place.loc, key), f"{key}: a secret does not stand in this file; {accepted}")
        elif len(sources) > 1:
            self._error((*place.loc, sources[1]), f"{sources[1]}: '{sources[0]}' is set already; keep one of them")
        elif not sources:
            return
        else:
            octets = self._octets((*place.loc, sources[0]), place.data[sources[0]])
        for name in sources:
            del place.data[name]
        loc = (*place.loc, sources[0] if sources else key)
        if is_ring:
            place.data[key] = () if octets is None else self._ring(loc, octets)
        else:
            place.data[key] = Secret(octets or b"")
            if key == "secret" and octets is not None and len(octets) < RADIUS_SECRET_BYTES:
                self.findings.warning(
                    self.document.at_value(loc),
                    f"{loc[-1]}: the secret is shorter than {RADIUS_SECRET_BYTES} bytes and can be guessed from one "
                    "captured packet; use a long random one",
                )

    def _octets(self, loc: Loc, source: object) -> bytes | None:
        """The trimmed content of a file or variable; None when there is none, which is a finding then."""
        key = str(loc[-1])
        if not isinstance(source, str) or not source:
            self._error(loc, f"{key}: must be text: {'a path' if key.endswith('_file') else 'the name of a variable'}")
            return None
        octets = self._file_octets(loc, source) if key.endswith("_file") else self._variable_octets(loc, source)
        if octets is None:
            return None
        octets = octets.rstrip(b"\r\n")
        if not octets:
            self._error(loc, f"{key}: {quoted(source)} is empty; put the secret there")
            return None
        return octets

    def _variable_octets(self, loc: Loc, name: str) -> bytes | None:
        if _VARIABLE.fullmatch(name) is None:
            # Not repeated: it may be the secret itself, written here by mistake.
            self._error(loc, f"{loc[-1]}: this is no variable's name; write the name, not the secret")
            return None
        if name not in self.environment:
            self._error(loc, f"{loc[-1]}: the environment has no variable {quoted(name)}; set it where mfalb starts")
            return None
        return self.environment[name].encode("utf-8", "surrogateescape")

    def _file_octets(self, loc: Loc, source: str) -> bytes | None:
        path = self.folder / source
        try:
            octets = read_file(path)
        except OSError as error:
            self._error(loc, f"{loc[-1]}: cannot read {quoted(path)}: {reason(error)}")
            return None
        warn_if_exposed(path, loc, self.document, self.findings)
        return octets

    def _ring(self, loc: Loc, octets: bytes) -> tuple[Secret, ...]:
        keys: list[Secret] = []
        for number, line in enumerate(octets.splitlines(), start=1):
            text = line.split(b"#", 1)[0].strip()
            if not text:
                continue
            key = _cookie_key(text)
            if key is None or key in keys:
                trouble = "repeats an earlier one" if key is not None else f"is not {COOKIE_KEY_BYTES} bytes in base64"
                self._error(loc, f"{loc[-1]}: line {number} of the keys {trouble}; 'mfalb keygen' prints a fresh line")
                break
            keys.append(key)
        else:
            if not keys:
                self._error(loc, f"{loc[-1]}: has no key; 'mfalb keygen' prints one")
        return tuple(keys)

    def _error(self, loc: Loc, message: str) -> None:
        self.findings.error(self.document.at_value(loc), message)


def hold_places(place: Place) -> None:
    """Something in place of each secret that a table names a source for, or wrongly holds; nothing is read."""
    for key, attribute in secret_keys(place.table).items() if place.table is not None else ():
        sources = [name for name in (key, f"{key}_file", f"{key}_env") if name in place.data]
        for name in sources:
            del place.data[name]
        if sources:
            stand_in = Secret(bytes(COOKIE_KEY_BYTES))
            place.data[key] = (stand_in,) if attribute == "cookie_keys" else stand_in


def _cookie_key(text: bytes) -> Secret | None:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return Secret(key) if len(key) == COOKIE_KEY_BYTES else None


def read_file(path: Path, limit_bytes: int = SOURCE_LIMIT_BYTES) -> bytes:
    """The content of a small regular file. Raises OSError also for pipes, devices and files past the limit."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(0, "it is no regular file")
        with path.open("rb") as file:
            octets = file.read(limit_bytes + 1)
    except ValueError as error:  # a NUL in the path
        raise OSError(0, "it is no path") from error
    if len(octets) > limit_bytes:
        raise OSError(0, f"it is larger than {limit_bytes // 1024} KiB")
    return octets


def reason(error: OSError) -> str:
    """Why, in the words of the operating system: "no such file or directory"."""
    text = error.strerror or "unreadable"
    return text[:1].lower() + text[1:]


def warn_if_exposed(path: Path, loc: Loc, document: Document, findings: Findings) -> None:
    """A warning when every user of the machine may read (or change) a secret file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # gone since it was read: nothing to expose
    if mode & _READABLE_BY_OTHERS:
        findings.warning(
            document.at_value(loc), f"{loc[-1]}: {quoted(path)} is open to every user; run: chmod o-rwx {path.name}"
        )
