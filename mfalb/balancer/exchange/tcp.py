"""One TCP connection and where it goes.

    ClientHello, or nothing to wait for ──begin()──▶ Connect to a backend, or Refuse
    not connected                       ──refused()──▶ Connect to another backend, or Refuse

Once a backend has taken the connection it is its own: nothing that was sent is ever sent to another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mfalb.balancer.config.tcp_models import TcpRoute
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.choice import NO_KEY
from mfalb.balancer.pools.pool import NOTHING_TRIED, Pool


@dataclass(slots=True, eq=False)
class TcpExchange:
    """One connection. `server_name` is what its client asked for, "" for no name; `source` is the client's address."""

    server_name: str
    pool: Pool
    backend: Backend
    source: bytes = NO_KEY
    tried: frozenset[str] = NOTHING_TRIED


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect it to its backend."""

    exchange: TcpExchange


@dataclass(frozen=True, slots=True)
class Refuse:
    """Close it. `reason` is no_route, no_backend or refused_everywhere."""

    reason: str
    pool: str = "-"


TcpDecision = Connect | Refuse


class TcpExchanges:
    """All connections of one listener: its routes by name."""

    __slots__ = ("_default", "_exact", "_wildcards")

    def __init__(self, routes: Sequence[TcpRoute], pools: Mapping[str, Pool]) -> None:
        self._exact: dict[str, Pool] = {}
        self._wildcards: dict[str, Pool] = {}
        self._default: Pool | None = None
        for route in routes:
            name = route.sni.lower().rstrip(".") if route.sni is not None else None
            if name is None:
                self._default = pools[route.pool]
            elif name.startswith("*."):
                self._wildcards[name[2:]] = pools[route.pool]
            else:
                self._exact[name] = pools[route.pool]

    def begin(self, server_name: str, source: str = "") -> TcpDecision:
        """Route a connection by the name (in lower case) that its client asks for; "" when it asks for none.

        `source` is the client's address, the only thing that TCP's hash can be made of.
        """
        pool = self._pool(server_name)
        if pool is None:
            return Refuse("no_route")
        key = source.encode()
        backend = pool.pick(NOTHING_TRIED, key)
        if backend is None:
            return Refuse("no_backend", pool.name)
        return Connect(TcpExchange(server_name, pool, backend, key))

    def _pool(self, server_name: str) -> Pool | None:
        pool = self._exact.get(server_name)
        label, _, parent = server_name.partition(".")
        if pool is None and label:
            pool = self._wildcards.get(parent)
        return pool or self._default

    @staticmethod
    def refused(exchange: TcpExchange) -> TcpDecision:
        """Its backend could not be reached, so nothing was sent."""
        exchange.tried |= {exchange.backend.name}
        backend = exchange.pool.pick(exchange.tried, exchange.source)
        if backend is None:
            return Refuse("refused_everywhere", exchange.pool.name)
        exchange.backend = backend
        return Connect(exchange)
