"""Weighted round robin in constant time."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Final

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.choice import NO_KEY, Choice

# Picks: a millisecond with a hundred backends. Their whole turn can have 25,600, and twenty times as many for the
# moments in which one of them warms up.
_LAID_AT_ONCE: Final = 64


class WeightedTurn:
    """One full turn: each backend as often as its weight says, spread as evenly as possible. Laid bit by bit.

    Smooth weighted round robin: at each step every backend gains its weight, the richest takes the turn and pays the
    sum. Weights 3, 1, 1 give A B A C A and not A A A B C, so no server sees its share in one burst.
    """

    __slots__ = ("_credits", "_total", "_weights", "backends", "laid")

    def __init__(self, backends: Sequence[Backend]) -> None:
        self.backends = list(backends)
        pulls = [backend.pull for backend in backends]
        divisor = gcd(*pulls) or 1
        self._weights = [pull // divisor for pull in pulls]
        self._total = sum(self._weights)
        self._credits = [0] * len(self.backends)
        self.laid: list[Backend] = []
        self.lay_more()

    def lay_more(self) -> bool:
        """False when all of it was there already."""
        backends, weights, total, laid = self.backends, self._weights, self._total, self.laid
        steps = min(_LAID_AT_ONCE, total - len(laid))
        credits_ = self._credits
        for _ in range(steps):
            credits_ = [credit + weight for credit, weight in zip(credits_, weights, strict=True)]
            richest = max(range(len(backends)), key=credits_.__getitem__)
            credits_[richest] -= total
            laid.append(backends[richest])
        self._credits = credits_
        return steps > 0


class RoundRobin(Choice):
    """Whose turn it is.

    The turn holds usable backends only and is laid anew when one comes or goes. Skipping an unusable backend at each
    pick instead would give its whole share to whoever happens to stand behind it.
    """

    __slots__ = ("_laid", "_position", "_retry_position", "_turn")

    def __init__(self) -> None:
        self._turn = WeightedTurn(())
        self._laid = self._turn.laid
        self._position = 0
        self._retry_position = 0

    def set_backends(self, backends: Sequence[Backend]) -> None:
        self._turn = WeightedTurn(backends)
        self._laid = self._turn.laid
        self._position = self._position % len(self._laid) if self._laid else 0

    def next(self, key: bytes = NO_KEY) -> Backend | None:  # noqa: ARG002 - who asks does not matter here
        laid = self._laid
        if not laid:
            return None
        position = self._position
        backend = laid[position]
        position += 1
        self._position = position if position < len(laid) or self._turn.lay_more() else 0
        return backend

    def peek(self, key: bytes = NO_KEY) -> Backend | None:  # noqa: ARG002 - as above
        return self._laid[self._position] if self._laid else None

    def next_except(self, tried: frozenset[str], key: bytes = NO_KEY) -> Backend | None:  # noqa: ARG002 - as above
        """One of those not tried. Takes nobody's turn: retries go round by themselves.

        The one behind the refusing backend would always be the same one, and would get all of its share.
        """
        laid = self._laid
        for position in range(self._retry_position, self._retry_position + len(laid)):
            backend = laid[position % len(laid)]
            if backend.name not in tried:
                self._retry_position = (position + 1) % len(laid)
                return backend
        for backend in self._turn.backends:  # one of little weight, whose turn is not laid yet
            if backend.name not in tried:
                return backend
        return None
