"""The pin table: bounded, expiring, and behind one small interface; and what a store that nodes share has to do.

A pin's key is a digest: the table and the shared store hold no user name, State or request id in clear, and each entry
costs the same. cachetools does the bookkeeping; a pin is made and found once per sign-in, so its few microseconds are
not on the path of every datagram.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Protocol

from cachetools import Cache, TLRUCache

from mfalb.errors import MalformedMessage, MfalbError

KEY_BYTES = 16
# A shared pin is text: the version of this form, a space, and the name of a backend; a configured name's own pattern
_VALUE: Final = re.compile(rb"1 ([A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?)")
_OTHER_VERSION: Final = re.compile(rb"(?!1 )[0-9]{1,4} ")


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
    """Where pins live. A pin is stored before the answer that begins its transaction is released.

    `peek` is as `find`, for who only asks: it counts as neither hit nor miss.
    """

    def put(self, pin: Pin, now: float) -> None: ...

    def find(self, key: bytes, now: float) -> str | None: ...

    def peek(self, key: bytes, now: float) -> str | None: ...


# ------------------------------------------------------------------------------------------------ shared pins


def pin_value(backend: str) -> bytes:
    """What a shared store holds of a pin: a name, since numbers of backends differ from node to node."""
    return b"1 " + backend.encode()


def backend_of_untrusted(value: bytes) -> str:
    """The backend that a shared pin names. Raises MalformedMessage for what no node of this version wrote."""
    match = _VALUE.fullmatch(value)
    if match is None:
        raise MalformedMessage("other_version" if _OTHER_VERSION.match(value) else "foreign")
    return match[1].decode()


class PinStoreAway(MfalbError):  # noqa: N818 - it says what happened
    """The shared store did not do what it was asked for; `reason` is a short metric label of our own."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SharedPins(Protocol):
    """A store that several nodes share: the second level, behind a PinStore of this node. It waits on the network.

    Every call raises PinStoreAway when the store cannot be reached or refuses. None has a deadline: that is the
    caller's, who cancels it.
    """

    async def store(self, pins: Sequence[Pin], now: float, *, only_new: bool = False) -> None:
        """Keep pins for the rest of their lives.

        The newest pin of a key replaces the older one, because it is the one that counts: servers that give each user
        the same State, and servers whose small request ids meet, pin one key again with each sign-in, and the user goes
        on with the latest. SET NX, the first one wins, would send that user to the server of the sign-in before.
        `only_new` is for pins that waited here until the store came back: what stands there was put there later.
        """

    async def look_up(self, keys: Sequence[bytes]) -> Sequence[tuple[bytes, float] | None]:
        """For each key its value, as it stands there, and the seconds that are left of its life."""

    async def announce(self, node: str, settings: bytes, life_s: float) -> Mapping[str, bytes]:
        """Tell the other nodes this one's settings, which takes the right to write; returns theirs, by node."""

    async def close(self) -> None: ...


# ------------------------------------------------------------------------------------------- this node's table


@dataclass(frozen=True, slots=True)
class PinsLeft:
    """The pins that name one backend: how many, and when the last of them expires (monotonic seconds)."""

    count: int
    last_expires_at: float


@dataclass(slots=True)
class PinCounters:
    """How the table was used, since the start."""

    made: int = 0
    hits: int = 0
    misses: int = 0


class PinTable:
    """The pin store inside this process. When it is full the least recently used pin gives way to the new one."""

    def __init__(self, limit: int) -> None:
        self.counters = PinCounters()
        self._now = 0.0
        self._pins: TLRUCache[bytes, Pin] = TLRUCache(limit, ttu=_expiry, timer=self._time)

    def _time(self) -> float:
        return self._now

    evicted = 0  # not counted here

    @property
    def made(self) -> int:
        return self.counters.made

    def __len__(self) -> int:
        return len(self._pins)

    def put(self, pin: Pin, now: float) -> None:
        """Keep a pin; one with the same key is replaced."""
        self._now = now
        self._pins[pin.key] = pin
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

    def peek(self, key: bytes, now: float) -> str | None:
        """As `find`, for who only asks: it counts as neither hit nor miss."""
        self._now = now
        pin = self._pins.get(key)
        return None if pin is None else pin.backend

    def look(self, key: bytes, now: float) -> Pin | None:
        """The whole pin that `find` would find, without a trace: nothing counts, nothing keeps it from giving way."""
        self._now = now
        try:
            pin = Cache.__getitem__(self._pins, key)  # TLRUCache's own notes the use
        except KeyError:
            return None
        return pin if pin.expires_at > now else None

    def by_backend(self, now: float) -> dict[str, PinsLeft]:
        """The pins that count at `now`, by the name of their backend (a name may stand in several pools).

        Reads the whole table without a trace: for operators, not for the data path.
        """
        self._now = now
        counts: dict[str, int] = {}
        last: dict[str, float] = {}
        for key in self._pins:
            pin = Cache.__getitem__(self._pins, key)
            if pin.expires_at > now:
                counts[pin.backend] = counts.get(pin.backend, 0) + 1
                last[pin.backend] = max(last.get(pin.backend, now), pin.expires_at)
        return {name: PinsLeft(count, last[name]) for name, count in counts.items()}

    def expire(self, now: float) -> None:
        """Drop what has expired, so that memory follows the sign-ins of the last minutes."""
        self._now = now
        self._pins.expire()


def _expiry(_key: bytes, pin: Pin, _now: float) -> float:
    return pin.expires_at
