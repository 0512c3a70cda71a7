from __future__ import annotations

import pytest
from unit.balancer.pools.pool_builder import pool_of

from mfalb.balancer.config.tcp_models import TcpRoute
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
