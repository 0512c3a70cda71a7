"""Exceptions that nobody can catch, as lines of the log instead of tracebacks on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from mfalb.telemetry.rare_log import RareLog

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_LOOP_CLOSED: Final = "Event loop is closed"  # asyncio's words and uvloop's

_log = logging.getLogger("mfalb.unraisable")


class UnraisableLog:
    """For `sys.unraisablehook`.

    A TLS client can cause one at will: Python decodes the name that it asks for (SNI) where no code of ours runs, and
    one that is not ASCII (RFC 6066 section 3) fails there. The handshake ends with an alert; a line a minute tells.

    A process that is told to stop while a name is looked up causes one, too: uvloop has the answer after the end.
    """

    def __init__(self, log: logging.Logger = _log, clock: Callable[[], float] = monotonic) -> None:
        self._log: Final = log
        self._rare_log: Final = RareLog(log, clock)

    def __call__(self, unraisable: UnraisableHookArgs, /) -> None:
        error = unraisable.exc_value
        if isinstance(error, UnicodeDecodeError) and isinstance(unraisable.object, bytes):
            self._rare_log.warning("server_name", "a TLS client asks for a name that is not ASCII", {})
            return
        if isinstance(error, RuntimeError) and str(error) == _LOOP_CLOSED:
            self._log.debug("an answer came after the end")
            return
        self._log.error("unexpected failure", extra={"context": unraisable.err_msg or ""}, exc_info=error)


def install() -> None:
    """Once, by who runs the process."""
    sys.unraisablehook = UnraisableLog()
