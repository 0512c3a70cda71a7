"""How many exchanges may be tried anew: enough for a server that dies, too few for a storm."""

from __future__ import annotations


class RetryBudget:
    """Each exchange earns a share of a retry; at most `reserve` are kept for a bad moment, and there at the start.

    When every server of a pool refuses, each request would otherwise be tried on all of them.
    """

    __slots__ = ("_kept", "_reserve", "_share", "denied", "spent")

    def __init__(self, share: float, reserve: int) -> None:
        self._share = share
        self._reserve = self._kept = float(reserve)
        self.spent = 0
        self.denied = 0

    def resized(self, share: float, reserve: int) -> RetryBudget:
        """Another budget that goes on counting; what was kept counts as far as it may."""
        other = RetryBudget(share, reserve)
        other.spent, other.denied = self.spent, self.denied
        other._kept = min(self._kept, other._reserve)
        return other

    def earn(self) -> None:
        """An exchange has begun."""
        if self._kept < self._reserve:
            self._kept += self._share

    def spend(self) -> bool:
        """Whether one more may be tried anew."""
        if self._kept < 1:
            self.denied += 1
            return False
        self._kept -= 1
        self.spent += 1
        return True
