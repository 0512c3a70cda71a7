from __future__ import annotations

import pytest
from unit.balancer.pools.pool_builder import backend_config

from mfalb.balancer.config.health_models import HttpCheck, ProbedCheck, SdkCheck, TcpCheck
from mfalb.balancer.config.models import Pool
from mfalb.balancer.health.probes import probe_for
from mfalb.balancer.health.web_calls import said_first
from mfalb.wire.proxy_protocol import ProxyVersion


def pool(send_proxy: ProxyVersion | None = None) -> Pool:
    return Pool(backends=(backend_config("b1"),), send_proxy=send_proxy)


@pytest.mark.parametrize("check", [TcpCheck(type="tcp"), HttpCheck(type="http"), SdkCheck(type="sdk")])
def test_every_kind_of_check_that_has_no_watchdog_has_its_probe(check: ProbedCheck) -> None:
    assert callable(probe_for(check, pool(), None))


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (None, b""),
        (ProxyVersion.V1, b"PROXY UNKNOWN\r\n"),
        (ProxyVersion.V2, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
    ],
)
def test_a_check_begins_as_other_connections_to_its_pool_do(version: ProxyVersion | None, said: bytes) -> None:
    assert said_first(pool(version)) == said
