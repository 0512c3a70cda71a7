"""Warnings that peers can cause at will: each kind is logged at most once a minute, with how often it happened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

EVERY_S: Final = 60.0
_KINDS_LIMIT: Final = 1_000  # kinds remembered; our own words and configured names, so this is never reached


class RareLog:
    """Logs the first of a kind at once; the following ones within a minute are counted and told with the next."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, event: str, facts: Mapping[str, str | Callable[[], str]]) -> None:
        """Log `event` unless one of this kind was logged lately. A fact that is dear to make is given as a function."""
        unlogged = self._unlogged(kind)
        if unlogged is not None:
            made = {name: fact if isinstance(fact, str) else fact() for name, fact in facts.items()}
            self._log.warning(event, extra=made | unlogged)

    def error(self, kind: str, event: str, error: Exception) -> None:
        """The same for a fault of the program's own, with its traceback."""
        unlogged = self._unlogged(kind)
        if unlogged is not None:
            self._log.error(event, extra=unlogged, exc_info=error)

    def _unlogged(self, kind: str) -> dict[str, str] | None:
        """None when one of this kind was logged lately; else how many were not logged since, if any."""
        now = self._clock()
        told = self._told.get(kind)
        if told is not None and now - told[0] < EVERY_S:
            self._told[kind] = (told[0], told[1] + 1)
            return None
        if len(self._told) >= _KINDS_LIMIT:
            self._told.clear()
        self._told[kind] = (now, 0)
        return {"unlogged": str(told[1])} if told is not None and told[1] else {}
