"""Raw socket addresses: a peer as the kernel writes it, `struct sockaddr_in` (16 bytes) or `sockaddr_in6` (28 bytes).

It is compared and handed back, seldom looked into: making a Python address tuple of it costs as much as the rest.

    sockaddr_in    family (2, native)  port (2)  address (4)  zeros (8)
    sockaddr_in6   family (2, native)  port (2)  flow (4)  address (16)  scope (4, native)
"""

from __future__ import annotations

import socket
import struct
from typing import Final

SOCKADDR_BYTES: Final = {socket.AF_INET: 16, socket.AF_INET6: 28}


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
