"""Pins, the small interface of whatever keeps them, and what a store that nodes share has to do.

A pin's key is a digest: the table and the shared store hold no user name, State or request id in clear, and each entry
costs the same.

A pin outlives its sign-in. When that has ended the pin is marked as ended and goes on leading to its server until its
time is over: whatever still comes with its key (a late repeat, another try, a second sign-in with the same State) goes
where it belongs. It only counts no more for who wants to know what is under way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Protocol

from mfalb.errors import MalformedMessage, MfalbError

KEY_BYTES = 16
TAG_BYTES: Final = 4
# A shared pin is text: the version of this form, a space, the name of a backend (a configured name's own pattern), and
# " ended" when its sign-in has
_VALUE: Final = re.compile(rb"1 ([A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?)( ended)?")
_OTHER_VERSION: Final = re.compile(rb"(?!1 )[0-9]{1,4} ")


@dataclass(frozen=True, slots=True)
class Pin:
    """Sends what carries `key` to the backend of that name, until `expires_at` (monotonic seconds)."""

    key: bytes
    backend: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class PinEnd:
    """The sign-in that was found by `key` at `found_at` (monotonic seconds) has ended at that backend.

    A pin that was made since is another sign-in's.
    """

    key: bytes
    backend: str
    found_at: float


PinChange = Pin | PinEnd
"""What an answer does to the pins."""


@lru_cache(maxsize=1024)
def pin_tag(kind: bytes, pool: str) -> bytes:
    """What the keys of one pool's pins of one kind end with, so that they can be counted: 4 bytes."""
    return blake2b(len(kind).to_bytes(4, "big") + kind + pool.encode(), digest_size=TAG_BYTES).digest()


def pin_key(kind: bytes, pool: str, *parts: bytes) -> bytes:
    """The key of a pin: 16 bytes that stand for all parts, none of which can be read out of them.

    Each part is preceded by its length, so that ("ab", "c") and ("a", "bc") differ. The last bytes are the `pin_tag`.
    """
    digest = blake2b(kind, digest_size=KEY_BYTES - TAG_BYTES)
    for part in (pool.encode(), *parts):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest() + pin_tag(kind, pool)


class PinStore(Protocol):
    """Where pins live. A pin is stored before the answer that begins its transaction is released.

    `end` marks a pin, and returns it; None when there is none to be marked. `peek` is as `find`, for who only asks: it
    counts as neither hit nor miss.
    """

    def put(self, pin: Pin, now: float) -> None: ...

    def end(self, end: PinEnd, now: float) -> Pin | None: ...

    def find(self, key: bytes, now: float) -> str | None: ...

    def peek(self, key: bytes, now: float) -> str | None: ...


# ------------------------------------------------------------------------------------------------ shared pins


def pin_value(backend: str, *, is_ended: bool = False) -> bytes:
    """What a shared store holds of a pin: a name, since numbers of backends differ from node to node."""
    return b"1 " + backend.encode() + (b" ended" if is_ended else b"")


def read_value_untrusted(value: bytes) -> tuple[str, bool]:
    """The backend that a shared pin names, and whether its sign-in has ended.

    Raises MalformedMessage for what no node of this version wrote.
    """
    match = _VALUE.fullmatch(value)
    if match is None:
        raise MalformedMessage("other_version" if _OTHER_VERSION.match(value) else "foreign")
    return match[1].decode(), match[2] is not None


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

    async def end(self, pins: Sequence[Pin], now: float) -> int:
        """Tell that the sign-ins of these pins have ended, for the rest of the pins' lives; of how many it was told.

        A pin that names another backend there, or lives longer or shorter, is another sign-in's and stays as it is.
        """

    async def look_up(self, keys: Sequence[bytes]) -> Sequence[tuple[bytes, float] | None]:
        """For each key its value, as it stands there, and the seconds that are left of its life."""

    async def announce(self, node: str, settings: bytes, life_s: float) -> Mapping[str, bytes]:
        """Tell the other nodes this one's settings, which takes the right to write; returns theirs, by node."""

    async def close(self) -> None: ...


# ------------------------------------------------------------------------------------------------- numbers


@dataclass(frozen=True, slots=True)
class PinsLeft:
    """The sign-ins that are pinned to one backend: how many, and when the last pin expires (monotonic seconds)."""

    count: int
    last_expires_at: float

    @classmethod
    def sum(cls, several: Sequence[PinsLeft]) -> PinsLeft:
        """Of one or more that were counted apart."""
        return cls(sum(one.count for one in several), max(one.last_expires_at for one in several))


@dataclass(slots=True)
class PinCounters:
    """How the table was used, since the start."""

    made: int = 0
    ended: int = 0
    hits: int = 0
    misses: int = 0
