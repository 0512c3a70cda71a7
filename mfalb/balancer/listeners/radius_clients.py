"""Which configured RADIUS client does a datagram come from?"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from mfalb.balancer.config.radius_models import RadiusClient
from mfalb.balancer.config.radsec_models import RadsecClient
from mfalb.balancer.exchange.radius_peer import RadiusPeer, Secrets

_CACHE_LIMIT: Final = 65_536  # hosts remembered; when full the cache is emptied and fills again


class RadiusClients:
    """Finds a client by source address: the longest matching network wins, so a host can stand out of its network."""

    def __init__(self, clients: Sequence[RadiusClient], secrets: Secrets) -> None:
        pairs = [(client.network, radius_peer(client, secrets)) for client in clients]
        self.peers = [peer for _, peer in pairs]
        self._networks = sorted(pairs, key=lambda pair: -pair[0].prefixlen)
        self._cache: dict[bytes, RadiusPeer | None] = {}

    def find(self, host: bytes) -> RadiusPeer | None:
        """The client at a packed address (4 or 16 bytes); None when it is nobody's."""
        try:
            return self._cache[host]
        except KeyError:
            pass
        address = ipaddress.ip_address(host)
        found = next((peer for network, peer in self._networks if address in network), None)
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()
        self._cache[host] = found
        return found


def radius_peer(client: RadiusClient | RadsecClient, secrets: Secrets) -> RadiusPeer:
    """A configured client as the exchanges know it."""
    return RadiusPeer(
        client.name,
        secrets.of(client.secret.reveal()),
        client.require_message_authenticator,
        client.limit_proxy_state,
        client.send_message_authenticator,
    )
