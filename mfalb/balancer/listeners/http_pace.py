"""Whether a request's body comes fast enough: a client that drips holds a backend for hours otherwise."""

from __future__ import annotations

from typing import Final

GRACE_S: Final = 10.0  # how long a body may be slower than it must


class BodyPace:
    """Time runs against a body, and its bytes pay for it: a credit in seconds, full at the start."""

    __slots__ = ("_bytes_per_s", "_checked_at", "_credit_s")

    def __init__(self, bytes_per_s: int, now: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._checked_at = now
        self._credit_s = GRACE_S

    def earn(self, size: int) -> None:
        """So many bytes came."""
        if self._bytes_per_s:
            self._credit_s = min(self._credit_s + size / self._bytes_per_s, GRACE_S)

    def is_too_slow(self, now: float, *, is_paused: bool) -> bool:
        """Whether the credit is used up. `is_paused`: it is we who do not read, so this time does not count."""
        passed_s, self._checked_at = now - self._checked_at, now
        if not is_paused:
            self._credit_s -= passed_s
        return self._bytes_per_s > 0 and self._credit_s < 0
