"""The pin table that all workers of a node share: memory of the supervisor's, mapped by each of them.

A table in memory, and not a service that is asked: a pin is there for everybody as soon as it is written, and is found
without a question to anybody, so neither an answer nor a request has to wait; and it outlives the worker that made it.

    memory   a region for each worker (of each generation: see `supervisor.shared_memory`), one behind the other
    region   made (8) | evicted (8) | slots ever used (8) | ... up to 64 | index | slots
    index    buckets of 8 entries: first bytes of the key (4) | number of the slot, from 1; 0 for none (4)
    slot     check (8) | mark (8) | key (16) | expires (8) | made at (8) | shared (1 bit) | length (7 bits) | name (64)

Each worker writes into its own region only, and reads all: there is no lock. A slot that is read while its owner writes
it, or that was half written when a worker was killed, does not agree with its check (a digest of what is behind the
mark) and counts as empty.

The mark is what any worker may write into any region. The slot's own check once more says that the sign-in has ended:
the pin is found, but is no longer counted. The check backwards says that a younger pin with that key (a constant State)
stands in another region: this one is not found any more. A mark that comes too late, when the slot holds another pin
already, is not that one's check and says nothing. Where two workers pin one key at the same moment the younger counts.

A pin is *shared* when its key was pinned already and that sign-in had not ended: nobody can tell the ends of the two
from one another, so neither is taken for the end of both.

A key may lie in two buckets and goes into the emptier one: at a load of 0.6 none of a million pins gave way to another
for want of a place. Slots are used anew when their pins have expired, so that the memory in use follows the pins of the
last minutes: 113 bytes each, up to 14 in the index and about 100 in the worker that made it.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Iterator
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from mfalb.balancer.affinity.store import TAG_BYTES, Pin, PinCounters, PinEnd, PinsLeft

_HEAD_BYTES: Final = 64
_TOTALS: Final = struct.Struct("<QQQ")
_WAYS: Final = 8
_BUCKET: Final = struct.Struct(f"<{2 * _WAYS}I")
_ENTRY: Final = struct.Struct("<II")
_SLOT: Final = struct.Struct("<8s8s16sddB64s")
SLOT_BYTES: Final = _SLOT.size
_CHECK_BYTES: Final = 8
_BODY: Final = 2 * _CHECK_BYTES  # where it begins
_SHARED: Final = 0x80
_LENGTH: Final = 0x7F
_LOAD: Final = 0.6
_NO_CHECK: Final = bytes(_CHECK_BYTES)
# A full region lets go of its oldest pin and not of the one that expires first: among pins of sessions, which count for
# a day, that would be each pin of a sign-in as soon as it is made. Past this age those that count on are young again.
_TURN_S: Final = 300.0
_ADOPTED_AT_ONCE: Final = 20_000  # 0.1 s
_LOOKED_AT_ONCE: Final = 500


class HubPlan(NamedTuple):
    """How the memory is laid out: `regions` (one for each who writes) that hold `limit` pins each.

    `seats` is how many of them one generation of workers has; 0 where there is one only.
    """

    regions: int
    limit: int
    seats: int = 0

    @property
    def buckets(self) -> int:
        """Of a region."""
        return max(2, int(self.limit / _LOAD / _WAYS) + 1)

    @property
    def slots_at(self) -> int:
        return _HEAD_BYTES + self.buckets * _BUCKET.size

    @property
    def region_bytes(self) -> int:
        return self.slots_at + self.limit * SLOT_BYTES

    @property
    def size_bytes(self) -> int:
        """Of the whole; the system gives memory only for pages that were used."""
        return self.regions * self.region_bytes


class _Held(NamedTuple):
    """A pin as it lies in memory; `at` and `check` are those of its slot."""

    key: bytes
    expires_at: float
    made_at: float
    backend: str
    is_shared: bool
    mark: bytes
    check: bytes
    at: int

    @property
    def is_replaced(self) -> bool:
        return self.mark == self.check[::-1]

    def is_open(self, now: float) -> bool:
        """Whether it stands for a sign-in that may go on."""
        return self.expires_at > now and self.mark not in (self.check, self.check[::-1])


class HubReader:
    """The table for who only reads (the supervisor). Times are monotonic seconds."""

    def __init__(self, memory: mmap.mmap, plan: HubPlan) -> None:
        if len(memory) < plan.size_bytes:
            raise ValueError("the hub's memory is smaller than its plan")
        self.counters = PinCounters()
        self._memory = memory
        self._plan = plan
        self._starts = [number * plan.region_bytes for number in range(plan.regions)]

    @property
    def evicted(self) -> int:
        """How many pins gave way before their time, in all regions."""
        return sum(_TOTALS.unpack_from(self._memory, start)[1] for start in self._starts)

    def find(self, key: bytes, now: float) -> str | None:
        """The name of the backend that this key is pinned to, or None."""
        backend = self.peek(key, now)
        if backend is None:
            self.counters.misses += 1
        else:
            self.counters.hits += 1
        return backend

    def peek(self, key: bytes, now: float) -> str | None:
        """As `find`, for who only asks: it counts as neither hit nor miss."""
        pin = self.look(key, now)
        return None if pin is None else pin.backend

    def look(self, key: bytes, now: float) -> Pin | None:
        """The whole pin that `find` would find; it counts as neither hit nor miss."""
        held = self._youngest(key)
        return None if held is None or held.expires_at <= now else Pin(key, held.backend, held.expires_at)

    def _youngest(self, key: bytes) -> _Held | None:
        """What counts for a key, though its time may be over."""
        youngest: _Held | None = None
        for held in self._all_of(key):
            if not held.is_replaced and (youngest is None or held.made_at > youngest.made_at):
                youngest = held
        return youngest

    def _all_of(self, key: bytes) -> Iterator[_Held]:
        for start in self._starts:
            if not self._used(start):  # of a generation that is still to come, most likely
                continue
            number = self._number_of(start, key)
            held = self._held(start, number) if number else None
            if held is not None and held.key == key:
                yield held

    @property
    def made(self) -> int:
        """How many pins were made in all regions, since the memory was."""
        return sum(_TOTALS.unpack_from(self._memory, start)[0] for start in self._starts)

    def by_backend(self, now: float) -> dict[tuple[bytes, str], PinsLeft]:
        """The sign-ins that have not ended, by their keys' `pin_tag` and backend. Looks at all pins: 2 us each."""
        counts: dict[tuple[bytes, str], int] = {}
        last: dict[tuple[bytes, str], float] = {}
        for start in self._starts:
            for _, held in self._slots(start, 1, self._used(start)):
                if held.is_open(now):
                    whose = (held.key[-TAG_BYTES:], held.backend)
                    counts[whose] = counts.get(whose, 0) + 1
                    last[whose] = max(last.get(whose, now), held.expires_at)
        return {whose: PinsLeft(count, last[whose]) for whose, count in counts.items()}

    def _used(self, start: int) -> int:
        used: int = _TOTALS.unpack_from(self._memory, start)[2]
        return min(used, self._plan.limit)

    def _slots(self, start: int, first: int, last: int) -> Iterator[tuple[int, _Held]]:
        for number in range(first, last + 1):
            held = self._held(start, number)
            if held is not None:
                yield number, held

    def _buckets(self, start: int, key: bytes) -> tuple[int, int]:
        """The two buckets of a key in a region. Keys are digests: their own bits are as good as any hash."""
        buckets = self._plan.buckets
        one = int.from_bytes(key[:8], "little") % buckets
        other = int.from_bytes(key[8:], "little") % (buckets - 1)
        other += other >= one  # never the same
        first = start + _HEAD_BYTES
        return first + one * _BUCKET.size, first + other * _BUCKET.size

    def _number_of(self, start: int, key: bytes) -> int:
        """The slot of a key by the index; 0 when it is not there."""
        mark = int.from_bytes(key[:4], "little")
        for bucket in self._buckets(start, key):
            entries = _BUCKET.unpack_from(self._memory, bucket)
            if mark not in entries:
                continue
            for at in range(0, 2 * _WAYS, 2):
                number: int = entries[at + 1]
                if entries[at] == mark and number and self._key(start, number) == key:
                    return number
        return 0

    def _at(self, start: int, number: int) -> int:
        return start + self._plan.slots_at + (number - 1) * SLOT_BYTES

    def _key(self, start: int, number: int) -> bytes:
        at = self._at(start, number) + _BODY
        return self._memory[at : at + 16]

    def _held(self, start: int, number: int) -> _Held | None:
        """What lies in a slot; None for nothing, or for what is being written at this moment."""
        at = self._at(start, number)
        slot = self._memory[at : at + SLOT_BYTES]
        if slot[:_CHECK_BYTES] != _check(slot[_BODY:]):
            return None
        check, mark, key, expires_at, made_at, length, name = _SLOT.unpack(slot)
        backend = name[: length & _LENGTH].decode("utf-8", "replace")
        return _Held(key, expires_at, made_at, backend, bool(length & _SHARED), mark, check, at)


class Hub(HubReader):
    """The table as a worker has it, who writes into region number `region`."""

    def __init__(self, memory: mmap.mmap, plan: HubPlan, region: int) -> None:
        super().__init__(memory, plan)
        self._start = self._starts[region]
        seats = plan.seats or plan.regions
        self._starts_of_seat = self._starts[region % seats :: seats]
        totals: tuple[int, int, int] = _TOTALS.unpack_from(memory, self._start)
        self._made, self._evicted = totals[:2]
        self._high = self._used(self._start)
        self._free: list[int] = []
        # When to look at a slot: it has expired, or its pin is no longer young
        self._turns: list[tuple[float, int]] = []
        self._to_adopt = self._high  # what a worker before us has left
        self._adopt()

    def __len__(self) -> int:
        """How many pins this worker has made that still count."""
        return self._high - len(self._free)

    def put(self, pin: Pin, now: float) -> None:
        """Keep a pin; one with the same key is replaced. When the region is full the oldest one gives way."""
        older = list(self._all_of(pin.key))
        is_shared = any(held.is_open(now) for held in older)
        number = self._number_of(self._start, pin.key)
        is_new = not number
        if is_new:
            self._reclaim(now)
            number = self._take_slot()
        self._write(number, pin, now, is_shared=is_shared)
        if is_new:
            self._enter(pin.key, number)
        for held in older:
            if held.made_at < now and held.at != self._at(self._start, number):
                self._mark(held, held.check[::-1])
        heappush(self._turns, (_turn(pin.expires_at, now), number))
        self._made += 1
        self.counters.made += 1
        _TOTALS.pack_into(self._memory, self._start, self._made, self._evicted, self._high)

    def end(self, end: PinEnd, now: float) -> Pin | None:
        """Mark the pin of a sign-in that has ended, whichever worker made it: 4 us, and 2 more for each worker.

        Returns it; None for one that is not there or not open any more, that another sign-in has made since, or shares.
        """
        held = self._youngest(end.key)
        if held is None or not held.is_open(now) or held.is_shared:
            return None
        if held.backend != end.backend or held.made_at > end.found_at:
            return None
        self._mark(held, held.check)
        self.counters.ended += 1
        return Pin(held.key, held.backend, held.expires_at)

    def _mark(self, held: _Held, mark: bytes) -> None:
        self._memory[held.at + _CHECK_BYTES : held.at + _BODY] = mark

    def open_pins(self, whose: Collection[tuple[bytes, str]], now: float) -> Iterator[list[Pin]]:
        """Of this worker's pins, and of those who sat here before an upgrade, those that have not ended.

        `whose`: by `pin_tag` and backend. A step takes 2 ms at most.
        """
        for start in self._starts_of_seat:
            high = self._used(start)
            for first in range(1, high + 1, _LOOKED_AT_ONCE):
                last = min(first + _LOOKED_AT_ONCE - 1, high)
                yield [
                    Pin(held.key, held.backend, held.expires_at)
                    for _, held in self._slots(start, first, last)
                    if (held.key[-TAG_BYTES:], held.backend) in whose and held.is_open(now)
                ]

    def expire(self, now: float) -> None:
        """Let go of what has expired. Called about once a second."""
        self._adopt()
        self._reclaim(now)

    def _write(self, number: int, pin: Pin, now: float, *, is_shared: bool) -> None:
        memory, at = self._memory, self._at(self._start, number)
        name = pin.backend.encode()
        length = len(name) | (_SHARED if is_shared else 0)
        slot = _SLOT.pack(_NO_CHECK, _NO_CHECK, pin.key, pin.expires_at, now, length, name)
        memory[at : at + _CHECK_BYTES] = _NO_CHECK  # from here on nobody believes it
        memory[at + _CHECK_BYTES : at + SLOT_BYTES] = slot[_CHECK_BYTES:]
        memory[at : at + _CHECK_BYTES] = _check(slot[_BODY:])

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        if self._high < self._plan.limit:
            self._high += 1
            return self._high
        while self._to_adopt:
            self._adopt()
        self._evicted += 1
        while self._turns:
            turn, number = heappop(self._turns)
            if self._has_turn(turn, number):
                self._empty(number)
                return number
        raise ValueError("a hub without a slot")  # its limit is 1 at least

    def _reclaim(self, now: float) -> None:
        turns = self._turns
        while turns and turns[0][0] <= now:
            turn, number = heappop(turns)
            held = self._has_turn(turn, number)
            if held is None:
                continue
            if held.expires_at > now:
                heappush(turns, (_turn(held.expires_at, now), number))
            else:
                self._empty(number)
                self._free.append(number)

    def _has_turn(self, turn: float, number: int) -> _Held | None:
        """What lies in a slot whose turn it is; None when that was renewed meanwhile (it stands there once more)."""
        held = self._held(self._start, number)
        return None if held is None or _turn(held.expires_at, held.made_at) > turn else held

    def _empty(self, number: int) -> None:
        self._leave(self._key(self._start, number), number)
        at = self._at(self._start, number)
        self._memory[at : at + _CHECK_BYTES] = _NO_CHECK

    # ------------------------------------------------------------------------------ the index

    def _enter(self, key: bytes, number: int) -> None:
        mark = int.from_bytes(key[:4], "little")
        places = [self._vacant(bucket) for bucket in self._buckets(self._start, key)]
        vacant = max(places, key=len)
        if not vacant:  # practically never; who stands there first cannot be found any more, and expires in its time
            vacant = [self._buckets(self._start, key)[0]]
            self._evicted += 1
        _ENTRY.pack_into(self._memory, vacant[0], mark, number)

    def _vacant(self, bucket: int) -> list[int]:
        entries = _BUCKET.unpack_from(self._memory, bucket)
        return [bucket + at * _ENTRY.size for at in range(_WAYS) if not entries[2 * at + 1]]

    def _leave(self, key: bytes, number: int) -> None:
        for bucket in self._buckets(self._start, key):
            entries = _BUCKET.unpack_from(self._memory, bucket)
            for at in range(_WAYS):
                if entries[2 * at + 1] == number:
                    _ENTRY.pack_into(self._memory, bucket + at * _ENTRY.size, 0, 0)
                    return

    # ------------------------------------------------------------------------------ a predecessor's pins

    def _adopt(self) -> None:
        """Take on what is left of a predecessor, some at a time: from the last slot that it used down to the first."""
        if not self._to_adopt:
            return
        first = max(1, self._to_adopt - _ADOPTED_AT_ONCE + 1)
        known = set(range(first, self._to_adopt + 1))
        for number, held in self._slots(self._start, first, self._to_adopt):
            self._turns.append((_turn(held.expires_at, held.made_at), number))
            known.discard(number)
        self._free += known
        heapify(self._turns)
        self._to_adopt = first - 1


def _turn(expires_at: float, now: float) -> float:
    """When to look at a pin that is young now."""
    return min(expires_at, now + _TURN_S)


def _check(body: bytes) -> bytes:
    """What stands before a slot that was written to its end; no slot of zeros has zeros for it."""
    return blake2b(body, digest_size=_CHECK_BYTES).digest()
