"""How many connections a listener takes, in all and from one client network: the same for HTTP and TCP."""

from __future__ import annotations

from pydantic import Field

from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import Count


class SourceNetworks(Table):
    """How long the prefix is by which clients' addresses are counted as one."""

    ipv4: Count = Field(default=32, ge=8, le=32)
    ipv6: Count = Field(default=64, ge=16, le=128)


class ConnectionLimits(Table):
    """`connections` at once on the listener (in each worker), and those from one of `source_networks`."""

    connections: Count = Field(default=20_000, ge=1)
    connections_per_source: Count = Field(default=4000, ge=1)
    source_networks: SourceNetworks = SourceNetworks()
