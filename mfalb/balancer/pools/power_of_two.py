"""The less busy of two that chance has drawn."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.choice import NO_KEY, Choice
from mfalb.balancer.pools.least_connections import is_busier

Draw = Callable[[], float]
"""A number from 0 to less than 1 at each call, all alike likely: the shell's chance."""


class PowerOfTwo(Choice):
    """Draws two backends by weight and takes the less busy one (Mitzenmacher 2001).

    Nearly as even as looking at all of them, and several balancers that each see their own exchanges only do not all
    run to the same server.
    """

    __slots__ = ("_backends", "_draw", "_ends")

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.set_backends(())

    def set_backends(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)
        self._ends = list(accumulate(backend.pull for backend in backends))

    def next(self, key: bytes = NO_KEY) -> Backend | None:  # noqa: ARG002 - who asks does not matter here
        backends, ends = self._backends, self._ends
        if len(backends) < 2:  # noqa: PLR2004 - nothing to draw
            return backends[0] if backends else None
        first_at = bisect_right(ends, int(self._draw() * ends[-1]))
        first = backends[first_at]
        # The second is drawn from what is left when the first one's stretch is cut out
        place = int(self._draw() * (ends[-1] - first.pull))
        if place >= ends[first_at] - first.pull:
            place += first.pull
        second = backends[bisect_right(ends, place)]
        return second if is_busier(first, second) else first

    def peek(self, key: bytes = NO_KEY) -> Backend | None:  # noqa: ARG002 - as above
        return self._backends[0] if len(self._backends) == 1 else None

    def next_except(self, tried: frozenset[str], key: bytes = NO_KEY) -> Backend | None:
        rest = PowerOfTwo(self._draw)
        rest.set_backends([backend for backend in self._backends if backend.name not in tried])
        return rest.next(key)
