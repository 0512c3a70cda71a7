"""The admin port's listening sockets, which can be handed over when the balancer's code is exchanged."""

from __future__ import annotations

import socket
from typing import Final

from mfalb.balancer.config.values import Address
from mfalb.balancer.supervisor.sockets import CannotBind

_BACKLOG: Final = 128

AdminSockets = tuple[Address, list[socket.socket]]


def bind_admin_port(address: Address, handed: AdminSockets | None = None) -> AdminSockets:
    """A socket for each address that the host has. `handed` are a predecessor's: used, or closed. Raises CannotBind."""
    if handed is not None:
        if handed[0] == address:
            return handed
        for sock in handed[1]:
            sock.close()
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, target in dict.fromkeys((one[0], one[4]) for one in found):
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(target)
            sock.listen(_BACKLOG)
    except OSError as error:
        for sock in made:
            sock.close()
        raise CannotBind(f"admin: cannot bind {address}: {error.strerror or error}") from error
    return address, made
