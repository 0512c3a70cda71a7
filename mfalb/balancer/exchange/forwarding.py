"""The heads that go on: requests as backends get them, answers as clients get them.

Hop-by-hop fields stay behind, framing is written anew from the one reading we had, and the forwarding fields say who
asked (X-Forwarded-For, -Proto, -Host). What a client claims in them is believed only from a trusted proxy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from mfalb.wire.http import RequestHead, ResponseHead
from mfalb.wire.http_fields import Framing
from mfalb.wire.proxy_protocol import Endpoints


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """Who is connected: the client's address as text, and whether it came over TLS. One a connection.

    `endpoints` tell the ports, too, to backends that want a PROXY protocol header.
    """

    address: str
    is_tls: bool
    endpoints: Endpoints | None = None


def request_bytes(head: RequestHead, client: ClientFacts, trusted: Sequence[IPv4Network | IPv6Network]) -> bytes:
    """The head of a request for a backend."""
    special = head.special
    host = special.get(b"host", b"")
    peer, proto, outer_host = client.address.encode(), b"https" if client.is_tls else b"http", host
    passed_on = _PASSED_ON
    if trusted and is_trusted(client.address, trusted):
        earlier = special.get(b"x-forwarded-for")
        peer = earlier + b", " + peer if earlier else peer
        proto = special.get(b"x-forwarded-proto", proto)
        outer_host = special.get(b"x-forwarded-host", host)
        passed_on = _PASSED_ON_FOR_TRUSTED
    parts = [
        b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (head.method, head.target, host),
        *head.lines,
        b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (peer, proto, outer_host),
    ]
    for name, label in passed_on:
        value = special.get(name)
        if value:
            parts.append(b"%b: %b\r\n" % (label, value))
    if head.framing is Framing.CHUNKED:
        parts.append(b"Transfer-Encoding: chunked\r\n\r\n")
    elif b"content-length" in special:
        parts.append(b"Content-Length: %b\r\n\r\n" % special[b"content-length"])
    else:
        parts.append(b"\r\n")
    return b"".join(parts)


_PASSED_ON: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"content-type", b"Content-Type"),
    (b"accept-encoding", b"Accept-Encoding"),
    (b"cookie", b"Cookie"),
    (b"expect", b"Expect"),
)
_PASSED_ON_FOR_TRUSTED: Final[tuple[tuple[bytes, bytes], ...]] = (
    *_PASSED_ON,
    (b"forwarded", b"Forwarded"),
    (b"x-forwarded-port", b"X-Forwarded-Port"),
    (b"x-forwarded-prefix", b"X-Forwarded-Prefix"),
    (b"x-real-ip", b"X-Real-IP"),
    (b"x-original-url", b"X-Original-URL"),
    (b"x-rewrite-url", b"X-Rewrite-URL"),
)


def is_trusted(address: str, trusted: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether a peer's forwarding fields are believed."""
    peer = ip_address(address)
    return any(peer in network for network in trusted)


def client_framing(response: ResponseHead, minor_version: int) -> Framing:
    """How the client is told where the body ends: as it came, but never by closing where chunks will do."""
    if response.framing is Framing.CHUNKED or response.framing is Framing.CLOSE:
        return Framing.CHUNKED if minor_version else Framing.CLOSE
    return response.framing


_WITHOUT_LENGTH: Final = frozenset((*range(100, 200), HTTPStatus.NO_CONTENT))  # RFC 9110 section 8.6


def response_bytes(response: ResponseHead, framing: Framing, added: bytes, connection: bytes) -> bytes:
    """The head of an answer for a client. `added` are finished header lines; `connection` is b"" or a token."""
    special = response.special
    parts = [b"HTTP/1.1 %d %b\r\n" % (response.status, response.phrase), *response.lines]
    encoding = special.get(b"content-encoding")
    if encoding is not None:
        parts.append(b"Content-Encoding: %b\r\n" % encoding)
    if framing is Framing.CHUNKED:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif b"content-length" in special and framing is not Framing.CLOSE and response.status not in _WITHOUT_LENGTH:
        parts.append(b"Content-Length: %b\r\n" % special[b"content-length"])
    if added:
        parts.append(added)
    if connection:
        parts.append(b"Connection: %b\r\n" % connection)
    parts.append(b"\r\n")
    return b"".join(parts)
