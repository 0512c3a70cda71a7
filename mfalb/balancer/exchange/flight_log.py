"""What a worker has forwarded lately, kept where its successor finds it when it was killed.

A client whose request was under way then sends it again, to a worker that never saw it. Under another identifier or
from another port its server would take it for a new request, and a phone would ring twice. From here the new worker
knows how it was sent, sends the same bytes from the same socket once more, and the server knows a retransmit.

    memory   a ring for each worker (of each generation), one behind the other, of entries that are written in turn
    entry    sequence (8) | sent at (8) | socket's number * 256 + identifier (8) | key (1 + 52)
             | request authenticator (16) | entropy (16) | ... | the sequence again (8)

An entry is written front to back: one whose two sequences differ was half written when its worker was killed, before
its datagram was sent. Nothing is written at the answer: for an answered request's retransmit the server has it still.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from mfalb.balancer.exchange.radius_exchange import RadiusExchange

ENTRIES: Final = 32_768  # as many as a backend's sockets carry exchanges
KEY_LIMIT_BYTES: Final = 52  # the socket's tag, an IPv6 peer with the address it asked, code and identifier
_ENTRY: Final = struct.Struct(f"=QdQ{KEY_LIMIT_BYTES + 1}p16s16s3xQ")
ENTRY_BYTES: Final = _ENTRY.size
_ENTRY_WORDS: Final = ENTRY_BYTES // 8
RING_BYTES: Final = ENTRIES * ENTRY_BYTES


class Noted(NamedTuple):
    """One forwarded request. `sent_at` is monotonic seconds, which all processes of a host share."""

    key: bytes
    authenticator: bytes
    entropy: bytes
    sent_at: float
    socket: int
    identifier: int


class Flight(NamedTuple):
    """A predecessor's request that its client may send again: where it went, and until when that counts."""

    backend: str
    entropy: bytes
    socket: int
    identifier: int
    until: float


class FlightLog:
    """The ring of worker number `region`."""

    __slots__ = ("_memory", "_sequence", "_start")

    def __init__(self, memory: mmap.mmap, region: int) -> None:
        self._memory = memory
        self._start = region * RING_BYTES
        self._sequence = self._last()

    def _last(self) -> int:
        """The highest sequence that a predecessor has left here. Who never wrote has no first entry either."""
        memory = self._memory
        if not any(memory[self._start + ENTRY_BYTES : self._start + ENTRY_BYTES + 8]):
            return 0
        words = memoryview(memory[self._start : self._start + RING_BYTES]).cast("Q")
        return max(words[::_ENTRY_WORDS].tolist())

    def note(self, exchange: RadiusExchange, socket: int, now: float) -> None:
        """An exchange is about to be sent from the socket of that number, under the identifier that it holds."""
        sequence = self._sequence = self._sequence + 1
        _ENTRY.pack_into(
            self._memory,
            self._start + (sequence % ENTRIES) * ENTRY_BYTES,
            sequence,
            now,
            socket << 8 | exchange.identifier,
            exchange.key,
            exchange.request.authenticator,
            exchange.entropy,
            sequence,
        )

    def take_over(self, sockets: Collection[int], since: float) -> list[Noted]:
        """What a predecessor sent from these sockets, the last one first; what is noted from now on stands behind it.

        Of several under one identifier only the last counts: the others were over when it was given anew.
        """
        ring = self._memory[self._start : self._start + RING_BYTES]
        words = memoryview(ring).cast(
            "Q"
        )  # by columns: a full ring is read in milliseconds, not in a fifth of a second
        heads, places, tails = (words[column::_ENTRY_WORDS].tolist() for column in (0, 2, _ENTRY_WORDS - 1))
        doubles: Any = memoryview(ring).cast("d")  # typeshed takes its slices for integers, and compiled code checks
        times: list[float] = doubles[1::_ENTRY_WORDS].tolist()
        newest = self._sequence = max(heads)
        found, seen = [], set[int]()
        for sequence in range(newest, max(0, newest - ENTRIES), -1):
            at = sequence % ENTRIES
            if heads[at] != sequence or tails[at] != sequence:
                continue
            if times[at] < since:
                break
            place = places[at]
            if place not in seen:
                seen.add(place)
                if place >> 8 in sockets:
                    _, sent_at, _, key, authenticator, entropy, _ = _ENTRY.unpack_from(ring, at * ENTRY_BYTES)
                    found.append(Noted(key, authenticator, entropy, sent_at, place >> 8, place & 0xFF))
        return found
