"""How UDP sockets are opened: bound for clients, connected to a backend, with room for bursts."""

from __future__ import annotations

import socket
from typing import Final

RECEIVE_BUFFER_BYTES: Final = 8 * 1024 * 1024  # a lost datagram is a user who waits for seconds
_IP_RECVERR: Final = 11  # linux/in.h; Python names neither before 3.14
_IPV6_RECVERR: Final = 25


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
