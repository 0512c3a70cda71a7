"""Why there is no connection to a backend, as the pools and logs call it."""

from __future__ import annotations

from mfalb.balancer.pools.ejection import LOCAL_SHORTAGE
from mfalb.net.udp_sockets import is_local_shortage


def reason_of(error: OSError) -> str:
    """The backend's refusal, or a lack of ours (no descriptor, port or memory left), which says nothing about it."""
    return LOCAL_SHORTAGE if is_local_shortage(error) else "connect_refused"
