"""Whose browser a request comes from, when balancers stand before us."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

_HEADER = "X-Forwarded-For"


class Clients:
    """Reads clients' addresses. Only those who are in `proxies` (networks) are believed about whom they forward for."""

    def __init__(self, proxies: Sequence[str] = ()) -> None:
        """Raises ValueError for what is no network."""
        self._proxies = tuple(ip_network(network) for network in proxies)

    def address_of(self, request: web.Request) -> str:
        """The nearest address that is no trusted proxy's; "" when nobody says one.

        Each proxy adds at the end whom it was asked by, so the header is read from there; what stands before the first
        stranger may be made up by that stranger.
        """
        nearest = request.remote or ""
        told = ",".join(request.headers.getall(_HEADER, ())).split(",")
        while self._is_trusted(nearest) and told:
            said = _address_untrusted(told.pop())
            if said is None:
                break
            nearest = str(said)
        return nearest

    def _is_trusted(self, address: str) -> bool:
        found = _address_untrusted(address)
        return found is not None and any(found in network for network in self._proxies)


def _address_untrusted(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text.strip())
    except ValueError:
        return None
