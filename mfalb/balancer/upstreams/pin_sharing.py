"""Shared pins, as the listeners use them: what waits for the store, for how long, and what goes on without it.

    store(pins)     the answer that begins a transaction waits until the store has its pins, or until the deadline
    look_up(keys)   a message whose pin this node does not know waits for what the store knows, or for the deadline
    end(pins)       these sign-ins have ended: the store is told, and nobody waits (`pin_ends`)

The first two give their caller back at once when there is nothing to wait for: the store is away, and a probe with a
pause that grows looks for it. Then this node's own table serves alone; pins that the store did not get are kept, the
newest of them, and handed in when it is back. What comes from the store is put into the node's own table, and is found
there.

Whatever gathers in one round of the loop, or while calls are under way, goes in one call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import Final, Protocol

from mfalb.balancer.affinity.store import Pin, PinEnd, PinStore, SharedPins, read_value_untrusted
from mfalb.balancer.upstreams.node_watch import NodeWatch
from mfalb.balancer.upstreams.pin_ends import OwnPins, PinEnds, Whose
from mfalb.balancer.upstreams.store_calls import SharingCounters, StoreCalls
from mfalb.errors import MalformedMessage
from mfalb.net.lifecycle import Tasks

ANNOUNCE_EVERY_S: Final = 10.0
_ANNOUNCED_FOR_S: Final = 3 * ANNOUNCE_EVERY_S
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_LATE_IN_A_ROW: Final = 3  # so many deadlines missed, and not one met: nobody should wait for this store
_CALLS_LIMIT: Final = 4  # of each kind under way; what comes meanwhile gathers
_BATCH_LIMIT: Final = 256  # pins or keys in one call
_WAITING_LIMIT: Final = 10_000  # answers and messages held at once; past it they go on at once (`busy`)
# Pins made while the store is away. When full the oldest is forgotten: it still serves on this node
BACKLOG_LIMIT: Final = 20_000

Then = Callable[[float], None]
"""What goes on when the waiting is over; it is given the monotonic time."""

_log = logging.getLogger("mfalb.pins")


class _Waiting:
    """Something that is held: what it wants, and what goes on afterwards. `is_over`: it has gone on."""

    __slots__ = ("is_over", "keys", "pins", "then", "timer")

    def __init__(self, pins: Sequence[Pin], keys: Sequence[bytes], then: Then) -> None:
        self.pins = pins
        self.keys = keys
        self.then = then
        self.is_over = False
        self.timer: asyncio.TimerHandle | None = None


class _Line:
    """What waits for one kind of call, and how many of those are under way."""

    __slots__ = ("gathered", "is_called", "name", "under_way")

    def __init__(self, name: str) -> None:
        self.name = name
        self.gathered: deque[_Waiting] = deque()
        self.under_way = 0
        self.is_called = False


class NodePins(PinStore, OwnPins, Protocol):
    """The node's own table, as one of its workers has it."""


class PinSharing:
    """Between the listeners of one worker and the store. `local` is this node's own table.

    `known` are the names of all backends here: a pin that names another is of no use. `released` is called when
    something has gone on, for the listeners to send what they gathered. `draining` is as `PinEnds` has it.
    """

    def __init__(  # noqa: PLR0913 - what it stands between
        self,
        local: NodePins,
        shared: SharedPins,
        watch: NodeWatch,
        *,
        timeout_s: float,
        known: frozenset[str],
        released: Callable[[], None],
        draining: Callable[[], Collection[Whose]] = tuple,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.watch = watch
        self.counters = SharingCounters()
        self.is_up = False
        self._local = local
        self._shared = shared
        self._timeout_s = timeout_s
        self.known = known
        self._released = released
        self._clock = clock
        self._tasks = Tasks("pin store")
        self._store_line = _Line("store")
        self._look_up_line = _Line("look_up")
        self._backlog: deque[Pin] = deque(maxlen=BACKLOG_LIMIT)
        self._waiting = 0
        self._late_in_a_row = 0
        self._is_told_away: bool | None = None
        self._wake = asyncio.Event()
        self._calls = StoreCalls()
        self._ends = PinEnds(
            local, shared, counters=self.counters, draining=draining, is_up=lambda: self.is_up, clock=clock
        )

    def start(self) -> None:
        """Look for the store, and go on looking after it. Nobody waits for that."""
        self._tasks.start("tend", self._tend())
        self._ends.start()

    async def close(self) -> None:
        """Let go of the store. What is held is lost with its listeners."""
        self.is_up = False
        for line in (self._store_line, self._look_up_line):
            while line.gathered:
                self._settle(line.gathered.popleft())
        await self._ends.close()
        await self._tasks.close()
        await self._shared.close()

    @property
    def backlog(self) -> int:
        """Pins that the store has still to get."""
        return len(self._backlog)

    # ------------------------------------------------------------------------------ the listeners' side

    def store(self, pins: Sequence[Pin], then: Then) -> bool:
        """Give the store these pins. True: `then` is called when it has them, or at the deadline; False: go on."""
        if not self.is_up:
            self._keep_for_later(pins)
            self.counters.results["store", "store_away"] += 1
            return False
        if self._waiting >= _WAITING_LIMIT:
            self._keep_for_later(pins)
            self.counters.results["store", "busy"] += 1
            return False
        self._hold(self._store_line, _Waiting(pins, (), then))
        return True

    def look_up(self, keys: Sequence[bytes], then: Then) -> bool:
        """Ask the store for pins. True: `then` is called when they are in this node's table, or at the deadline."""
        if not self.is_up or self._waiting >= _WAITING_LIMIT:
            self.counters.results["look_up", "busy" if self.is_up else "store_away"] += 1
            return False
        self._hold(self._look_up_line, _Waiting((), keys, then))
        return True

    def end(self, pins: Sequence[Pin]) -> None:
        """Other nodes may know that the sign-ins of these pins have ended. Nothing waits for that."""
        if pins:
            self._ends.tell(pins)

    def _hold(self, line: _Line, waiting: _Waiting) -> None:
        waiting.timer = asyncio.get_running_loop().call_later(self._timeout_s, self._deadline_came, line, waiting)
        self._waiting += 1
        line.gathered.append(waiting)
        self._call_soon(line)

    def _deadline_came(self, line: _Line, waiting: _Waiting) -> None:
        self._late_in_a_row += 1
        if line is self._look_up_line:
            self.counters.results["look_up", "late"] += 1
        self._go_on(waiting)
        self._released()
        if self._late_in_a_row >= _LATE_IN_A_ROW:
            self._went_away("silent")

    def _go_on(self, waiting: _Waiting) -> None:
        if waiting.is_over:
            return
        self._settle(waiting)
        try:
            waiting.then(self._clock())
        except Exception as error:  # noqa: BLE001 - a fault of ours, in one message: the others go on
            self._calls.rare_log.error(
                type(error).__name__, "internal error: what waited for the pin store is lost", error
            )

    def _settle(self, waiting: _Waiting) -> None:
        if waiting.is_over:
            return
        waiting.is_over = True
        self._waiting -= 1
        if waiting.timer is not None:
            waiting.timer.cancel()

    def _keep_for_later(self, pins: Sequence[Pin]) -> None:
        self._backlog.extend(pins)

    # ------------------------------------------------------------------------------ calls

    def _call_soon(self, line: _Line) -> None:
        """At the end of this round, so that what it brings goes together."""
        if not line.is_called and line.under_way < _CALLS_LIMIT:
            line.is_called = True
            asyncio.get_running_loop().call_soon(self._call, line)

    def _call(self, line: _Line) -> None:
        line.is_called = False
        if not line.gathered or line.under_way >= _CALLS_LIMIT:
            return
        batch = [line.gathered.popleft() for _ in range(min(len(line.gathered), _BATCH_LIMIT))]
        line.under_way += 1
        self._tasks.start(line.name, self._carried(line, batch))
        self._call_soon(line)

    async def _carried(self, line: _Line, batch: list[_Waiting]) -> None:
        began = self._clock()
        work = self._store_batch if line is self._store_line else self._look_up_batch
        try:
            failure = await self._calls.limited(work(batch, began))
        finally:
            line.under_way -= 1
        self.counters.calls[line.name] += 1
        self.counters.seconds[line.name] += self._clock() - began
        if failure is None:
            self._late_in_a_row = 0
        else:
            self._failed(line, batch)
            self._went_away(failure)
        for waiting in batch:
            self._go_on(waiting)
        self._released()
        if line.gathered:
            self._call_soon(line)

    def _failed(self, line: _Line, batch: list[_Waiting]) -> None:
        for waiting in batch:
            self._keep_for_later(waiting.pins)
            if not waiting.is_over or line is self._store_line:
                self.counters.results[line.name, "store_away"] += 1

    async def _store_batch(self, batch: list[_Waiting], now: float) -> None:
        await self._shared.store([pin for waiting in batch for pin in waiting.pins], now)
        for waiting in batch:
            self.counters.results["store", "stored_late" if waiting.is_over else "stored"] += 1

    async def _look_up_batch(self, batch: list[_Waiting], _now: float) -> None:
        keys = [key for waiting in batch for key in waiting.keys]
        found = iter(await self._shared.look_up(keys))
        now = self._clock()
        for waiting in batch:
            results = [self._taken(key, next(found), now) for key in waiting.keys]
            if not waiting.is_over:
                best = "found" if "found" in results else next((one for one in results if one != "absent"), "absent")
                self.counters.results["look_up", best] += 1

    def _taken(self, key: bytes, found: tuple[bytes, float] | None, now: float) -> str:
        """Put what came into this node's table. What is there already came from an answer since, and is newer."""
        if found is None:
            return "absent"
        try:
            backend, is_ended = read_value_untrusted(found[0])
        except MalformedMessage as error:
            return error.reason
        if backend not in self.known:
            return "unknown_backend"
        if self._local.peek(key, now) is None:
            self._local.put(Pin(key, backend, now + found[1]), now)
            if is_ended:
                self._local.end(PinEnd(key, backend, now), now)
        return "found"

    # ------------------------------------------------------------------------------ away and back

    def _went_away(self, reason: str) -> None:
        self.counters.failures[reason] += 1
        self._late_in_a_row = 0
        if self._is_told_away is not True:
            self._is_told_away = True
            _log.warning("the pin store is away: this node's own pins serve alone", extra={"reason": reason})
        if not self.is_up:
            return
        self.is_up = False
        self._wake.set()
        for line in (self._store_line, self._look_up_line):  # those under way have their own deadlines
            batch, line.gathered = list(line.gathered), deque()
            self._failed(line, batch)
            for waiting in batch:
                self._go_on(waiting)
        self._released()

    def _is_back(self) -> None:
        self._late_in_a_row = 0
        self.is_up = True
        if self._is_told_away is not False:
            self._is_told_away = False
            _log.info("the pin store answers", extra={"pins_to_hand_in": len(self._backlog)})

    async def _tend(self) -> None:
        """Announce this node every now and then, which shows whether the store takes what is written to it.

        The pause before the next look at one that is away doubles until it has served for a whole interval: a store
        that takes announcements but no pins would be away and back all the time.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            self._wake.clear()
            failure = await self._calls.limited(self._announce())
            if failure is None:
                self._is_back()
                failure = await self._calls.limited(self._hand_in())
            if failure is not None:
                self._went_away(failure)
            if self.is_up and await self._serves_for(ANNOUNCE_EVERY_S):
                pause_s = _FIRST_PAUSE_S
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _serves_for(self, seconds: float) -> bool:
        """False as soon as the store has gone away."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return True
        return False

    async def _announce(self) -> None:
        watch = self.watch
        watch.compare(await self._shared.announce(watch.node, watch.settings, _ANNOUNCED_FOR_S))

    async def _hand_in(self) -> None:
        """Give the store what it did not get, oldest first, where nothing newer stands."""
        while self._backlog:
            now = self._clock()
            chunk = [self._backlog.popleft() for _ in range(min(len(self._backlog), _BATCH_LIMIT))]
            alive = {pin.key: pin for pin in chunk if pin.expires_at > now}
            try:
                if alive:
                    await self._shared.store(list(alive.values()), now, only_new=True)
            except BaseException:
                self._backlog.extendleft(reversed(chunk))
                raise
            self.counters.results["store", "handed_in"] += len(alive)
