"""The pin table: bounded, expiring, and behind one small interface.

A pin's key is a digest: the table (and, one day, a shared store) holds no user name, State or request id in clear, and
each entry costs the same. cachetools does the bookkeeping; a pin is made and found once per sign-in, so its few
microseconds are not on the path of every datagram.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from cachetools import Cache, TLRUCache

from mfalb.balancer.affinity.tally import PinsLeft, PinTally

KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Pin:
    """Sends what carries `key` to the backend of that name, until `expires_at` (monotonic seconds)."""

    key: bytes
    backend: str
    expires_at: float


def pin_key(kind: bytes, pool: str, *parts: bytes) -> bytes:
    """The key of a pin: 16 bytes that stand for all parts, none of which can be read out of them.

    Each part is preceded by its length, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = blake2b(kind, digest_size=KEY_BYTES)
    for part in (pool.encode(), *parts):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()


class PinStore(Protocol):
    """Where pins live. A pin is stored before the answer that begins its transaction is released."""

    def put(self, pin: Pin, now: float) -> None: ...

    def find(self, key: bytes, now: float) -> str | None: ...


@dataclass(slots=True)
class PinCounters:
    """How the table was used, since the start."""

    made: int = 0
    hits: int = 0
    misses: int = 0


class _Pins(TLRUCache[bytes, Pin]):
    """Tells the tally of what gives way to newer pins; what expires goes out of it by its time."""

    tally: PinTally

    def popitem(self) -> tuple[bytes, Pin]:
        key, pin = super().popitem()
        self.tally.remove(pin.backend, pin.expires_at)
        return key, pin


class PinTable:
    """The pin store inside this process. When it is full the least recently used pin gives way to the new one."""

    def __init__(self, limit: int) -> None:
        self.counters = PinCounters()
        self._now = 0.0
        self._tally = PinTally()
        self._pins = _Pins(limit, ttu=_expiry, timer=self._time)
        self._pins.tally = self._tally

    def _time(self) -> float:
        return self._now

    def __len__(self) -> int:
        return len(self._pins)

    def put(self, pin: Pin, now: float) -> None:
        """Keep a pin; one with the same key is replaced."""
        former = self.peek(pin.key, now)
        self._pins[pin.key] = pin
        if former is not None:
            self._tally.remove(former.backend, former.expires_at)
        self._tally.add(pin.backend, pin.expires_at)
        self.counters.made += 1

    def find(self, key: bytes, now: float) -> str | None:
        """The name of the backend that this key is pinned to, or None."""
        self._now = now
        pin = self._pins.get(key)
        if pin is None:
            self.counters.misses += 1
            return None
        self.counters.hits += 1
        return pin.backend

    def peek(self, key: bytes, now: float) -> Pin | None:
        """What `find` would find, without a trace: it neither counts nor keeps the pin from giving way."""
        self._now = now
        try:
            pin = Cache.__getitem__(self._pins, key)  # TLRUCache's own notes the use
        except KeyError:
            return None
        return pin if pin.expires_at > now else None

    def by_backend(self, now: float) -> dict[str, PinsLeft]:
        """The pins that count at `now`, by the name of their backend (a name may stand in several pools)."""
        return self._tally.left(now)

    def expire(self, now: float) -> None:
        """Drop what has expired, so that memory follows the sign-ins of the last minutes."""
        self._now = now
        self._pins.expire()
        self._tally.expire(now)


def _expiry(_key: bytes, pin: Pin, _now: float) -> float:
    return pin.expires_at
