"""The backend with the least to do, by its weight."""

from __future__ import annotations

from collections.abc import Sequence

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.choice import NO_KEY, Choice


class LeastConnections(Choice):
    """Who has the fewest exchanges under way for its weight; those alike take smooth weighted turns (as nginx does).

    Without turns among them, the first in the file would get all the work of a quiet pool.
    """

    __slots__ = ("_backends", "_credits")

    def __init__(self) -> None:
        self._backends: list[Backend] = []
        self._credits: dict[str, int] = {}

    def set_backends(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)
        self._credits = {backend.name: 0 for backend in backends}

    def next(self, key: bytes = NO_KEY) -> Backend | None:  # noqa: ARG002 - who asks does not matter here
        return self._turn_among(_least_busy(self._backends))

    def peek(self, key: bytes = NO_KEY) -> Backend | None:  # noqa: ARG002 - as above
        tied = _least_busy(self._backends)
        return max(tied, key=lambda one: self._credits[one.name] + one.pull, default=None)

    def next_except(self, tried: frozenset[str], key: bytes = NO_KEY) -> Backend | None:  # noqa: ARG002 - as above
        return self._turn_among(_least_busy([one for one in self._backends if one.name not in tried]))

    def _turn_among(self, tied: list[Backend]) -> Backend | None:
        if len(tied) < 2:  # noqa: PLR2004 - one alone has no turn to wait for
            return tied[0] if tied else None
        credits_, richest, total = self._credits, tied[0], 0
        for backend in tied:
            total += backend.pull
            credits_[backend.name] += backend.pull
            if credits_[backend.name] > credits_[richest.name]:
                richest = backend
        credits_[richest.name] -= total
        return richest


def is_busier(one: Backend, other: Backend) -> bool:
    """Whether `one` has more under way than `other`, each by its own weight. In whole numbers, so that a tie is one."""
    return one.active * other.pull > other.active * one.pull


def _least_busy(backends: Sequence[Backend]) -> list[Backend]:
    """All of those that nobody is less busy than."""
    least: list[Backend] = []
    for backend in backends:
        if not least or is_busier(least[0], backend):
            least = [backend]
        elif not is_busier(backend, least[0]):
            least.append(backend)
    return least
