"""Weighted round robin in constant time."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Final

from mfalb.balancer.pools.backend import WARM_STEPS, Backend
from mfalb.balancer.pools.choice import NO_KEY, Choice

_WARMING_TURN_LIMIT: Final = 2000  # picks: laying more would hold up the data path for milliseconds at every step


def spread_by_weight(backends: Sequence[Backend]) -> list[Backend]:
    """One full turn: each backend as often as its weight says, spread as evenly as possible.

    Smooth weighted round robin: at each step every backend gains its weight, the richest takes the turn and pays the
    sum. Weights 3, 1, 1 give A B A C A and not A A A B C, so no server sees its share in one burst.
    """
    weights = _shortened([backend.pull for backend in backends])
    total = sum(weights)
    credits_ = [0] * len(backends)
    turn = []
    for _ in range(total):
        credits_ = [credit + weight for credit, weight in zip(credits_, weights, strict=True)]
        richest = max(range(len(backends)), key=credits_.__getitem__)
        credits_[richest] -= total
        turn.append(backends[richest])
    return turn


def _shortened(pulls: list[int]) -> list[int]:
    """The same shares in the smallest whole numbers.

    While one warms up these are large (19 of 20 twentieths have nothing in common), so they are rounded: for moments.
    """
    divisor = gcd(*pulls) or 1
    weights = [pull // divisor for pull in pulls]
    total = sum(weights)
    if total <= _WARMING_TURN_LIMIT or divisor % WARM_STEPS == 0:
        return weights
    return [max(1, weight * _WARMING_TURN_LIMIT // total) for weight in weights]


class RoundRobin(Choice):
    """Whose turn it is.

    The turn holds usable backends only and is laid anew when one comes or goes. Skipping an unusable backend at each
    pick instead would give its whole share to whoever happens to stand behind it.
    """

    __slots__ = ("_position", "_retry_position", "_turn")

    def __init__(self) -> None:
        self._turn: list[Backend] = []
        self._position = 0
        self._retry_position = 0

    def set_backends(self, backends: Sequence[Backend]) -> None:
        self._turn = spread_by_weight(backends)
        self._position = self._position % len(self._turn) if self._turn else 0

    def next(self, key: bytes = NO_KEY) -> Backend | None:  # noqa: ARG002 - who asks does not matter here
        turn = self._turn
        if not turn:
            return None
        position = self._position
        backend = turn[position]
        position += 1
        self._position = position if position < len(turn) else 0
        return backend

    def next_except(self, tried: frozenset[str], key: bytes = NO_KEY) -> Backend | None:  # noqa: ARG002 - as above
        """One of those not tried. Takes nobody's turn: retries go round by themselves.

        The one behind the refusing backend would always be the same one, and would get all of its share.
        """
        turn = self._turn
        for position in range(self._retry_position, self._retry_position + len(turn)):
            backend = turn[position % len(turn)]
            if backend.name not in tried:
                self._retry_position = (position + 1) % len(turn)
                return backend
        return None
