"""The listening sockets: all of them or none, before anything else starts."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Final

from mfalb.balancer.config.models import Config, Listener
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


Places = dict[tuple[bool, Address], list[socket.socket]]
Bound = dict[str, list[list[socket.socket]]]  # by listener: for each of its addresses one socket a worker


def bind_all(config: Config, former: Places | None = None) -> Bound:
    """The bound sockets of each listener, by its name. Raises CannotBind, with no socket left open that is new.

    Places that are bound already (`former`, by `places_of`) are kept, whoever they were for.

    With several workers each has a socket of its own on every address (SO_REUSEPORT), and the kernel deals out
    connections, and datagrams by the client's address and port, among them.
    """
    bound: Bound = {}
    fresh: Bound = {}
    known = former or {}
    try:
        for listener in config.listeners:
            sockets = bound.setdefault(listener.name, [])
            for address in listener.bind:
                shared = known.get((isinstance(listener, RadiusListener), address))
                if shared is None:
                    shared = _opened(listener, address, config.workers)
                    fresh.setdefault(listener.name, []).append(shared)
                sockets.append(shared)
    except CannotBind:
        close_all(fresh)
        raise
    _tell_of_small_buffers(fresh)
    return bound


def _opened(listener: Listener, address: Address, workers: int) -> list[socket.socket]:
    bind = _udp if isinstance(listener, RadiusListener) else _tcp
    try:
        return _bound(bind, address, workers)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotBind(f"listener {listener.name}: cannot bind {address}: {reason}") from error


def places_of(config: Config, bound: Bound) -> Places:
    """What is bound for a configuration, by transport (whether it is UDP) and address."""
    return {
        (isinstance(listener, RadiusListener), address): shared
        for listener in config.listeners
        for address, shared in zip(listener.bind, bound[listener.name], strict=True)
    }


def _bound(bind: Callable[..., socket.socket], address: Address, workers: int) -> list[socket.socket]:
    """One socket for each worker.

    Where several share an address, any program of the same user could share it, too (a second balancer, say), and would
    get a part of the traffic. So it is bound alone first, which fails where anybody else is.
    """
    if workers == 1:
        return [bind(address, is_shared=False)]
    bind(address, is_shared=False).close()
    made: list[socket.socket] = []
    try:
        while len(made) < workers:
            made += [bind(address, is_shared=True)]
    except OSError:
        for sock in made:
            sock.close()
        raise
    return made


def sockets_of(bound: Bound, worker: int) -> list[tuple[str, list[socket.socket]]]:
    """The sockets of one worker, by listener: none for UDP when a service manager gave fewer than there are workers."""
    return [
        (name, [shared[worker] for shared in addresses if worker < len(shared)]) for name, addresses in bound.items()
    ]


def _tell_of_small_buffers(bound: Bound) -> None:
    """One warning when bursts of datagrams may be lost because the kernel grants less than was asked."""
    every = (sock for addresses in bound.values() for shared in addresses for sock in shared)
    udp = (sock for sock in every if sock.type == socket.SOCK_DGRAM)
    got_bytes = min(map(receive_buffer_bytes, udp), default=BUFFER_BYTES)
    if got_bytes < BUFFER_BYTES:
        facts = {"got_bytes": got_bytes, "wanted_bytes": BUFFER_BYTES, "raise": "net.core.rmem_max"}
        _log.warning("small receive buffers: bursts of RADIUS datagrams may be lost", extra=facts)


def close_all(bound: Bound) -> None:
    """Close what `bind_all` has bound."""
    for addresses in bound.values():
        for shared in addresses:
            for sock in shared:
                sock.close()


def close_places(places: Places, *, but: Places) -> None:
    """Close what is bound at these places and not among the others."""
    kept = {id(shared) for shared in but.values()}
    for shared in places.values():
        if id(shared) not in kept:
            for sock in shared:
                sock.close()


def _udp(address: Address, *, is_shared: bool) -> socket.socket:
    return bound_socket(address.host, address.port, is_shared=is_shared)


def _tcp(address: Address, *, is_shared: bool) -> socket.socket:
    flags = socket.AI_PASSIVE
    family, _, _, _, target = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)[0]
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        set_tcp_options(sock)
        sock.bind(target)
        # With SO_REUSEADDR two sockets can be bound to overlapping addresses (0.0.0.0 and one of ours, or another
        # program's that starts at this moment); which of them may serve is only known when they listen.
        sock.listen(_FIRST_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def set_tcp_options(sock: socket.socket) -> None:
    """What a listening socket needs, whoever binds it."""
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)  # connections inherit it
