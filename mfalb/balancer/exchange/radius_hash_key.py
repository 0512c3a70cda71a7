"""What of a RADIUS request a pool's hash is made of."""

from __future__ import annotations

from collections.abc import Callable

from mfalb.balancer.config.balancing_models import HashBy
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.wire import radius
from mfalb.wire.radius import Packet

RadiusKey = Callable[[Packet, RadiusPeer], bytes]
"""Reads the key; b"" when the request has none."""


def radius_key(config: HashBy) -> RadiusKey:
    """The reader of a key. Raises ValueError for the keys of HTTP, which `check` refuses with a position."""
    match config.key:
        case "user_name":
            return _user_name
        case "calling_station_id":
            return _calling_station_id
        case "client":
            return _client
        case _:
            raise ValueError(f"RADIUS has no {config.key}")


def _user_name(request: Packet, _from: RadiusPeer) -> bytes:
    """Without regard to letter case: people do not sign in with the same one each time."""
    return (request.first(radius.USER_NAME) or b"").lower()


def _calling_station_id(request: Packet, _from: RadiusPeer) -> bytes:
    """Without regard to letter case: access points of one network write MAC addresses in both."""
    return (request.first(radius.CALLING_STATION_ID) or b"").lower()


def _client(_request: Packet, client: RadiusPeer) -> bytes:
    return client.name.encode()
