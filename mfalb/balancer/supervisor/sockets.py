"""The listening sockets: all of them or none, before anything else starts."""

from __future__ import annotations

import logging
import socket
from typing import Final

from mfalb.balancer.config.models import Config
from mfalb.balancer.config.radius_models import RadiusListener
from mfalb.balancer.config.values import Address
from mfalb.errors import MfalbError
from mfalb.net.udp_sockets import BUFFER_BYTES, bound_socket, receive_buffer_bytes

_FIRST_BACKLOG: Final = 128  # clients that may wait until the listener itself starts, and sets its own

# What of an answer may wait in the kernel for a client that reads slowly: by default megabytes for each, and
# send_timeout would see it taken in strides of half a megabyte only.
UNSENT_BYTES: Final = 128 * 1024
_TCP_NOTSENT_LOWAT: Final = 25  # linux/tcp.h; not named by Python

_log = logging.getLogger("mfalb.supervisor.sockets")


class CannotBind(MfalbError):  # noqa: N818 - says what, in the operator's words
    """A listener's address, or a file to write, cannot be had; nothing was started."""


def bind_all(config: Config) -> dict[str, list[socket.socket]]:
    """The bound sockets of each listener, by its name. Raises CannotBind, with no socket left open."""
    bound: dict[str, list[socket.socket]] = {}
    try:
        for listener in config.listeners:
            sockets = bound.setdefault(listener.name, [])
            bind = _udp if isinstance(listener, RadiusListener) else _tcp
            for address in listener.bind:
                try:
                    sockets.append(bind(address))
                except OSError as error:
                    reason = error.strerror or str(error)
                    raise CannotBind(f"listener {listener.name}: cannot bind {address}: {reason}") from error
    except CannotBind:
        close_all(bound)
        raise
    _tell_of_small_buffers(bound)
    return bound


def _tell_of_small_buffers(bound: dict[str, list[socket.socket]]) -> None:
    """One warning when bursts of datagrams may be lost because the kernel grants less than was asked."""
    udp = (sock for sockets in bound.values() for sock in sockets if sock.type == socket.SOCK_DGRAM)
    got_bytes = min(map(receive_buffer_bytes, udp), default=BUFFER_BYTES)
    if got_bytes < BUFFER_BYTES:
        facts = {"got_bytes": got_bytes, "wanted_bytes": BUFFER_BYTES, "raise": "net.core.rmem_max"}
        _log.warning("small receive buffers: bursts of RADIUS datagrams may be lost", extra=facts)


def close_all(bound: dict[str, list[socket.socket]]) -> None:
    """Close what `bind_all` has bound."""
    for sockets in bound.values():
        for sock in sockets:
            sock.close()


def _udp(address: Address) -> socket.socket:
    return bound_socket(address.host, address.port)


def _tcp(address: Address) -> socket.socket:
    flags = socket.AI_PASSIVE
    family, _, _, _, target = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)[0]
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)  # connections inherit it
        sock.bind(target)
        # With SO_REUSEADDR two sockets can be bound to overlapping addresses (0.0.0.0 and one of ours, or another
        # program's that starts at this moment); which of them may serve is only known when they listen.
        sock.listen(_FIRST_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
