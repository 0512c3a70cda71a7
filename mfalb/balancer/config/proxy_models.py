"""Whose PROXY protocol headers are read."""

from __future__ import annotations

from pydantic import Field

from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import NetworkValue


class ProxyProtocol(Table):
    """Connections from these networks begin with a PROXY protocol header (version 1 or 2), all others without one."""

    from_: tuple[NetworkValue, ...] = Field(min_length=1)
