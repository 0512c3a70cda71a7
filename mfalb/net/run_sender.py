"""Sending datagrams in runs, as messages that the kernel cuts up.

A third of what a RADIUS transaction cost was the kernel's way of sending four datagrams. Runs of equally long datagrams
to one peer are therefore handed over as one message that the kernel cuts up (UDP_SEGMENT, Linux 4.18): 1.1 us of system
time a datagram instead of 3.6 (64 of 130 bytes each, loopback, measured). Where that is not to be had, each goes by
itself. Order is kept among datagrams of one length and peer only, which is more than UDP promises.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, Final

from mfalb.net.arena import IOV_LEN_QUAD, IOVEC_QUADS, Arena, ffi
from mfalb.net.datagrams import BATCH, BUFFER_FULL, SLOT_BYTES, TOO_LARGE, Datagram
from mfalb.net.peer_slots import DestinationSlots
from mfalb.net.sockaddr import PeerForm

SEGMENT_LIMIT_BYTES: Final = 1_200  # below what any path carries whole: a segment may not be fragmented
_SEGMENTS_LIMIT: Final = 64  # UDP_MAX_SEGMENTS of older kernels
_MESSAGE_LIMIT_BYTES: Final = 65_000  # one UDP datagram's worth, before it is cut up
_REMEMBERED_RUNS: Final = 64  # sent lately, in case one is refused
_MARK_BYTES: Final = 20  # of a datagram: a RADIUS header, which no two datagrams of a socket share

# A peer, and datagrams of one length for it. What is sent from another of our addresses is another peer's: a message
# has one source.
Run = tuple[bytes, list[bytes]]


def runs_of(datagrams: list[Datagram]) -> Iterator[Run]:
    """Datagrams by peer and length, each run in its order. Runs stand where their first datagram stood."""
    runs: dict[tuple[bytes, int], list[bytes]] = {}
    last: tuple[bytes, int] | None = None
    run: list[bytes] = []
    for payload, peer in datagrams:
        if last is None or len(payload) != last[1] or peer != last[0]:  # neighbours are alike more often than not
            last = (peer, len(payload))
            run = runs.setdefault(last, [])
        run.append(payload)
    for (peer, length), payloads in runs.items():
        most = (
            min(_SEGMENTS_LIMIT, _MESSAGE_LIMIT_BYTES // length) if _MARK_BYTES <= length <= SEGMENT_LIMIT_BYTES else 1
        )
        for start in range(0, len(payloads), most):
            yield peer, payloads[start : start + most]


class RunSender:
    """Lays runs into the arena as messages, and sends them with as few system calls as can be."""

    def __init__(self, sock: socket.socket, arena: Arena, form: PeerForm, sendmmsg: Any) -> None:
        self._fd = sock.fileno()
        self._arena = arena
        self._is_connected = not form.name_bytes
        self._sendmmsg = sendmmsg
        self._headers = arena.headers()
        self._destinations = DestinationSlots(self._headers, form)
        self._base = int(ffi.cast("size_t", arena.data))
        self._can_segment = True
        self._laid: list[Run] = []
        self._end = 0
        self.unsent: list[bytes] = []  # what was not handed over, until whoever sends clears it
        self._recent: dict[bytes, list[bytes]] = {}
        self._older: dict[bytes, list[bytes]] = {}

    def send(self, runs: Iterator[Run]) -> int:
        """How many datagrams were handed to the kernel."""
        sent = 0
        for peer, payloads in runs:
            if len(payloads) > 1 and not self._can_segment:
                sent += self.send((peer, [payload]) for payload in payloads)
                continue
            size = sum(map(len, payloads))
            if len(self._laid) == BATCH or self._end + size > BATCH * SLOT_BYTES:
                sent += self._flush()
            self._lay(peer, payloads, size)
        return sent + self._flush()

    def _lay(self, peer: bytes, payloads: list[bytes], size: int) -> None:
        index, end, arena = len(self._laid), self._end, self._arena
        length = len(payloads[0])
        if length > SLOT_BYTES:
            self._laid.clear()
            self._end = 0
            raise ValueError(TOO_LARGE)
        is_run = len(payloads) > 1
        arena.bytes[end : end + size] = b"".join(payloads) if is_run else payloads[0]
        quad = index * IOVEC_QUADS
        arena.iovec_quads[quad] = self._base + end
        arena.iovec_quads[quad + IOV_LEN_QUAD] = size
        self._destinations.put(index, peer, length if is_run else 0)
        if is_run and self._is_connected:
            self._remember(payloads)
        self._laid.append((peer, payloads))
        self._end = end + size

    def _flush(self) -> int:
        laid, self._laid, self._end = self._laid, [], 0
        done, lost, has_retried = 0, 0, False
        while done < len(laid):
            count = self._sendmmsg(self._fd, self._headers + done, len(laid) - done, socket.MSG_DONTWAIT)
            if count > 0:
                done += count
                has_retried = False
            elif not has_retried:
                # An error here may belong to an earlier datagram (ICMP): it is now reported and gone, so try once more.
                has_retried = True
            elif ffi.errno in BUFFER_FULL:
                for _, payloads in laid[done:]:
                    self.unsent += payloads
                break
            elif len(laid[done][1]) > 1:  # no checksums in hardware, a tunnel, an old kernel: one by one, from now on
                self._can_segment = False
                return sum(len(payloads) for _, payloads in laid[:done]) - lost + self.send(iter(laid[done:]))
            else:  # a peer with port 0, say: those behind it in the batch go to others
                self.unsent += laid[done][1]
                done += 1
                lost += 1
                has_retried = False
        return sum(len(payloads) for _, payloads in laid[:done]) - lost

    # ------------------------------------------------------------------------------------ refusals

    def _remember(self, payloads: list[bytes]) -> None:
        if len(self._recent) >= _REMEMBERED_RUNS:
            self._older, self._recent = self._recent, {}
        self._recent[payloads[0][:_MARK_BYTES]] = payloads

    def run_of(self, refused: bytes) -> list[bytes]:
        """All datagrams of the run that begins with these bytes; else what was given."""
        mark = refused[:_MARK_BYTES]
        return self._recent.get(mark) or self._older.get(mark) or [refused]
