"""What a batch of datagrams is, and the plain form of reading and writing one.

asyncio's DatagramTransport reads one datagram per loop wake-up (33,500 packets/s measured); draining the socket reaches
149,000, and recvmmsg/sendmmsg halve the CPU time of that again. They are called through cffi in ABI mode, which needs
no compiler on the target; where that does not work, `PlainDatagramSocket` does the same one datagram at a time.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import Final, Protocol

from mfalb.net.sockaddr import address_of, answering_info, sockaddr_of
from mfalb.net.udp_sockets import dropped_by_kernel, peer_form

BATCH: Final = 64
SLOT_BYTES: Final = 4160  # the largest RADIUS packet (4096) and a tail that shows that it was longer

# Bytes, and the peer that they came from or go to (see `sockaddr`); b"" on a connected socket. A plain tuple: making a
# named one costs 0.3 us, four times a RADIUS transaction.
Datagram = tuple[bytes, bytes]


class DatagramSocket(Protocol):
    """A non-blocking UDP socket that is read and written in batches."""

    @property
    def socket(self) -> socket.socket: ...

    def receive(self) -> list[Datagram]:
        """Up to 64 datagrams; empty when there are none. Raises ConnectionRefusedError and other OSErrors."""

    def send(self, datagrams: list[Datagram]) -> int:
        """How many were handed to the kernel; the rest was dropped: its buffer is full, or they cannot go there.

        Raises ValueError for one of more than SLOT_BYTES.
        """

    def unsent(self) -> list[bytes]:
        """What the last `send` did not hand to the kernel."""

    def refused(self) -> list[bytes]:
        """The datagrams that the peer's host refused since the last call (connected sockets only)."""

    def dropped_by_kernel(self) -> int:
        """How many datagrams came and were never received, since the socket was opened: its buffer was full."""


class PlainDatagramSocket:
    """The same, one datagram a system call: for platforms without recvmmsg, and a reading aid for the other."""

    def __init__(self, sock: socket.socket, *, is_connected: bool) -> None:
        self.socket = sock
        self._form = peer_form(sock, is_connected=is_connected)
        self._unsent: list[bytes] = []

    def receive(self) -> list[Datagram]:
        received: list[Datagram] = []
        while len(received) < BATCH:
            try:
                received.append(self._receive_one())
            except OSError as error:
                if received and error.errno not in _NOTHING_THERE:
                    return received  # the error comes again with the next call
                raise_unless_empty(error.errno or 0)
                return received
        return received

    def _receive_one(self) -> Datagram:
        info = self._form.info
        if info is None:
            data, address = self.socket.recvfrom(SLOT_BYTES)
            return data, sockaddr_of(address) if self._form.name_bytes else b""
        data, ((_, _, asked),), _, address = self.socket.recvmsg(SLOT_BYTES, socket.CMSG_SPACE(info.size_bytes))
        return data, sockaddr_of(address) + answering_info(asked)

    def send(self, datagrams: list[Datagram]) -> int:
        self._unsent = [datagram[0] for datagram in datagrams if not self._is_sent(datagram)]
        return len(datagrams) - len(self._unsent)

    def unsent(self) -> list[bytes]:
        return self._unsent

    def _is_sent(self, datagram: Datagram) -> bool:
        data, peer = datagram
        if len(data) > SLOT_BYTES:
            raise ValueError(TOO_LARGE)
        for _attempt in range(2):  # an error may belong to an earlier datagram (ICMP)
            try:
                self._hand_over(data, peer)
            except OSError:
                continue
            return True
        return False

    def _hand_over(self, data: bytes, peer: bytes) -> None:
        name_bytes, info = self._form.name_bytes, self._form.info
        if not name_bytes:
            self.socket.send(data)
        elif info is None:
            self.socket.sendto(data, address_of(peer))
        else:
            source = (info.level, info.kind, peer[name_bytes:])
            self.socket.sendmsg((data,), (source,), 0, address_of(peer))

    def refused(self) -> list[bytes]:
        return refused_datagrams(self.socket)

    def dropped_by_kernel(self) -> int:
        return dropped_by_kernel(self.socket)


TOO_LARGE: Final = f"a datagram holds at most {SLOT_BYTES} bytes here"
BUFFER_FULL: Final = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)
_NOTHING_THERE: Final = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def raise_unless_empty(number: int) -> None:
    """OSError for an error number that says more than that nothing is there to read."""
    if number not in _NOTHING_THERE:
        raise OSError(number, errno.errorcode.get(number, "unknown"))


def refused_datagrams(sock: socket.socket) -> list[bytes]:
    """The datagrams that the peer's host refused since the last call, from the socket's error queue.

    What routers say (no route, too long, too many hops) is no refusal: those errors pass (RFC 1122 section 4.2.3.9
    calls them soft), and whoever asks again may be let through.
    """
    refused: list[bytes] = []
    for _ in range(BATCH):
        try:
            data, notes, _, _ = sock.recvmsg(SLOT_BYTES, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            break
        if any(_is_refusal(note) for _, _, note in notes):
            refused.append(data)
    return refused


def _is_refusal(note: bytes) -> bool:
    """Whether a sock_extended_err (linux/errqueue.h), which begins with an error number, tells of a closed port."""
    return int.from_bytes(note[:4], sys.byteorder) == errno.ECONNREFUSED
