"""recvmmsg and sendmmsg through cffi in ABI mode: up to 64 datagrams a system call, and no compiler on the target."""

from __future__ import annotations

import socket
import struct
from typing import Any, ClassVar, Final

from mfalb.net.arena import MMSGHDR_WORDS, MSG_LEN_WORD, Arena, ffi
from mfalb.net.datagrams import (
    BATCH,
    SLOT_BYTES,
    Datagram,
    DatagramSocket,
    PlainDatagramSocket,
    raise_unless_empty,
    refused_datagrams,
)
from mfalb.net.run_sender import RunSender, runs_of
from mfalb.net.sockaddr import SOCKADDR_BYTES
from mfalb.net.udp_sockets import dropped_by_kernel

_SLOT_STARTS: Final = range(0, BATCH * SLOT_BYTES, SLOT_BYTES)


class BatchedDatagramSocket:
    """recvmmsg and sendmmsg on one socket. Raises OSError when the C library lacks them."""

    _libc: ClassVar[Any] = None
    _receiving: ClassVar[Arena | None] = None
    _sending: ClassVar[Arena | None] = None

    def __init__(self, sock: socket.socket, *, is_connected: bool) -> None:
        cls = BatchedDatagramSocket
        if cls._receiving is None or cls._sending is None:
            libc: Any = ffi.dlopen(None)
            _ = (libc.recvmmsg, libc.sendmmsg)
            cls._libc, cls._receiving, cls._sending = libc, Arena(), Arena()
        self.socket = sock
        self._fd = sock.fileno()
        self._name_bytes = 0 if is_connected else SOCKADDR_BYTES[sock.family]
        self._in = cls._receiving
        self._in_headers = self._in.headers(self._name_bytes)
        self._sender = RunSender(sock, cls._sending, self._name_bytes, cls._libc.sendmmsg)
        self._in_words = memoryview(ffi.buffer(self._in_headers)).cast("B").cast("I")
        self._recvmmsg = cls._libc.recvmmsg

    def receive(self) -> list[Datagram]:
        count = self._recvmmsg(self._fd, self._in_headers, BATCH, socket.MSG_DONTWAIT, ffi.NULL)
        if count < 0:
            raise_unless_empty(ffi.errno)
            return []
        data, words, size = self._in.bytes, self._in_words, self._name_bytes
        lengths = words[MSG_LEN_WORD : count * MMSGHDR_WORDS : MMSGHDR_WORDS]
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
        return self._sender.send(runs_of(datagrams))

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


def batched_or_plain(sock: socket.socket, *, is_connected: bool) -> DatagramSocket:
    """The fastest form that works here."""
    if struct.calcsize("P") == 8:  # noqa: PLR2004 - the struct layouts above are those of 64-bit Linux
        try:
            return BatchedDatagramSocket(sock, is_connected=is_connected)
        except (OSError, AttributeError):
            pass  # no recvmmsg in this C library: the plain form serves as well, slower
    return PlainDatagramSocket(sock, is_connected=is_connected)
