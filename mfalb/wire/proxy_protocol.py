r"""PROXY protocol 1 and 2: who a connection's client really is, told by the proxy before it in the first bytes.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt

    v1  "PROXY TCP4|TCP6 client server client-port server-port\r\n"   section 2.1; at most 107 bytes
        "PROXY UNKNOWN" ... "\r\n"                                   whatever follows is passed over

    v2  12 bytes signature | u8 2 (version) and command | u8 family and transport | u16 length | as many bytes   2.2
            command  0 LOCAL (the proxy itself, for example a health check)   1 PROXY
            family   0 unspecified   1 IPv4   2 IPv6   3 Unix      transport  0 unspecified   1 stream   2 datagram
        addresses    client | server | u16 client's port | u16 server's port; behind them TLVs, which are passed over
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from mfalb.errors import MalformedMessage

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
V1_LIMIT_BYTES: Final = 107  # section 2.1, line end included
_V1_START: Final = b"PROXY "
_V2_HEAD_BYTES: Final = 16
_VERSION: Final = 2
_LOCAL: Final = 0
_PROXY: Final = 1
_IPV4_STREAM: Final = 0x11
_IPV6_STREAM: Final = 0x21
_ADDRESS_BYTES: Final = {_IPV4_STREAM: 4, _IPV6_STREAM: 16}
_LAST_FAMILY: Final = 3
_LAST_TRANSPORT: Final = 2
_V1_LINE: Final = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_PORT_LIMIT: Final = 65_535

_Ip = IPv4Address | IPv6Address


class ProxyVersion(Enum):
    """The form of a header that is sent."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Who a connection is from, and what it was for: (address as text, port) each."""

    client: tuple[str, int]
    server: tuple[str, int]


# ------------------------------------------------------------------------------------------------ written


def proxy_header(version: ProxyVersion, endpoints: Endpoints) -> bytes:
    """The header for a connection. Addresses of two families are both written as IPv6."""
    client, server = ip_address(endpoints.client[0]), ip_address(endpoints.server[0])
    if client.version != server.version:
        client, server = _as_ipv6(client), _as_ipv6(server)
    ports = endpoints.client[1], endpoints.server[1]
    if version is ProxyVersion.V1:
        text = f"PROXY TCP{client.version} {_text(client)} {_text(server)} {ports[0]} {ports[1]}\r\n"
        return text.encode("ascii")
    family = _IPV4_STREAM if client.version == 4 else _IPV6_STREAM  # noqa: PLR2004 - the IP version
    payload = client.packed + server.packed + ports[0].to_bytes(2) + ports[1].to_bytes(2)
    return SIGNATURE + bytes((_VERSION << 4 | _PROXY, family)) + len(payload).to_bytes(2) + payload


def own_header(version: ProxyVersion) -> bytes:
    """The header for a connection of the proxy's own, such as a health check: it names nobody (LOCAL, UNKNOWN)."""
    return b"PROXY UNKNOWN\r\n" if version is ProxyVersion.V1 else SIGNATURE + bytes((_VERSION << 4 | _LOCAL, 0, 0, 0))


def _as_ipv6(address: _Ip) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)


def _text(address: _Ip) -> str:
    return str(address).partition("%")[0]  # a scope means something on one host only


# --------------------------------------------------------------------------------------------------- read


class ProxyHeaderReader:
    """Reads one header as it comes and tells how many bytes of what came belong to it: what follows is not ours.

    `endpoints` is None when the header names nobody (LOCAL, UNKNOWN, Unix, datagrams): the connection counts as it is.
    """

    __slots__ = ("_header", "endpoints", "is_complete")

    def __init__(self) -> None:
        self._header = bytearray()
        self.endpoints: Endpoints | None = None
        self.is_complete = False

    def take_untrusted(self, data: bytes) -> int:
        """How many of these bytes belong to the header. Not to be called again once it `is_complete`.

        Raises MalformedMessage (proxy_header). Keeps at most 107 bytes of version 1, 16 + 65,535 of version 2.
        """
        header = self._header
        before = len(header)
        header += data
        if header.startswith(SIGNATURE[: len(header)]):
            end = self._end_of_v2()
        elif header.startswith(_V1_START[: len(header)]):
            end = self._end_of_v1()
        else:
            raise MalformedMessage("proxy_header")
        if end is None:
            return len(data)
        del header[end:]
        self.endpoints = _v2(bytes(header)) if header.startswith(SIGNATURE) else _v1(bytes(header))
        self.is_complete = True
        return end - before

    def _end_of_v1(self) -> int | None:
        found = self._header.find(b"\n", 0, V1_LIMIT_BYTES)
        if found >= 0:
            return found + 1
        if len(self._header) >= V1_LIMIT_BYTES:
            raise MalformedMessage("proxy_header")
        return None

    def _end_of_v2(self) -> int | None:
        header = self._header
        if len(header) < _V2_HEAD_BYTES:
            return None
        end = _V2_HEAD_BYTES + int.from_bytes(header[14:16])
        return end if end <= len(header) else None


def _v1(line: bytes) -> Endpoints | None:
    if line.startswith(b"PROXY UNKNOWN") and line[13:14] in (b" ", b"\r") and line.endswith(b"\r\n"):
        return None
    match = _V1_LINE.fullmatch(line)
    if match is None:
        raise MalformedMessage("proxy_header")
    try:
        client, server = (ip_address(match[part].decode("ascii")) for part in (2, 3))
    except ValueError as error:
        raise MalformedMessage("proxy_header") from error
    if b"TCP%d" % client.version != match[1] or client.version != server.version:
        raise MalformedMessage("proxy_header")
    return Endpoints((_plain(client), _v1_port(match[4])), (_plain(server), _v1_port(match[5])))


def _v1_port(digits: bytes) -> int:
    port = int(digits)
    if port > _PORT_LIMIT or (digits[:1] == b"0" and len(digits) > 1):
        raise MalformedMessage("proxy_header")
    return port


def _v2(header: bytes) -> Endpoints | None:
    version, command = header[12] >> 4, header[12] & 0x0F
    kind = header[13]
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise MalformedMessage("proxy_header")
    if kind >> 4 > _LAST_FAMILY or kind & 0x0F > _LAST_TRANSPORT:
        raise MalformedMessage("proxy_header")
    if command == _LOCAL or kind not in _ADDRESS_BYTES:
        return None
    size = _ADDRESS_BYTES[kind]
    body = header[_V2_HEAD_BYTES:]
    if len(body) < 2 * size + 4:
        raise MalformedMessage("proxy_header")
    client, server = ip_address(body[:size]), ip_address(body[size : 2 * size])
    ports = body[2 * size : 2 * size + 4]
    return Endpoints((_plain(client), int.from_bytes(ports[:2])), (_plain(server), int.from_bytes(ports[2:])))


def _plain(address: _Ip) -> str:
    """As text; an IPv4 address that was put into an IPv6 one as what it is, since networks are written so."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
