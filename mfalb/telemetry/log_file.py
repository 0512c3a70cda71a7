"""A log file that survives its rotation, and a full disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from select import PIPE_BUF
from typing import Final

_MODE: Final = 0o640  # client addresses are personal data: not for everybody on the machine
_STANDARD_ERROR: Final = 2
_log = logging.getLogger("mfalb.log_file")


class LogFile:
    """Appends to a file. `reopen` after it was renamed (SIGHUP, as logrotate does); what cannot be written is counted.

    Raises OSError when it cannot be opened at first; later on the balancer goes on without.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_told = False
        self._descriptor: int | None = _opened(path)
        self.left_out = 0

    def write(self, lines: str) -> None:
        """Append whole lines."""
        try:
            if self._descriptor is None:
                self._descriptor = _opened(self._path)
            rest = memoryview(lines.encode())
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self.left_out += lines.count("\n")
            self._give_up(error)
        else:
            self._is_told = False

    def flush(self) -> None:
        """Nothing is kept back."""

    def reopen(self) -> None:
        """Close it, and open what has that name now (a new file, if the old one was renamed)."""
        self.close()
        try:
            self._descriptor = _opened(self._path)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _give_up(self, error: OSError) -> None:
        """For these lines; it is opened anew with the next ones. Whoever is in charge is told once."""
        self.close()
        if not self._is_told:
            self._is_told = True
            _log.error("cannot write the access log", extra={"file": str(self._path), "reason": error.strerror or "?"})


class StandardError:
    """Standard error for several processes: what is written at once is no longer than what a pipe takes as one piece.

    Longer writes of two processes into one pipe may get mixed (PIPE_BUF, pipe(7)), lines into lines.
    """

    def write(self, lines: str) -> None:
        """Append whole lines."""
        rest = lines.encode()
        while rest:
            end = len(rest) if len(rest) <= PIPE_BUF else rest.rfind(b"\n", 0, PIPE_BUF) + 1 or PIPE_BUF
            piece, rest = rest[:end], rest[end:]
            while piece:
                piece = piece[os.write(_STANDARD_ERROR, piece) :]

    def flush(self) -> None:
        """Nothing is kept back."""


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
