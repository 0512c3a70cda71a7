"""The heads that go on: requests as backends get them, answers as clients get them.

Hop-by-hop fields stay behind, framing is written anew from the one reading we had, and the forwarding fields say who
asked (X-Forwarded-For, -Proto, -Host; Forwarded, RFC 7239; Via, RFC 9110 section 7.6.3). What a client claims in them
is believed only from a trusted proxy.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from mfalb.balancer.config.http_models import Forwarding
from mfalb.wire.http_fields import Framing
from mfalb.wire.http_heads import RequestHead, ResponseHead
from mfalb.wire.proxy_protocol import Endpoints

Networks = Sequence[IPv4Network | IPv6Network]


class ClientFacts:
    """Who is connected: the client's address as text, and whether it came over TLS. One a connection, never changed.

    `endpoints` tell the ports, too, to backends that want a PROXY protocol header. `is_trusted`: its forwarding fields
    are believed. `lines` are finished header lines that its requests get, about its certificate. `x_forwarded` is what
    all its requests begin their X-Forwarded fields with, as long as nobody before it is believed.
    """

    __slots__ = ("address", "endpoints", "is_tls", "is_trusted", "lines", "x_forwarded")

    def __init__(
        self,
        address: str,
        *,
        is_tls: bool,
        endpoints: Endpoints | None = None,
        is_trusted: bool = False,
        lines: bytes = b"",
    ) -> None:
        self.address = address
        self.is_tls = is_tls
        self.endpoints = endpoints
        self.is_trusted = is_trusted
        self.lines = lines
        proto = b"https" if is_tls else b"http"
        self.x_forwarded = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: " % (
            address.encode(), proto,
        )  # fmt: skip


def is_trusted(address: str, trusted: Networks) -> bool:
    """Whether a peer's forwarding fields are believed."""
    if not trusted or not address:
        return False
    peer = ip_address(address)
    return any(peer in network for network in trusted)


_PASSED_ON: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"content-type", b"Content-Type: "),
    (b"accept-encoding", b"Accept-Encoding: "),
    (b"cookie", b"Cookie: "),
    (b"expect", b"Expect: "),
)
_PASSED_ON_FOR_TRUSTED: Final[tuple[tuple[bytes, bytes], ...]] = (
    *_PASSED_ON,
    (b"x-forwarded-port", b"X-Forwarded-Port: "),
    (b"x-forwarded-prefix", b"X-Forwarded-Prefix: "),
    (b"x-real-ip", b"X-Real-IP: "),
    (b"x-original-url", b"X-Original-URL: "),
    (b"x-rewrite-url", b"X-Rewrite-URL: "),
)
_CHUNKED: Final = Framing.CHUNKED
_CLOSE: Final = Framing.CLOSE
_EOL: Final = b"\r\n"


class RequestWriter:
    """Writes the heads of requests for backends, as a listener's configuration wants them."""

    __slots__ = ("_has_forwarded", "_has_x_forwarded", "_via")

    def __init__(self, config: Forwarding) -> None:
        self._has_x_forwarded = config.x_forwarded
        self._has_forwarded = config.forwarded
        self._via = config.via.encode() if config.via is not None else b""

    def head(self, head: RequestHead, client: ClientFacts, added: bytes = b"") -> bytes:
        """The head of a request. `added` are finished header lines."""
        special = head.special
        host = special.get(b"host", b"")
        parts = [head.method, b" ", head.target, b" HTTP/1.1\r\nHost: ", host, _EOL, *head.lines]
        if self._has_x_forwarded:
            self._add_x_forwarded(parts, special, client)
        if self._has_forwarded or (client.is_trusted and b"forwarded" in special):
            self._add_forwarded(parts, special, client)
        if self._via:
            earlier = special.get(b"via")
            parts += (b"Via: ", earlier + b", " if earlier else b"", b"1.%d " % head.minor_version, self._via, _EOL)
        elif b"via" in special:
            parts += (b"Via: ", special[b"via"], _EOL)
        for name, label in _PASSED_ON_FOR_TRUSTED if client.is_trusted else _PASSED_ON:
            value = special.get(name)
            if value:
                parts += (label, value, _EOL)
        parts += (client.lines, added, self._ending(head))
        return b"".join(parts)

    @staticmethod
    def _add_x_forwarded(parts: list[bytes], special: dict[bytes, bytes], client: ClientFacts) -> None:
        host = special.get(b"host", b"")
        if not client.is_trusted:
            parts += (client.x_forwarded, host, _EOL)
            return
        peer = client.address.encode()
        earlier = special.get(b"x-forwarded-for")
        peer = earlier + b", " + peer if earlier else peer
        proto = special.get(b"x-forwarded-proto", b"https" if client.is_tls else b"http")
        host = special.get(b"x-forwarded-host", host)
        parts += (b"X-Forwarded-For: ", peer, b"\r\nX-Forwarded-Proto: ", proto, b"\r\nX-Forwarded-Host: ", host, _EOL)

    def _add_forwarded(self, parts: list[bytes], special: dict[bytes, bytes], client: ClientFacts) -> None:
        earlier = special.get(b"forwarded", b"") if client.is_trusted else b""
        ours = _forwarded_element(client, special.get(b"host", b"")) if self._has_forwarded else b""
        parts += (b"Forwarded: ", earlier, b", " if earlier and ours else b"", ours, _EOL)

    @staticmethod
    def _ending(head: RequestHead) -> bytes:
        special = head.special
        start = b""
        if head.upgrade:
            start = b"Connection: upgrade\r\nUpgrade: %b\r\n" % head.upgrade
        elif b"te" in special and b"trailers" in special[b"te"].lower():  # RFC 9110 section 10.1.4: the one that counts
            start = b"Connection: TE\r\nTE: trailers\r\n"
        if head.framing is _CHUNKED:
            return start + b"Transfer-Encoding: chunked\r\n\r\n"
        if b"content-length" in special:
            return b"%bContent-Length: %d\r\n\r\n" % (start, head.length)
        return start + _EOL


def _forwarded_element(client: ClientFacts, host: bytes) -> bytes:
    """RFC 7239 section 4: an IPv6 address is bracketed and quoted; a host may hold a colon, so it is quoted too."""
    address = client.address.encode()
    node = b'"[%b]"' % address if b":" in address else address
    named = b';host="%b"' % host if host else b""
    return b"for=%b;proto=%b%b" % (node, b"https" if client.is_tls else b"http", named)


def client_framing(response: ResponseHead, minor_version: int) -> Framing:
    """How the client is told where the body ends: as it came, but never by closing where chunks will do."""
    if response.framing is Framing.CHUNKED or response.framing is Framing.CLOSE:
        return Framing.CHUNKED if minor_version else Framing.CLOSE
    return response.framing


_WITHOUT_LENGTH: Final = frozenset((*range(100, 200), HTTPStatus.NO_CONTENT.value))  # RFC 9110 section 8.6


def response_bytes(
    response: ResponseHead, framing: Framing, added: bytes, connection: bytes, via: bytes = b""
) -> bytes:
    """The head of an answer for a client. `added` are finished header lines; `connection` is b"" or a token.

    `via` is our name in Via, b"" when we do not give one.
    """
    special = response.special
    parts = [response.line, *response.lines]
    encoding = special.get(b"content-encoding")
    if encoding is not None:
        parts += (b"Content-Encoding: ", encoding, _EOL)
    if framing is _CHUNKED:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif b"content-length" in special and framing is not _CLOSE and response.status not in _WITHOUT_LENGTH:
        parts += (b"Content-Length: ", special[b"content-length"], _EOL)
    if via:
        earlier = special.get(b"via")
        parts += (b"Via: ", earlier + b", " if earlier else b"", b"1.1 ", via, _EOL)
    elif b"via" in special:
        parts += (b"Via: ", special[b"via"], _EOL)
    parts.append(added)
    if connection:
        parts += (b"Connection: ", connection, _EOL)
    parts.append(_EOL)
    return b"".join(parts)
