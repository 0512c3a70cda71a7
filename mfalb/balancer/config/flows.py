"""What a balancer's configuration says of connections: who comes to its listeners, and whom it calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from mfalb.balancer.config.document import Document, Loc
from mfalb.balancer.config.health_models import RadiusCheck
from mfalb.balancer.config.models import Config, HttpListener, Pool
from mfalb.balancer.config.radius_models import RadiusClient, RadiusListener, ServiceKind
from mfalb.balancer.config.radsec_models import RadsecClient, RadsecListener
from mfalb.balancer.config.tcp_models import TcpListener
from mfalb.balancer.config.values import Address
from mfalb.flows.values import Call, Caller, Comers, Door, Spot, Traffic, Transport

_SERVICES = {
    ServiceKind.AUTHENTICATION: "RADIUS",
    ServiceKind.ACCOUNTING: "RADIUS accounting",
    ServiceKind.DYNAMIC_AUTHORIZATION: "RADIUS dynamic authorization",
}


def traffic(config: Config, document: Document) -> Traffic:
    """Doors and calls of a configuration, with the lines of the document that it was read from."""
    reader = _Reader(config, document)
    return Traffic(tuple(reader.doors()), tuple(reader.calls()))


@dataclass(frozen=True, slots=True)
class _Reader:
    config: Config
    document: Document

    # ------------------------------------------------------------------------------ doors

    def doors(self) -> Iterator[Door]:
        for index, listener in enumerate(self.config.listeners):
            loc: Loc = ("listeners", index)
            match listener:
                case HttpListener() | TcpListener():
                    yield from self._stream_doors(loc, listener)
                case RadiusListener() | RadsecListener():
                    yield from self._radius_doors(loc, listener)
                case _:
                    assert_never(listener)
        line = self._line(("admin", "bind"))
        yield Door(_spot(self.config.admin.bind), "status and metrics, with no authentication", line, Comers.ALLOWED)

    def _stream_doors(self, loc: Loc, listener: HttpListener | TcpListener) -> Iterator[Door]:
        """Anybody may come; who does, is told by what is behind."""
        leads_to = tuple(
            _spot(backend.address)
            for route in listener.routes
            if (pool := self.config.pools.get(route.pool)) is not None
            for backend in pool.backends
        )
        for spot, line in self._binds(loc, listener.bind):
            yield Door(spot, _purpose(listener), line, Comers.AS_BEHIND, leads_to=leads_to)
            if listener.proxy_protocol is not None:
                networks = tuple(str(network) for network in listener.proxy_protocol.from_)
                at = self._line((*loc, "proxy_protocol", "from"))
                yield Door(spot, "load balancers with PROXY protocol", at, Comers.ALLOWED, networks)

    def _radius_doors(self, loc: Loc, listener: RadiusListener | RadsecListener) -> Iterator[Door]:
        """Only known clients are answered: with each network that they may come from."""
        transport = Transport.UDP if isinstance(listener, RadiusListener) else Transport.TCP
        over = "" if transport is Transport.UDP else " over TLS"
        for spot, _ in self._binds(loc, listener.bind, transport):
            clients: tuple[RadiusClient | RadsecClient, ...] = listener.clients
            for index, client in enumerate(clients):
                networks = () if client.network is None else (str(client.network),)
                line = self._line((*loc, "clients", index, "network"))
                purpose = f"{_SERVICES[listener.service]}{over} of {client.name}"
                yield Door(spot, purpose, line, Comers.ALLOWED, networks)

    def _binds(
        self, loc: Loc, binds: tuple[Address, ...], transport: Transport = Transport.TCP
    ) -> Iterator[tuple[Spot, int]]:
        for index, bind in enumerate(binds):
            yield _spot(bind, transport), self._line((*loc, "bind", index))

    # ------------------------------------------------------------------------------ calls

    def calls(self) -> Iterator[Call]:
        """Traffic and health checks go to the same port."""
        for name, pool in self.config.pools.items():
            transport = Transport.UDP if self._is_by_datagrams(name, pool) else Transport.TCP
            for index, backend in enumerate(pool.backends):
                line = self._line(("pools", name, "backends", index, "address"))
                yield Call(_spot(backend.address, transport), f"pool {name}", line, Caller.FOR_OTHERS)
        store = self.config.pins.store
        if store is not None:
            is_found = "" if store.sentinel is None and not store.cluster else " (and to the servers that it names)"
            for index, address in enumerate(store.addresses):
                line = self._line(("pins", "store", "addresses", index))
                yield Call(_spot(address), f"shared pins{is_found}", line)

    def _is_by_datagrams(self, name: str, pool: Pool) -> bool:
        radius = (one for one in self.config.listeners if isinstance(one, RadiusListener | RadsecListener))
        is_radius = any(name in one.pools.values() for one in radius) or isinstance(pool.health_check, RadiusCheck)
        return is_radius and pool.upstream_tls is None

    def _line(self, loc: Loc) -> int:
        return self.document.at_value(loc).line


def _spot(address: Address, transport: Transport = Transport.TCP) -> Spot:
    return Spot(address.host, address.port, transport)


def _purpose(listener: HttpListener | TcpListener) -> str:
    """What comes, and the names that it comes for."""
    if isinstance(listener, HttpListener):
        return _for(listener.protocol, [route.host for route in listener.routes], listener.name)
    kind = "TLS passed through" if listener.reads_names else "TCP passed through"
    return _for(kind, [route.sni for route in listener.routes], listener.name)


def _for(kind: str, names: list[str | None], otherwise: str) -> str:
    told = ", ".join(dict.fromkeys(name for name in names if name is not None))
    return f"{kind} for {told or otherwise}"
