from __future__ import annotations

import pytest
from unit.balancer.exchange.http_world import make_pool

from mfalb.balancer.config.models import Route
from mfalb.balancer.exchange.routes import RouteTable
from mfalb.wire.http_target import routing_path_untrusted

POOLS = {name: make_pool(name) for name in ("everyone", "named", "deep", "pa", "host_root")}
ROUTES = (
    Route(pool="everyone"),
    Route(path="/pa", pool="pa"),
    Route(host="mfa.contoso.com", path="/", pool="host_root"),
    Route(host="mfa.contoso.com", path="/pa/Deep", pool="deep"),
    Route(host="MFA.contoso.com", path="/pa/", pool="named"),
)


def found(host: bytes, target: bytes, routes: tuple[Route, ...] = ROUTES) -> str | None:
    pool = RouteTable(routes, POOLS).find(host, routing_path_untrusted(target))
    return None if pool is None else pool.name


@pytest.mark.parametrize(
    ("host", "target", "pool"),
    [
        (b"other", b"/", "everyone"),
        (b"other", b"/x", "everyone"),
        (b"", b"/", "everyone"),
        (b"other", b"/pa", "pa"),
        (b"other", b"/pa/", "pa"),
        (b"other", b"/pa/x?y", "pa"),
        (b"other", b"/pa?y=/", "pa"),
        (b"other", b"/party", "everyone"),
        (b"other", b"/PA", "pa"),
        (b"other", b"/%70a", "pa"),
        (b"other", b"/%50%41/x", "pa"),
        (b"other", b"//pa", "pa"),
        (b"other", b"/p%61/x", "pa"),
        (b"other", b"\\pa\\x", "pa"),
        (b"mfa.contoso.com", b"/", "host_root"),
        (b"mfa.contoso.com", b"/party", "host_root"),
        (b"mfa.contoso.com", b"/pa", "named"),
        (b"mfa.contoso.com", b"/pa/dee", "named"),
        (b"mfa.contoso.com", b"/pa/deep", "deep"),
        (b"mfa.contoso.com", b"/PA/DEEP/er", "deep"),
    ],
)
def test_the_longest_path_of_the_named_host_wins(host: bytes, target: bytes, pool: str) -> None:
    assert found(host, target) == pool


def test_a_host_without_a_fitting_path_falls_back_to_routes_for_every_host() -> None:
    routes = (Route(host="mfa.contoso.com", path="/pa", pool="named"), Route(path="/", pool="everyone"))
    assert found(b"mfa.contoso.com", b"/other", routes) == "everyone"


def test_nothing_is_found_where_no_route_leads() -> None:
    routes = (Route(host="mfa.contoso.com", path="/pa", pool="named"),)
    assert found(b"mfa.contoso.com", b"/", routes) is None
    assert found(b"other", b"/pa", routes) is None


def test_the_order_in_the_file_does_not_matter() -> None:
    for target in (b"/", b"/pa", b"/pa/deep", b"/party"):
        for host in (b"mfa.contoso.com", b"other"):
            assert found(host, target, tuple(reversed(ROUTES))) == found(host, target)
