"""The clients that are connected to a listener, counted in all and by the network that they come from."""

from __future__ import annotations

from enum import Enum
from ipaddress import ip_network

from mfalb.balancer.config.connection_models import ConnectionLimits


class Crowding(Enum):
    """Why one connection more is too many; the value is the reason in metrics and logs."""

    EVERYWHERE = "connection_limit"
    AT_SOURCE = "source_connection_limit"


class Crowd:
    """Counts connections against their limits. Networks without a connection take no memory."""

    __slots__ = ("_by_network", "_total", "limits")

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._total = 0
        self._by_network: dict[str, int] = {}

    def network(self, address: str) -> str:
        """What a client is counted under; `address` is "" where there is none."""
        networks = self.limits.source_networks
        prefix, whole = (networks.ipv6, 128) if ":" in address else (networks.ipv4, 32)
        if prefix == whole or not address:
            return address
        return str(ip_network((address.partition("%")[0], prefix), strict=False))

    def crowding(self, network: str) -> Crowding | None:
        """Why one more from this network is not served; None when it is, and then `enter()` comes next."""
        if self._total >= self.limits.connections:
            return Crowding.EVERYWHERE
        if self._by_network.get(network, 0) >= self.limits.connections_per_source:
            return Crowding.AT_SOURCE
        return None

    def enter(self, network: str) -> None:
        self._total += 1
        self._by_network[network] = self._by_network.get(network, 0) + 1

    def leave(self, network: str) -> None:
        """One that entered from this network is gone."""
        self._total -= 1
        left = self._by_network[network] - 1
        if left:
            self._by_network[network] = left
        else:
            del self._by_network[network]
