"""How UDP sockets are opened (bound for clients, connected to a backend), and what the kernel says about one."""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from mfalb.net.sockaddr import CONNECTED, PACKET_INFO, SOCKADDR_BYTES, PeerForm

BUFFER_BYTES: Final = 8 * 1024 * 1024  # a lost datagram is a user who waits for seconds
_IP_RECVERR: Final = 11  # linux/in.h; Python names neither before 3.14
_IPV6_RECVERR: Final = 25
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DONT: Final = 0  # of both
_WILDCARDS: Final = ("0.0.0.0", "::")  # as getaddrinfo writes them
_SO_SNDBUFFORCE: Final = 32  # asm-generic/socket.h
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
# What this host has run out of, which says nothing of any peer: descriptors, buffers, memory, ports of its own
# (EADDRNOTAVAIL, EAGAIN), what epoll may watch (ENOSPC).
_SHORTAGES: Final = frozenset(
    (
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,
        errno.EAGAIN,
        errno.ENOSPC,
    )
)
_MEMINFO: Final = struct.Struct("=9I")  # linux/sock_diag.h, SK_MEMINFO_*; the last one is SK_MEMINFO_DROPS
_PROC_TABLES: Final = {socket.AF_INET: Path("/proc/net/udp"), socket.AF_INET6: Path("/proc/net/udp6")}
_PROC_INODE: Final = 9  # columns there
_PROC_DROPS: Final = 12


def is_local_shortage(error: OSError) -> bool:
    """Whether opening or using a socket failed for want of descriptors, buffers or memory of our own."""
    return error.errno in _SHORTAGES


def bound_socket(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A UDP socket bound to an IPv4 or IPv6 address, port 0 for any. Raises OSError.

    A shared one may be one of several on the address (SO_REUSEPORT): the kernel deals out by the peer's address.
    Bound to a wildcard address (0.0.0.0, ::) it tells to which address each datagram came: see `peer_form`.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        set_options(sock, str(address[0]))  # before it is bound: no datagram may come without
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def set_options(sock: socket.socket, host: str) -> None:
    """What a UDP socket for clients needs, whoever binds it to that host's address."""
    _enlarge_buffers(sock)
    _let_be_fragmented(sock)
    if host in _WILDCARDS:
        info = PACKET_INFO[socket.AddressFamily(sock.family)]
        sock.setsockopt(info.level, info.option, 1)


def _let_be_fragmented(sock: socket.socket) -> None:
    """What is longer than the path carries goes in pieces: who sends a datagram once cannot learn a path's length."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)


def peer_form(sock: socket.socket, *, is_connected: bool) -> PeerForm:
    """How the peers of a socket made here are written: with our address only where there may be more than one."""
    if is_connected:
        return CONNECTED
    family = socket.AddressFamily(sock.family)
    info = PACKET_INFO[family]
    return PeerForm(SOCKADDR_BYTES[family], info if sock.getsockopt(info.level, info.option) else None)


def connected_socket(host: str, port: int) -> socket.socket:
    """A UDP socket that talks to one peer only, so that the kernel discards what anyone else sends.

    Refusals (ICMP) are queued with the datagram they belong to, for `refused_datagrams`. Raises OSError.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        _enlarge_buffers(sock)
        _let_be_fragmented(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def _enlarge_buffers(sock: socket.socket) -> None:
    """Ask for BUFFER_BYTES each way: past rmem_max and wmem_max where we may (CAP_NET_ADMIN), else up to them."""
    for option, forced in ((socket.SO_RCVBUF, _SO_RCVBUFFORCE), (socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        if _granted_bytes(sock, option) < BUFFER_BYTES:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)


def receive_buffer_bytes(sock: socket.socket) -> int:
    """The receive buffer that the kernel granted, as one asks for it."""
    return _granted_bytes(sock, socket.SO_RCVBUF)


def _granted_bytes(sock: socket.socket, option: int) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, option) // 2  # it doubles what is asked, for its own bookkeeping


def dropped_by_kernel(sock: socket.socket) -> int:
    """How many datagrams came for this UDP socket and were dropped: its receive buffer was full, or a checksum wrong.

    Counts from its opening, modulo 2**32. 0 where the kernel does not tell.
    """
    try:
        counters = _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
    except (OSError, struct.error):  # before Linux 4.12
        with suppress(OSError):
            return drops_in_table(_PROC_TABLES[sock.family].read_text("ascii"), os.fstat(sock.fileno()).st_ino)
        return 0
    drops: int = counters[-1]
    return drops


def drops_in_table(table: str, inode: int) -> int:
    """The drops of the socket with that inode by /proc/net/udp (proc(5)); 0 when it is not there."""
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) > _PROC_DROPS and columns[_PROC_INODE] == str(inode):
            return int(columns[_PROC_DROPS])
    return 0
