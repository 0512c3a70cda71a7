"""recvmmsg and sendmmsg through cffi in ABI mode: up to 64 datagrams a system call, and no compiler on the target.

A third of what a RADIUS transaction cost was the kernel's way of sending four datagrams. Runs of equally long datagrams
to one peer are therefore handed over as one message that the kernel cuts up (UDP_SEGMENT, Linux 4.18): 1.1 us of system
time a datagram instead of 3.6 (64 of 130 bytes each, loopback, measured). Where that is not to be had, each goes by
itself. Order is kept among datagrams of one length and peer only, which is more than UDP promises.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import cffi

from mfalb.net.datagrams import (
    BATCH,
    BUFFER_FULL,
    SLOT_BYTES,
    TOO_LARGE,
    Datagram,
    DatagramSocket,
    PlainDatagramSocket,
    raise_unless_empty,
    refused_datagrams,
)
from mfalb.net.sockaddr import SOCKADDR_BYTES
from mfalb.net.udp_sockets import dropped_by_kernel

SEGMENT_LIMIT_BYTES: Final = 1_200  # below what any path carries whole: a segment may not be fragmented
_SEGMENTS_LIMIT: Final = 64  # UDP_MAX_SEGMENTS of older kernels
_MESSAGE_LIMIT_BYTES: Final = 65_000  # one UDP datagram's worth, before it is cut up
_UDP_SEGMENT: Final = 103  # linux/udp.h
_CONTROL_BYTES: Final = 24  # CMSG_SPACE of a 16-bit number
_SEGMENT_SIZE_AT: Final = 16  # in it: behind length (8), level (4) and type (4)
_REMEMBERED_RUNS: Final = 64  # sent lately, in case one is refused
_MARK_BYTES: Final = 20  # of a datagram: a RADIUS header, which no two datagrams of a socket share

# struct mmsghdr on 64-bit Linux, in 4-byte words: the only fields touched per datagram
_MMSGHDR_WORDS: Final = 16
_MSG_LEN_WORD: Final = 14
_SLOT_STARTS: Final = range(0, BATCH * SLOT_BYTES, SLOT_BYTES)
_IOVEC_QUADS: Final = 2
_IOV_LEN_QUAD: Final = 1
_MMSGHDR_QUADS: Final = 8
_CONTROL_LENGTH_QUAD: Final = 5

_ffi = cffi.FFI()
_ffi.cdef(
    """
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name; unsigned int msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
        void *msg_control; size_t msg_controllen; int msg_flags;
    };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, void *timeout);
    int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
    """
)


class _Arena:
    """The buffers of one batch. All sockets of a process share two: a batch is copied out before the next call."""

    def __init__(self) -> None:
        self.data = _ffi.new(f"char[{BATCH * SLOT_BYTES}]")
        self.names = _ffi.new(f"char[{BATCH * 28}]")
        self.bytes = memoryview(_ffi.buffer(self.data)).cast("B")
        self.name_bytes = memoryview(_ffi.buffer(self.names)).cast("B")
        self.iovecs = _ffi.new(f"struct iovec[{BATCH}]")
        self.iovec_quads = memoryview(_ffi.buffer(self.iovecs)).cast("B").cast("Q")
        for index in range(BATCH):
            self.iovecs[index].iov_base = self.data + index * SLOT_BYTES
            self.iovecs[index].iov_len = SLOT_BYTES

    def headers(self, name_bytes: int) -> Any:
        """Message headers over this arena for peers whose sockaddr has that many bytes (0: the socket is connected)."""
        headers = _ffi.new(f"struct mmsghdr[{BATCH}]")
        for index in range(BATCH):
            header = headers[index].msg_hdr
            header.msg_iov = self.iovecs + index
            header.msg_iovlen = 1
            if name_bytes:
                header.msg_name = self.names + index * name_bytes
                header.msg_namelen = name_bytes
        return headers


class BatchedDatagramSocket:
    """recvmmsg and sendmmsg on one socket. Raises OSError when the C library lacks them."""

    _libc: ClassVar[Any] = None
    _receiving: ClassVar[_Arena | None] = None
    _sending: ClassVar[_Arena | None] = None

    def __init__(self, sock: socket.socket, *, is_connected: bool) -> None:
        cls = BatchedDatagramSocket
        if cls._receiving is None or cls._sending is None:
            libc: Any = _ffi.dlopen(None)
            _ = (libc.recvmmsg, libc.sendmmsg)
            cls._libc, cls._receiving, cls._sending = libc, _Arena(), _Arena()
        self.socket = sock
        self._fd = sock.fileno()
        self._name_bytes = 0 if is_connected else SOCKADDR_BYTES[sock.family]
        self._in = cls._receiving
        self._in_headers = self._in.headers(self._name_bytes)
        self._sender = _Sender(sock, cls._sending, self._name_bytes, cls._libc.sendmmsg)
        self._in_words = memoryview(_ffi.buffer(self._in_headers)).cast("B").cast("I")
        self._recvmmsg = cls._libc.recvmmsg

    def receive(self) -> list[Datagram]:
        count = self._recvmmsg(self._fd, self._in_headers, BATCH, socket.MSG_DONTWAIT, _ffi.NULL)
        if count < 0:
            raise_unless_empty(_ffi.errno)
            return []
        data, words, size = self._in.bytes, self._in_words, self._name_bytes
        # Plain index arithmetic instead of cffi field access: 0.3 us a datagram instead of 0.9 us (measured).
        lengths = words[_MSG_LEN_WORD : count * _MMSGHDR_WORDS : _MMSGHDR_WORDS]
        payloads = [
            data[start : start + length].tobytes() for start, length in zip(_SLOT_STARTS, lengths, strict=False)
        ]
        if not size:
            return [(payload, b"") for payload in payloads]
        names = self._in.name_bytes[: count * size].tobytes()
        return [
            (payload, names[start : start + size])
            for payload, start in zip(payloads, range(0, count * size, size), strict=True)
        ]

    def send(self, datagrams: list[Datagram]) -> int:
        if len(datagrams) == 1:
            return self._sender.send(iter(((datagrams[0][1], [datagrams[0][0]]),)))
        return self._sender.send(_runs(datagrams))

    def refused(self) -> list[bytes]:
        """The datagrams that the peer's host refused since the last call (connected sockets only).

        A run that was not cut up before it was refused (on loopback) is reported once, with its head: all of it counts.
        """
        refused: list[bytes] = []
        for data in refused_datagrams(self.socket):
            refused += self._sender.run_of(data)
        return refused

    def dropped_by_kernel(self) -> int:
        return dropped_by_kernel(self.socket)


Run = tuple[bytes, list[bytes]]  # a peer, and datagrams of one length for it


def _runs(datagrams: list[Datagram]) -> Iterator[Run]:
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


class _Sender:
    """Lays runs into the arena as messages, and sends them with as few system calls as can be."""

    def __init__(self, sock: socket.socket, arena: _Arena, name_bytes: int, sendmmsg: Any) -> None:
        self._fd = sock.fileno()
        self._arena = arena
        self._name_bytes = name_bytes
        self._sendmmsg = sendmmsg
        self._headers = arena.headers(name_bytes)
        self._base = int(_ffi.cast("size_t", arena.data))
        self._controls = _ffi.new(f"char[{BATCH * _CONTROL_BYTES}]")
        self._control_bytes = memoryview(_ffi.buffer(self._controls)).cast("B")
        self._quads = memoryview(_ffi.buffer(self._headers)).cast("B").cast("Q")
        for index in range(BATCH):
            start = index * _CONTROL_BYTES
            struct.pack_into("=Qii", self._control_bytes, start, _SEGMENT_SIZE_AT + 2, socket.IPPROTO_UDP, _UDP_SEGMENT)
            self._headers[index].msg_hdr.msg_control = self._controls + start
        self._can_segment = True
        self._laid: list[Run] = []
        self._end = 0
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
        quad = index * _IOVEC_QUADS
        arena.iovec_quads[quad] = self._base + end
        arena.iovec_quads[quad + _IOV_LEN_QUAD] = size
        self._quads[index * _MMSGHDR_QUADS + _CONTROL_LENGTH_QUAD] = _CONTROL_BYTES if is_run else 0
        if is_run:
            struct.pack_into("=H", self._control_bytes, index * _CONTROL_BYTES + _SEGMENT_SIZE_AT, length)
            if not self._name_bytes:
                self._remember(payloads)
        if self._name_bytes:
            arena.name_bytes[index * self._name_bytes : (index + 1) * self._name_bytes] = peer
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
            elif _ffi.errno in BUFFER_FULL:
                break
            elif len(laid[done][1]) > 1:  # no checksums in hardware, a tunnel, an old kernel: one by one, from now on
                self._can_segment = False
                return sum(len(payloads) for _, payloads in laid[:done]) - lost + self.send(iter(laid[done:]))
            else:  # a peer with port 0, say: those behind it in the batch go to others
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


def batched_or_plain(sock: socket.socket, *, is_connected: bool) -> DatagramSocket:
    """The fastest form that works here."""
    if struct.calcsize("P") == 8:  # noqa: PLR2004 - the struct layouts above are those of 64-bit Linux
        try:
            return BatchedDatagramSocket(sock, is_connected=is_connected)
        except (OSError, AttributeError):
            pass  # no recvmmsg in this C library: the plain form serves as well, slower
    return PlainDatagramSocket(sock, is_connected=is_connected)
