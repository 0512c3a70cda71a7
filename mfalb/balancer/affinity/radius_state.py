"""The pin of a RADIUS challenge, EAP conversations included: (client, User-Name, State).

RFC 2865 section 2.3 forbids a proxy to alter State, so the pin is a table entry made when an Access-Challenge passes.
State alone is no key: servers emit constants ("SMS") or each other's bytes (RADIUS facts, section 6.3).
"""

from __future__ import annotations

from typing import Final

from mfalb.balancer.affinity.store import pin_key

BY_STATE: Final = b"radius_state"


def radius_state_key(pool: str, client: str, user_name: bytes, state: bytes) -> bytes:
    """The key under which a challenge's backend is kept. `client` is the configured name of the RADIUS client."""
    return pin_key(BY_STATE, pool, client.encode(), user_name, state)
