"""How many pins name which backend, kept while they come and go.

Counting a million pins when somebody asks takes a second or two, in which no packet would be served. So they are
counted as they are made, by backend and the second in which they expire; what has expired is left out by its second.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class PinsLeft:
    """The pins that name one backend: how many, and when the last expires (monotonic seconds, rounded up)."""

    count: int
    last_expires_at: float


class PinTally:
    """Counts by backend and second of expiry. As large as lifetimes are long, however many pins there are."""

    def __init__(self) -> None:
        self._seconds: dict[str, Counter[int]] = {}

    def add(self, backend: str, expires_at: float) -> None:
        """A pin was made."""
        self._seconds.setdefault(backend, Counter())[ceil(expires_at)] += 1

    def remove(self, backend: str, expires_at: float) -> None:
        """A pin has given way. Nothing happens when it has expired and was forgotten."""
        seconds, second = self._seconds.get(backend), ceil(expires_at)
        if seconds is None or second not in seconds:
            return
        seconds[second] -= 1
        if not seconds[second]:
            del seconds[second]

    def left(self, now: float) -> dict[str, PinsLeft]:
        """The pins that count at `now`, by backend."""
        found = {}
        for backend, seconds in self._seconds.items():
            counted = [second for second in seconds if second > now]
            if counted:
                found[backend] = PinsLeft(sum(seconds[second] for second in counted), float(max(counted)))
        return found

    def expire(self, now: float) -> None:
        """Forget what has expired."""
        for backend, seconds in list(self._seconds.items()):
            for second in [second for second in seconds if second <= now]:
                del seconds[second]
            if not seconds:
                del self._seconds[backend]
