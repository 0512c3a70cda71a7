"""What of an HTTP request a pool's hash is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address

from mfalb.balancer.config.balancing_models import HashBy, HashOfPart
from mfalb.balancer.exchange.forwarding import ClientFacts, is_trusted
from mfalb.wire.cookies import find_cookie
from mfalb.wire.http_heads import RequestHead

Networks = Sequence[IPv4Network | IPv6Network]
HttpKey = Callable[[RequestHead, ClientFacts], bytes]
"""Reads the key; b"" when the request has none."""


def http_key(config: HashBy, trusted: Networks) -> HttpKey:
    """The reader of a key. `trusted` are the proxies that are believed about who their client is.

    Raises ValueError for the keys of RADIUS, which `check` refuses with a position.
    """
    if isinstance(config, HashOfPart):
        name = config.name.encode()
        match config.key:
            case "header":
                return partial(_header, name.lower())
            case "cookie":
                return partial(_cookie, name)
            case "query":
                return partial(_parameter, name + b"=")
    match config.key:
        case "source":
            return partial(_source, trusted)
        case "path":
            return _path
        case _:
            raise ValueError(f"HTTP has no {config.key}")


def _source(trusted: Networks, head: RequestHead, client: ClientFacts) -> bytes:
    """The address that the connection comes from; behind trusted proxies the last one that is none of theirs.

    Read from the end, as nobody could put anything behind what a proxy that we believe has written.
    """
    address = client.address
    hops = head.special.get(b"x-forwarded-for", b"").split(b",")
    while hops and is_trusted(address, trusted):
        hop = hops.pop().strip().decode("latin-1")
        try:
            address = str(ip_address(hop))
        except ValueError:
            break
    return address.encode()


def _header(name: bytes, head: RequestHead, _client: ClientFacts) -> bytes:
    return head.field(name)


def _cookie(name: bytes, head: RequestHead, _client: ClientFacts) -> bytes:
    return find_cookie(head.special.get(b"cookie", b""), name) or b""


def _path(head: RequestHead, _client: ClientFacts) -> bytes:
    return head.path


def _parameter(name_and_equals: bytes, head: RequestHead, _client: ClientFacts) -> bytes:
    """As it is written: the same text goes to the same backend, whatever it encodes."""
    for pair in head.target.partition(b"?")[2].split(b"&"):
        if pair.startswith(name_and_equals):
            return pair[len(name_and_equals) :]
    return b""
