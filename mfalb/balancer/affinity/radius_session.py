"""The pins of a RADIUS session, made when an Access-Accept lets it in and looked for by its accounting.

Class is what a server gives for that very purpose (RFC 2865 section 5.25), but many give the same one to a whole group
of users, so it counts together with the user. A NAS that returns no Class is found by user and calling station.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mfalb.balancer.affinity.store import pin_key
from mfalb.wire import radius
from mfalb.wire.radius import Packet

BY_CLASS: Final = b"radius_class"
BY_STATION: Final = b"radius_station"


def session_keys(pool: str, client: str, user_name: bytes, request: Packet, classes: list[bytes]) -> Iterator[bytes]:
    """The keys of a session, the surest one first: by Class, then by calling station.

    `pool` is the pool that let it in, `request` the session's Access-Request or Accounting-Request, `classes` the
    values of its Class attributes, `client` the configured name of the NAS.
    """
    if classes:
        yield pin_key(BY_CLASS, pool, client.encode(), user_name, *classes)
    if user_name:
        station = request.first(radius.CALLING_STATION_ID) or b""
        yield pin_key(BY_STATION, pool, client.encode(), user_name, station)
