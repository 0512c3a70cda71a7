"""recvmmsg and sendmmsg through cffi in ABI mode: up to 64 datagrams a system call, and no compiler on the target."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, ClassVar, Final

from mfalb.net.arena import MMSGHDR_WORDS, MSG_LEN_WORD, Arena, ffi
from mfalb.net.datagrams import BATCH, SLOT_BYTES, Datagram, raise_unless_empty, refused_datagrams
from mfalb.net.peer_slots import OriginSlots
from mfalb.net.run_sender import RunSender, runs_of
from mfalb.net.udp_sockets import dropped_by_kernel, peer_form

_SLOT_STARTS: Final = range(0, BATCH * SLOT_BYTES, SLOT_BYTES)

Calls = tuple[Any, Arena, Arena]  # the C library, and the memory for receiving and for sending


class BatchedDatagramSocket:
    """recvmmsg and sendmmsg on one socket."""

    _shared: ClassVar[Calls | None] = None

    @staticmethod
    def load() -> Calls:
        """Find the system calls, once a process. Raises OSError or AttributeError when they cannot be had."""
        shared = BatchedDatagramSocket._shared
        if shared is None:
            libc: Any = ffi.dlopen(None)
            for call, rest in ((libc.recvmmsg, (0, ffi.NULL)), (libc.sendmmsg, (0,))):
                if call(-1, ffi.NULL, 0, *rest) < 0 and ffi.errno == errno.ENOSYS:  # else EBADF
                    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
            shared = BatchedDatagramSocket._shared = (libc, Arena(), Arena())
        return shared

    def __init__(self, sock: socket.socket, *, is_connected: bool) -> None:
        libc, receiving, sending = self.load()
        self.socket = sock
        self._fd = sock.fileno()
        form = peer_form(sock, is_connected=is_connected)
        self._in = receiving
        self._in_headers = self._in.headers()
        self._origins = None if is_connected else OriginSlots(self._in_headers, form)
        self._sender = RunSender(sock, sending, form, libc.sendmmsg)
        self._in_words = memoryview(ffi.buffer(self._in_headers)).cast("B").cast("I")
        self._recvmmsg = libc.recvmmsg

    def receive(self) -> list[Datagram]:
        count = self._recvmmsg(self._fd, self._in_headers, BATCH, socket.MSG_DONTWAIT, ffi.NULL)
        if count < 0:
            raise_unless_empty(ffi.errno)
            return []
        data, words, origins = self._in.buffer, self._in_words, self._origins
        lengths = words[MSG_LEN_WORD : count * MMSGHDR_WORDS : MMSGHDR_WORDS]
        payloads = [data[start : start + length] for start, length in zip(_SLOT_STARTS, lengths, strict=False)]
        if origins is None:
            return [(payload, b"") for payload in payloads]
        return list(zip(payloads, origins.take(count), strict=True))

    def send(self, datagrams: list[Datagram]) -> int:
        self._sender.unsent.clear()
        if len(datagrams) == 1:
            return self._sender.send(iter(((datagrams[0][1], [datagrams[0][0]]),)))
        return self._sender.send(runs_of(datagrams))

    def unsent(self) -> list[bytes]:
        return self._sender.unsent

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
