"""The ends of sign-ins, between nodes that share their pins: nothing waits for them, and nothing breaks without them.

    tell(pins)   the store learns that these sign-ins have ended here; their pins go on bringing late repeats there
    hear         while one of this node's backends drains, its open pins are compared with the store's: a sign-in that
                 began here may have ended at another node. What the store does not know has not ended: it may have
                 been away, or begun anew

A store that does not take an end (no right to run scripts) is not away for that: pins are more important.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Protocol

from mfalb.balancer.affinity.store import Pin, PinEnd, SharedPins, read_value_untrusted
from mfalb.balancer.upstreams.store_calls import SharingCounters, StoreCalls
from mfalb.errors import MalformedMessage
from mfalb.net.lifecycle import Tasks

HEAR_EVERY_S: Final = 1.0
_HEARING_SHARE: Final = 10  # a large table takes long to go through: never more than a tenth of the time
_BATCH_LIMIT: Final = 256
# Ends that wait to be told. When full the next ones are not told: other nodes count those until the pins expire
_TOLD_LIMIT: Final = 10_000
_SAME_PIN_S: Final = 2.0  # the store's clock and ours were read up to two calls apart

Whose = tuple[bytes, str]
"""The `pin_tag` of a pin's key, and its backend."""


class OwnPins(Protocol):
    """The pins that this worker has made, in the node's table."""

    def end(self, end: PinEnd, now: float) -> Pin | None: ...

    def open_pins(self, whose: Collection[Whose], now: float) -> Iterator[list[Pin]]:
        """Those whose sign-in has not ended, some at a time."""


class PinEnds:
    """What has ended here on its way to the store, and what has ended elsewhere on its way from there.

    `draining` gives whose sign-ins somebody waits for now.
    """

    def __init__(  # noqa: PLR0913 - what it stands between
        self,
        own: OwnPins,
        shared: SharedPins,
        *,
        counters: SharingCounters,
        draining: Callable[[], Collection[Whose]],
        is_up: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._own = own
        self._shared = shared
        self._counters = counters
        self._draining = draining
        self._is_up = is_up
        self._clock = clock
        self._calls = StoreCalls()
        self._tasks = Tasks("ends of sign-ins")
        self._to_tell: deque[Pin] = deque()
        self._wake = asyncio.Event()

    def start(self) -> None:
        self._tasks.start("tell", self._telling())
        self._tasks.start("hear", self._hearing())

    async def close(self) -> None:
        await self._tasks.close()

    # ------------------------------------------------------------------------------ to the store

    def tell(self, pins: Sequence[Pin]) -> None:
        """These sign-ins have ended, as far as this node knows."""
        if not self._is_up():
            self._counters.results["end", "store_away"] += len(pins)
        elif len(self._to_tell) >= _TOLD_LIMIT:
            self._counters.results["end", "busy"] += len(pins)
        else:
            self._to_tell.extend(pins)
            self._wake.set()

    async def _telling(self) -> None:
        """One call after another; what comes meanwhile gathers."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._to_tell:
                batch = [self._to_tell.popleft() for _ in range(min(len(self._to_tell), _BATCH_LIMIT))]
                began = self._clock()
                failure = await self._calls.limited(self._tell(batch))
                self._counters.calls["end"] += 1
                self._counters.seconds["end"] += self._clock() - began
                if failure is not None:
                    self._counters.results["end", failure] += len(batch)

    async def _tell(self, pins: list[Pin]) -> None:
        told = await self._shared.end(pins, self._clock())
        self._counters.results["end", "told"] += told
        self._counters.results["end", "not_ours"] += len(pins) - told

    # ------------------------------------------------------------------------------ from the store

    async def _hearing(self) -> None:
        while True:
            began = self._clock()
            whose = self._draining()
            if whose and self._is_up():
                await self._hear(whose)
            await asyncio.sleep(max(HEAR_EVERY_S, (self._clock() - began) * _HEARING_SHARE))

    async def _hear(self, whose: Collection[Whose]) -> None:
        for pins in self._own.open_pins(whose, self._clock()):
            for first in range(0, len(pins), _BATCH_LIMIT):
                failure = await self._calls.limited(self._compare(pins[first : first + _BATCH_LIMIT]))
                if failure is not None:
                    return  # next time
            await asyncio.sleep(0)

    async def _compare(self, pins: list[Pin]) -> None:
        read_at = self._clock()
        found = await self._shared.look_up([pin.key for pin in pins])
        now = self._clock()
        for pin, one in zip(pins, found, strict=True):
            if one is not None and _says_ended(pin, *one, now):
                ended = self._own.end(PinEnd(pin.key, pin.backend, read_at), now)
                self._counters.results["end", "heard"] += ended is not None


def _says_ended(pin: Pin, value: bytes, left_s: float, now: float) -> bool:
    """Whether the store says so of this very pin, and not of one that another sign-in has made since."""
    try:
        backend, is_ended = read_value_untrusted(value)
    except MalformedMessage:
        return False
    return is_ended and backend == pin.backend and abs(now + left_s - pin.expires_at) <= _SAME_PIN_S
