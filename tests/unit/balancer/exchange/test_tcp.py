from __future__ import annotations

import pytest
from unit.balancer.pools.pool_builder import pool_of

from mfalb.balancer.config.balancing_models import Algorithm, HashOfRequest
from mfalb.balancer.config.models import Backend
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.tcp_models import TcpRoute
from mfalb.balancer.config.values import Address
from mfalb.balancer.exchange.tcp import Connect, Refuse, TcpExchanges
from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool

UP = (Health.UP, AdminState.READY)
POOLS = {name: pool_of({name: UP}) for name in ("adfs", "any", "sub", "default")}
ROUTES = (
    TcpRoute(sni="*.contoso.com", pool="any"),
    TcpRoute(sni="ADFS.contoso.com.", pool="adfs"),
    TcpRoute(sni="*.sub.contoso.com", pool="sub"),
)
WITH_DEFAULT = (*ROUTES, TcpRoute(pool="default"))


def leads_to(routes: tuple[TcpRoute, ...], name: str) -> str:
    """The backend, called as its pool is, or the reason of a refusal."""
    decision = TcpExchanges(routes, POOLS).begin(name)
    return decision.exchange.backend.name if isinstance(decision, Connect) else decision.reason


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("adfs.contoso.com", "adfs"),
        ("x.contoso.com", "any"),
        ("sub.contoso.com", "any"),
        ("x.sub.contoso.com", "sub"),
        ("y.x.sub.contoso.com", "no_route"),
        ("contoso.com", "no_route"),
        (".contoso.com", "no_route"),
        ("adfs.contoso.com.evil.example", "no_route"),
        ("", "no_route"),
    ],
)
def test_an_exact_name_comes_before_a_wildcard_for_one_label(name: str, backend: str) -> None:
    assert leads_to(ROUTES, name) == backend
    assert leads_to(WITH_DEFAULT, name) == backend.replace("no_route", "default")


def two() -> tuple[TcpExchanges, Pool]:
    pool = pool_of({"a": UP, "b": UP})
    return TcpExchanges((TcpRoute(pool="web"),), {"web": pool}), pool


def connected(decision: Connect | Refuse) -> Connect:
    assert isinstance(decision, Connect)
    return decision


def test_connections_take_turns() -> None:
    exchanges, _ = two()
    assert [connected(exchanges.begin("")).exchange.backend.name for _ in range(4)] == ["a", "b", "a", "b"]


def test_by_hash_connections_of_one_source_go_to_one_backend_and_refused_ones_to_the_next_in_line() -> None:
    backends = tuple(Backend(name=f"b{n}", address=Address("192.0.2.1", 80 + n)) for n in range(4))
    config = PoolConfig(backends=backends, algorithm=Algorithm.HASH, hash=HashOfRequest(key="source"))
    exchanges = TcpExchanges((TcpRoute(pool="web"),), {"web": Pool("web", config)})
    sources = [f"10.0.0.{number}" for number in range(40)]
    homes = {source: connected(exchanges.begin("", source)).exchange.backend.name for source in sources}
    assert set(homes.values()) == {"b0", "b1", "b2", "b3"}
    for source in sources:
        assert connected(exchanges.begin("other", source)).exchange.backend.name == homes[source]
    second = set()
    for _ in range(3):
        exchange = connected(exchanges.begin("", sources[0])).exchange
        second.add(connected(exchanges.refused(exchange)).exchange.backend.name)
    assert len(second) == 1
    assert second != {homes[sources[0]]}


def test_a_refused_connection_goes_to_another_backend_and_then_nowhere() -> None:
    exchanges, _ = two()
    exchange = connected(exchanges.begin("")).exchange
    first = exchange.backend.name
    assert connected(exchanges.refused(exchange)).exchange.backend.name != first
    assert exchanges.refused(exchange) == Refuse("refused_everywhere", "web")


@pytest.mark.parametrize(
    ("health", "state", "takes"),
    [
        (Health.UP, AdminState.READY, True),
        (Health.UP, AdminState.DRAIN, True),  # nobody else is left
        (Health.UP, AdminState.MAINT, False),
        (Health.DOWN, AdminState.READY, False),
        (Health.UNKNOWN, AdminState.READY, False),
    ],
)
def test_health_and_admin_state_count_for_connections_too(health: Health, state: AdminState, takes: bool) -> None:
    exchanges = TcpExchanges((TcpRoute(pool="web"),), {"web": pool_of({"a": (health, state)})})
    decision = exchanges.begin("")
    assert isinstance(decision, Connect) is takes
    assert takes or decision == Refuse("no_backend", "web")


def test_a_draining_backend_gets_nothing_while_another_is_ready() -> None:
    pool = pool_of({"a": (Health.UP, AdminState.DRAIN), "b": UP})
    exchanges = TcpExchanges((TcpRoute(pool="web"),), {"web": pool})
    assert {connected(exchanges.begin("")).exchange.backend.name for _ in range(4)} == {"b"}
