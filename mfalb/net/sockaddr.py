"""Peers as the kernel writes them: who sent a datagram, and where it matters to which of our addresses.

    peer           sockaddr_in or sockaddr_in6; on a socket bound to a wildcard address followed by a pktinfo
    sockaddr_in    family (2, native)  port (2)  address (4)  zeros (8)
    sockaddr_in6   family (2, native)  port (2)  flow (4)  address (16)  scope (4, native)
    in_pktinfo     interface (4, native)  local address (4)  destination as the header has it (4)
    in6_pktinfo    local address (16)  interface (4, native)

A client takes an answer from the address only that it asked. On a wildcard address the kernel would pick one by route,
so the one that was asked is part of the peer: what is sent to that peer leaves from there. The same client asking two
of our addresses is two peers, as it is when they are bound singly: RFC 5080 section 2.2.2 asks of a duplicate that it
comes to the same socket.

Peers are compared and handed back, seldom looked into: making a Python address tuple of one costs as much as the rest.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

SOCKADDR_BYTES: Final = {socket.AF_INET: 16, socket.AF_INET6: 28}
_IS_IPV4: Final = struct.pack("=H", socket.AF_INET)
_IPV6_LINK_LOCAL: Final = (0xFE80, 0xFFC0)  # RFC 4291 section 2.5.6: prefix and mask of the first 16 bits
_IPV6_MULTICAST: Final = 0xFF


@dataclass(frozen=True, slots=True)
class PacketInfo:
    """The control message that tells to which address a datagram came, and takes from which an answer shall leave."""

    level: int
    option: int  # that turns it on
    kind: int  # the message's type
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PeerForm:
    """How the peers of a socket are written."""

    name_bytes: int  # of the sockaddr; 0: the socket is connected, its one peer is written as b""
    info: PacketInfo | None  # what follows it; None when the socket has one address only


CONNECTED: Final = PeerForm(0, None)
# linux/in.h and ipv6.h; Python names the former from 3.14 on only
PACKET_INFO: Final = {
    socket.AF_INET: PacketInfo(socket.IPPROTO_IP, 8, 8, 12),
    socket.AF_INET6: PacketInfo(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, socket.IPV6_PKTINFO, 20),
}


def answering_info(asked: bytes) -> bytes:
    """The pktinfo to answer with, made of the one that came with a datagram (12 or 20 bytes).

    An answer leaves by the route to the client, not by the interface where the request happened to arrive: only an IPv6
    link-local address needs that to say which link it is on. Nobody answers from a multicast address: the kernel picks.
    """
    if len(asked) == PACKET_INFO[socket.AF_INET].size_bytes:
        return bytes(4) + asked[4:8] + bytes(4)
    prefix, mask = _IPV6_LINK_LOCAL
    if int.from_bytes(asked[:2], "big") & mask == prefix:
        return asked
    return bytes(20) if asked[0] == _IPV6_MULTICAST else asked[:16] + bytes(4)


def sockaddr_of(address: tuple[str, int] | tuple[str, int, int, int]) -> bytes:
    """The raw sockaddr of a Python address tuple."""
    if len(address) == 2:  # noqa: PLR2004 - (host, port) is IPv4
        host, port = address
        family = struct.pack("=H", socket.AF_INET)
        return family + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
    host6, port, flow, scope = address
    head = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, flow)
    return head + socket.inet_pton(socket.AF_INET6, host6.partition("%")[0]) + struct.pack("=I", scope)


def address_of(peer: bytes) -> tuple[str, int] | tuple[str, int, int, int]:
    """A peer's own address as Python's tuple."""
    (port,) = struct.unpack_from("!H", peer, 2)
    if peer[:2] == _IS_IPV4:
        return socket.inet_ntoa(peer[4:8]), port
    (flow,) = struct.unpack_from("!I", peer, 4)
    (scope,) = struct.unpack_from("=I", peer, 24)
    return socket.inet_ntop(socket.AF_INET6, peer[8:24]), port, flow, scope


def host_of(peer: bytes) -> bytes:
    """A peer's own IP address, packed: 4 or 16 bytes."""
    return peer[4:8] if peer[:2] == _IS_IPV4 else peer[8:24]


def endpoint_of(peer: bytes) -> bytes:
    """A peer's own IP address, packed, and its port (2 bytes, network order)."""
    return host_of(peer) + peer[2:4]
