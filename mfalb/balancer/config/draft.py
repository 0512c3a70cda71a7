"""What of a file is right by itself, although other parts may not be: so one run can report on names and files too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from mfalb.balancer.config.document import Document, Loc, Position
from mfalb.balancer.config.models import Admin, HttpListener, Listener, Pins, Pool, Route
from mfalb.balancer.config.radius_models import RadiusListener, ServiceKind
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.config.tcp_models import TcpListener, TcpRoute
from mfalb.balancer.config.values import Origin

_Value = TypeVar("_Value")
AnyListener = HttpListener | TcpListener | RadiusListener | RadsecListener
_LISTENER: TypeAdapter[AnyListener] = TypeAdapter(Listener)
_POOL = TypeAdapter(Pool)
_ADMIN = TypeAdapter(Admin)
_PINS = TypeAdapter(Pins)


@dataclass(frozen=True, slots=True)
class RadiusUse:
    """A RADIUS listener leads to a pool for a service: `key` of the listener at `listener_at` says to which one."""

    listener_at: Loc
    key: str
    listener: RadiusListener | RadsecListener
    service: ServiceKind
    pool: str

    @property
    def at(self) -> Loc:
        """Where the pool's name stands."""
        return (*self.listener_at, self.key)


@dataclass(frozen=True, slots=True)
class Draft:
    """Listeners (by index) and pools (by name) that stand for themselves; None for a broken section.

    `pool_names` also has the pools that are broken: a reference to one is no second error.
    """

    document: Document
    listeners: dict[int, AnyListener]
    pools: dict[str, Pool]
    pool_names: frozenset[str]
    admin: Admin | None
    pins: Pins | None
    is_whole: bool

    def http_listeners(self) -> Iterator[tuple[Loc, HttpListener]]:
        """Each HTTP listener and where it stands."""
        for index, listener in self.listeners.items():
            if isinstance(listener, HttpListener):
                yield ("listeners", index), listener

    def radius_listeners(self) -> Iterator[tuple[Loc, RadiusListener | RadsecListener]]:
        """Each RADIUS listener, over UDP or TLS, and where it stands."""
        for index, listener in self.listeners.items():
            if isinstance(listener, RadiusListener | RadsecListener):
                yield ("listeners", index), listener

    def udp_radius_listeners(self) -> Iterator[tuple[Loc, RadiusListener]]:
        """Each RADIUS listener over UDP and where it stands."""
        for loc, listener in self.radius_listeners():
            if isinstance(listener, RadiusListener):
                yield loc, listener

    def radius_uses(self) -> Iterator[RadiusUse]:
        """Each pool that a RADIUS listener leads to, and where it says so."""
        for loc, listener in self.radius_listeners():
            for service, pool in listener.pools.items():
                key = "pool" if service is listener.service else "accounting_pool"
                yield RadiusUse(loc, key, listener, service, pool)

    def routes(self) -> Iterator[tuple[Loc, Route]]:
        """Each route of each HTTP listener and where it stands."""
        for loc, listener in self.http_listeners():
            for index, route in enumerate(listener.routes):
                yield (*loc, "routes", index), route

    def http_pools(self) -> frozenset[str]:
        """Names of the pools that routes lead to."""
        return frozenset(route.pool for _, route in self.routes())

    def tcp_listeners(self) -> Iterator[tuple[Loc, TcpListener]]:
        """Each TCP listener and where it stands."""
        for index, listener in self.listeners.items():
            if isinstance(listener, TcpListener):
                yield ("listeners", index), listener

    def tcp_routes(self) -> Iterator[tuple[Loc, TcpRoute]]:
        """Each route of each TCP listener and where it stands."""
        for loc, listener in self.tcp_listeners():
            for index, route in enumerate(listener.routes):
                yield (*loc, "routes", index), route

    def tcp_pools(self) -> frozenset[str]:
        """Names of the pools that TCP connections go to."""
        return frozenset(route.pool for _, route in self.tcp_routes())

    def radius_pools(self) -> frozenset[str]:
        """Names of the pools that RADIUS listeners lead to."""
        return frozenset(use.pool for use in self.radius_uses())

    def pools_for(self, service: ServiceKind) -> frozenset[str]:
        """Names of the pools that RADIUS listeners of this service lead to."""
        return frozenset(use.pool for use in self.radius_uses() if use.service is service)

    def at_affinity(self, pool: str) -> Position:
        """Where the kind of a pool's affinity is written: its preset or its type."""
        loc = ("pools", pool, "affinity")
        return self.document.values.get((*loc, "preset")) or self.document.at_value((*loc, "type"))


def draft(document: Document, folder: Path) -> Draft:
    """Salvages every listener, pool and section of `document` (presets and secrets already in place)."""
    data = document.data if isinstance(document.data, dict) else {}
    origin = Origin(folder)
    raw_listeners, raw_pools = _items(data.get("listeners")), _entries(data.get("pools"))
    listeners = {index: _salvaged(_LISTENER, raw, origin) for index, raw in enumerate(raw_listeners)}
    pools = {name: _salvaged(_POOL, raw, origin) for name, raw in raw_pools.items()}
    admin = _salvaged(_ADMIN, data.get("admin", {}), origin)
    pins = _salvaged(_PINS, data.get("pins", {}), origin)
    return Draft(
        document=document,
        listeners={index: listener for index, listener in listeners.items() if listener is not None},
        pools={name: pool for name, pool in pools.items() if pool is not None},
        pool_names=frozenset(raw_pools),
        admin=admin,
        pins=pins,
        is_whole=bool(listeners) and None not in listeners.values() and None not in pools.values(),
    )


def _salvaged(adapter: TypeAdapter[_Value], raw: object, origin: Origin) -> _Value | None:
    try:
        return adapter.validate_python(raw, context=origin, by_alias=True, by_name=False)
    except ValidationError:
        return None  # reported by the validation of the whole file


def _items(raw: object) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _entries(raw: object) -> dict[str, Any]:
    return raw if isinstance(raw, dict) else {}
