"""UDP sockets: what a batch of datagrams is, the plain form of reading and writing one, and the poller of them all.

asyncio's DatagramTransport reads one datagram per loop wake-up (33,500 packets/s measured); draining the socket reaches
149,000, and recvmmsg/sendmmsg halve the CPU time of that again. They are called through cffi in ABI mode, which needs
no compiler on the target; where that does not work, `PlainDatagramSocket` does the same one datagram at a time.

A destination or source is the raw `sockaddr` (16 bytes for IPv4, 28 for IPv6): it is compared and handed back, seldom
looked into, and making a Python address tuple of it would cost as much as the rest.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Final, Protocol

BATCH: Final = 64
SLOT_BYTES: Final = 4160  # the largest RADIUS packet (4096) and a tail that shows that it was longer
RECEIVE_BUFFER_BYTES: Final = 8 * 1024 * 1024  # a lost datagram is a user who waits for seconds
_IP_RECVERR: Final = 11  # linux/in.h; Python names neither before 3.14
_IPV6_RECVERR: Final = 25
SOCKADDR_BYTES: Final = {socket.AF_INET: 16, socket.AF_INET6: 28}

# Bytes, and where they came from or go to: a raw sockaddr, b"" on a connected socket. A plain tuple: making a named one
# costs 0.3 us, four times a RADIUS transaction.
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

    def refused(self) -> list[bytes]:
        """The datagrams that the peer's host refused since the last call (connected sockets only)."""


class PlainDatagramSocket:
    """The same, one datagram a system call: for platforms without recvmmsg, and a reading aid for the other."""

    def __init__(self, sock: socket.socket, *, is_connected: bool) -> None:
        self.socket = sock
        self._is_connected = is_connected

    def receive(self) -> list[Datagram]:
        received: list[Datagram] = []
        while len(received) < BATCH:
            try:
                data, address = self.socket.recvfrom(SLOT_BYTES)
            except OSError as error:
                if received and error.errno not in _NOTHING_THERE:
                    return received  # the error comes again with the next call
                raise_unless_empty(error.errno or 0)
                return received
            received.append((data, b"" if self._is_connected else sockaddr_of(address)))
        return received

    def send(self, datagrams: list[Datagram]) -> int:
        return sum(self._send_one(datagram) for datagram in datagrams)

    def _send_one(self, datagram: Datagram) -> int:
        data, peer = datagram
        if len(data) > SLOT_BYTES:
            raise ValueError(TOO_LARGE)
        for _attempt in range(2):  # an error may belong to an earlier datagram (ICMP)
            try:
                if self._is_connected:
                    self.socket.send(data)
                else:
                    self.socket.sendto(data, address_of(peer))
            except OSError:
                continue
            return 1
        return 0

    def refused(self) -> list[bytes]:
        return refused_datagrams(self.socket)


TOO_LARGE: Final = f"a datagram holds at most {SLOT_BYTES} bytes here"
BUFFER_FULL: Final = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)
_NOTHING_THERE: Final = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def raise_unless_empty(number: int) -> None:
    """OSError for an error number that says more than that nothing is there to read."""
    if number not in _NOTHING_THERE:
        raise OSError(number, errno.errorcode.get(number, "unknown"))


def bound_socket(host: str, port: int) -> socket.socket:
    """A UDP socket bound to an IPv4 or IPv6 address, port 0 for any. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RECEIVE_BUFFER_BYTES)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def connected_socket(host: str, port: int) -> socket.socket:
    """A UDP socket that talks to one peer only, so that the kernel discards what anyone else sends.

    Refusals (ICMP) are queued with the datagram they belong to, for `refused_datagrams`. Raises OSError.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RECEIVE_BUFFER_BYTES)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def refused_datagrams(sock: socket.socket) -> list[bytes]:
    """The datagrams that the peer's host refused since the last call, from the socket's error queue."""
    refused: list[bytes] = []
    while len(refused) < BATCH:
        try:
            data, _, _, _ = sock.recvmsg(SLOT_BYTES, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            break
        refused.append(data)
    return refused


def sockaddr_of(address: tuple[str, int] | tuple[str, int, int, int]) -> bytes:
    """The raw sockaddr of a Python address tuple."""
    if len(address) == 2:  # noqa: PLR2004 - (host, port) is IPv4
        host, port = address
        family = struct.pack("=H", socket.AF_INET)
        return family + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
    host6, port, flow, scope = address
    head = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, flow)
    return head + socket.inet_pton(socket.AF_INET6, host6.partition("%")[0]) + struct.pack("=I", scope)


def address_of(sockaddr: bytes) -> tuple[str, int] | tuple[str, int, int, int]:
    """The Python address tuple of a raw sockaddr."""
    (port,) = struct.unpack_from("!H", sockaddr, 2)
    if len(sockaddr) == SOCKADDR_BYTES[socket.AF_INET]:
        return socket.inet_ntoa(sockaddr[4:8]), port
    (flow,) = struct.unpack_from("!I", sockaddr, 4)
    (scope,) = struct.unpack_from("=I", sockaddr, 24)
    return socket.inet_ntop(socket.AF_INET6, sockaddr[8:24]), port, flow, scope


def host_of(sockaddr: bytes) -> bytes:
    """The packed IP address in a raw sockaddr: 4 or 16 bytes."""
    return sockaddr[4:8] if len(sockaddr) == 16 else sockaddr[8:24]  # noqa: PLR2004 - sockaddr_in


def endpoint_of(sockaddr: bytes) -> bytes:
    """The packed IP address and the port (2 bytes, network order) in a raw sockaddr."""
    return host_of(sockaddr) + sockaddr[2:4]


class DatagramPoller:
    """Watches many UDP sockets through one epoll descriptor, and says when a round of reading is over.

    A descriptor of its own because libuv stops polling a socket that has a pending error, and a UDP socket whose peer
    refused a datagram has one. `after_round` is called once after all ready sockets were read: the place to send what
    they gave rise to, in batches.
    """

    def __init__(self, loop: AbstractEventLoop, after_round: Callable[[], None]) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._after_round = after_round
        self._loop = loop
        loop.add_reader(self._epoll.fileno(), self._round)

    def watch(self, sock: socket.socket, reader: Callable[[], None]) -> None:
        self._readers[sock.fileno()] = reader
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def forget(self, sock: socket.socket) -> None:
        del self._readers[sock.fileno()]
        self._epoll.unregister(sock.fileno())

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _round(self) -> None:
        try:
            for descriptor, _ in self._epoll.poll(0):
                reader = self._readers.get(descriptor)
                if reader is not None:
                    reader()
        finally:  # a reader that failed keeps nobody waiting: the others' turn comes with the next round
            self._after_round()
