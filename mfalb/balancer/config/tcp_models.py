"""What only TCP has in the configuration: routes by the name in a ClientHello, and limits of connections."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from mfalb.balancer.config.connection_models import ConnectionLimits
from mfalb.balancer.config.proxy_models import ProxyProtocol
from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import Address, Name, Seconds, check_host, quoted

_WILDCARD = "*."


def _check_server_name(value: str) -> str:
    name = value.removeprefix(_WILDCARD)
    if "*" in name:
        raise ValueError(f"{quoted(value)}: only a whole first label may be a wildcard; write *.contoso.com")
    check_host(name)
    return value


ServerName = Annotated[
    str, AfterValidator(_check_server_name), WithJsonSchema({"type": "string", "examples": ["adfs.contoso.com"]})
]
"""A name that clients ask for by SNI, or a wildcard for one label: `*.contoso.com`."""


class TcpRoute(Table):
    """Sends connections that ask for `sni` to `pool`; without `sni` all that no other route takes.

    An exact name comes before a wildcard, which stands for one label as in certificates.
    """

    sni: ServerName | None = None
    pool: Name


class TcpLimits(ConnectionLimits):
    """What clients may take: so many connections, and time."""

    hello_timeout_s: Seconds = 10.0
    idle_timeout_s: Seconds = 600.0


class TcpListener(Table):
    """An address where TCP connections arrive that are passed through as they are, TLS or not."""

    name: Name
    protocol: Literal["tcp"]
    bind: tuple[Address, ...] = Field(min_length=1)
    routes: tuple[TcpRoute, ...] = Field(min_length=1)
    proxy_protocol: ProxyProtocol | None = None
    limits: TcpLimits = TcpLimits()

    @property
    def reads_names(self) -> bool:
        """Whether a connection waits for its ClientHello; otherwise any bytes pass, and at once."""
        return any(route.sni is not None for route in self.routes)
