"""A snapshot on its way: a file that comes in pieces, and counts only when all of it is there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, Self

from mfalb.errors import MalformedMessage
from mfalb.reference.mfa_server.group.messages import SnapshotBegins

_READ_BYTES: Final = 1024 * 1024


def description(path: Path) -> SnapshotBegins:
    """The size and the digest of a file, read a MiB at a time."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
            size += len(piece)
    return SnapshotBegins(size, digest.hexdigest())


class IncomingSnapshot:
    """Writes the pieces to a file for its owner only; a context manager that leaves no file behind."""

    def __init__(self, path: Path, begins: SnapshotBegins) -> None:
        self.path: Final = path
        self._begins = begins
        self._digest = hashlib.sha256()
        self._size = 0
        path.unlink(missing_ok=True)  # of a process that was killed in the middle
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def add(self, piece: bytes) -> bool:
        """Take the next piece; true when the file is complete. Raises MalformedMessage when it is not what was told."""
        self._size += len(piece)
        if self._size > self._begins.size:
            raise MalformedMessage("snapshot_too_long")
        self._digest.update(piece)
        self._file.write(piece)
        if self._size < self._begins.size:
            return False
        self._file.flush()
        if self._digest.hexdigest() != self._begins.sha256:
            raise MalformedMessage("snapshot_damaged")
        return True
