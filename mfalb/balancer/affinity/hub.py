"""The pin table that all workers of a node share: memory of the supervisor's, mapped by each of them.

A table in memory, and not a service that is asked: a pin is there for everybody as soon as it is written, and is found
without a question to anybody, so neither an answer nor a request has to wait; and it outlives the worker that made it.

    memory   a region for each worker (of each generation: see `supervisor.shared_memory`), one behind the other
    region   made (8) | evicted (8) | slots ever used (8) | ... up to 64 | index | slots
    index    buckets of 8 entries: first bytes of the key (4) | number of the slot, from 1; 0 for none (4)
    slot     check (8) | key (16) | expires (8) | made at (8) | name's length (1) | name (63)

Each worker writes into its own region only, and reads all: there is no lock. A slot that is read while its owner writes
it, or that was half written when a worker was killed, does not agree with its check (a digest of the rest) and counts
as empty. Of two pins with one key (made by two workers, a constant State) the younger one counts.

A key may lie in two buckets and goes into the emptier one: at a load of 0.6 none of a million pins gave way to another
for want of a place. Slots are used anew when their pins have expired, so that the memory in use follows the pins of the
last minutes: 104 bytes each, up to 14 in the index and about 100 in the worker that made it.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from mfalb.balancer.affinity.store import Pin, PinCounters, PinsLeft

_HEAD_BYTES: Final = 64
_TOTALS: Final = struct.Struct("<QQQ")
_WAYS: Final = 8
_BUCKET: Final = struct.Struct(f"<{2 * _WAYS}I")
_ENTRY: Final = struct.Struct("<II")
_SLOT: Final = struct.Struct("<8s16sddB63s")
SLOT_BYTES: Final = _SLOT.size
_CHECK_BYTES: Final = 8
_LOAD: Final = 0.6
_NO_CHECK: Final = bytes(_CHECK_BYTES)
_ADOPTED_AT_ONCE: Final = 20_000  # 0.1 s


class HubPlan(NamedTuple):
    """How the memory is laid out: `regions` (one for each who writes) that hold `limit` pins each."""

    regions: int
    limit: int

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
    key: bytes
    expires_at: float
    made_at: float
    backend: str


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
        youngest: _Held | None = None
        for start in self._starts:
            if not self._used(start):  # of a generation that is still to come, most likely
                continue
            number = self._number_of(start, key)
            held = self._held(start, number) if number else None
            if held is not None and held.key == key and (youngest is None or held.made_at > youngest.made_at):
                youngest = held
        if youngest is None or youngest.expires_at <= now:
            return None
        return Pin(key, youngest.backend, youngest.expires_at)

    @property
    def made(self) -> int:
        """How many pins were made in all regions, since the memory was."""
        return sum(_TOTALS.unpack_from(self._memory, start)[0] for start in self._starts)

    def by_backend(self, now: float) -> dict[str, PinsLeft]:
        """How many pins count for each backend, and when the last of them expires. Looks at all: 4 us a pin."""
        counts: dict[str, int] = {}
        last: dict[str, float] = {}
        for start in self._starts:
            for _, held in self._slots(start, 1, self._used(start)):
                if held.expires_at > now:
                    counts[held.backend] = counts.get(held.backend, 0) + 1
                    last[held.backend] = max(last.get(held.backend, now), held.expires_at)
        return {name: PinsLeft(count, last[name]) for name, count in counts.items()}

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
        at = self._at(start, number) + _CHECK_BYTES
        return self._memory[at : at + 16]

    def _held(self, start: int, number: int) -> _Held | None:
        """What lies in a slot; None for nothing, or for what is being written at this moment."""
        at = self._at(start, number)
        slot = self._memory[at : at + SLOT_BYTES]
        if slot[:_CHECK_BYTES] != _check(slot[_CHECK_BYTES:]):
            return None
        _, key, expires_at, made_at, length, name = _SLOT.unpack(slot)
        return _Held(key, expires_at, made_at, name[:length].decode("utf-8", "replace"))


class Hub(HubReader):
    """The table as a worker has it, who writes into region number `region`."""

    def __init__(self, memory: mmap.mmap, plan: HubPlan, region: int) -> None:
        super().__init__(memory, plan)
        self._start = self._starts[region]
        totals: tuple[int, int, int] = _TOTALS.unpack_from(memory, self._start)
        self._made, self._evicted = totals[:2]
        self._high = self._used(self._start)
        self._free: list[int] = []
        self._expiries: list[tuple[float, int]] = []
        self._to_adopt = self._high  # what a worker before us has left
        self._adopt()

    def __len__(self) -> int:
        """How many pins this worker has made that still count."""
        return len(self._expiries) + self._to_adopt

    def put(self, pin: Pin, now: float) -> None:
        """Keep a pin; one with the same key is replaced. When the region is full, who expires first gives way."""
        number = self._number_of(self._start, pin.key)
        is_new = not number
        if is_new:
            self._reclaim(now)
            number = self._take_slot()
        self._write(number, pin, now)
        if is_new:
            self._enter(pin.key, number)
        heappush(self._expiries, (pin.expires_at, number))
        self._made += 1
        self.counters.made += 1
        _TOTALS.pack_into(self._memory, self._start, self._made, self._evicted, self._high)

    def expire(self, now: float) -> None:
        """Let go of what has expired. Called about once a second."""
        self._adopt()
        self._reclaim(now)

    def _write(self, number: int, pin: Pin, now: float) -> None:
        memory, at = self._memory, self._at(self._start, number)
        name = pin.backend.encode()
        body = _SLOT.pack(_NO_CHECK, pin.key, pin.expires_at, now, len(name), name)[_CHECK_BYTES:]
        memory[at : at + _CHECK_BYTES] = _NO_CHECK  # from here on nobody believes it
        memory[at + _CHECK_BYTES : at + SLOT_BYTES] = body
        memory[at : at + _CHECK_BYTES] = _check(body)

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        if self._high < self._plan.limit:
            self._high += 1
            return self._high
        while self._to_adopt:
            self._adopt()
        self._evicted += 1
        while self._expiries:
            number = self._first_out()
            if number:
                return number
        raise ValueError("a hub without a slot")  # its limit is 1 at least

    def _reclaim(self, now: float) -> None:
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            number = self._first_out()
            if number:
                self._free.append(number)

    def _first_out(self) -> int:
        """Empty the slot that expires first; 0 when its pin was renewed meanwhile (it stands there once more)."""
        expires_at, number = heappop(self._expiries)
        held = self._held(self._start, number)
        if held is None or held.expires_at > expires_at:
            return 0
        self._leave(held.key, number)
        at = self._at(self._start, number)
        self._memory[at : at + _CHECK_BYTES] = _NO_CHECK
        return number

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
            self._expiries.append((held.expires_at, number))
            known.discard(number)
        self._free += known
        heapify(self._expiries)
        self._to_adopt = first - 1


def _check(body: bytes) -> bytes:
    """What stands before a slot that was written to its end; no slot of zeros has zeros for it."""
    return blake2b(body, digest_size=_CHECK_BYTES).digest()
