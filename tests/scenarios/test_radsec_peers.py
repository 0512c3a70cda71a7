"""RadSec with programs that nobody here wrote: radsecproxy as client and as server, FreeRADIUS behind it.

client     radclient ─UDP─▶ radsecproxy ─TLS─▶ mfalb ─UDP─▶ FreeRADIUS
server     radclient ─UDP─▶ mfalb ─TLS─▶ radsecproxy ─UDP─▶ FreeRADIUS
both       radclient ─UDP─▶ radsecproxy ─TLS─▶ mfalb ─TLS─▶ radsecproxy ─UDP─▶ FreeRADIUS
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.challenge import sign_in_all
from programs.eapol import EapTarget, Method, mac_of, sign_in, write_supplicant_config
from programs.freeradius import FreeRadius, TestUser
from programs.ports import LOOPBACK, free_tcp_port
from programs.radclient import Target
from programs.radius_pool import radius_pool
from programs.radsec_pool import FAST_CHECK, Trust, make_trust, pool_of, radsec_listener, tls_backends, upstream_tls
from programs.radsecproxy import RadsecParty, proxy_from_radsec, proxy_towards_radsec

Servers = tuple[FreeRadius, FreeRadius]
CLIENT_SECRET = "towards-the-first-proxy"
USERS = [f"user{number}" for number in range(40)]


class Side(Enum):
    """Where radsecproxy speaks RadSec with the balancer."""

    CLIENT = "client"
    SERVER = "server"
    BOTH = "both"


@dataclass(frozen=True)
class Way:
    """A way to two servers that has TLS in it; what a UDP client needs to know of it."""

    balancer: Balancer
    port: int
    secret: str


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("trust"))


@contextmanager
def way_to(servers: Sequence[FreeRadius], side: Side, trust: Trust, run_dir: Path) -> Iterator[Way]:
    with ExitStack() as stack:
        plain = radius_pool(servers, run_dir, client_secret=CLIENT_SECRET)
        (udp_listener,), pool = plain.config["listeners"], plain.config["pools"]["mfa"]
        if side is not Side.CLIENT:
            pool = tls_pool(stack, servers, trust, run_dir)
        listener, port = (udp_listener, plain.port) if side is Side.SERVER else radsec_listener(trust)
        config = {"listeners": [listener], "pools": {"mfa": pool}}
        balancer = stack.enter_context(Balancer(config, run_dir / "mfalb", secrets=plain.secrets))
        if side is not Side.SERVER:
            party = RadsecParty(trust.ca, trust.client)
            proxy, port = proxy_towards_radsec(port, party, run_dir / "first-proxy", CLIENT_SECRET)
            stack.enter_context(proxy)
        yield Way(balancer, port, CLIENT_SECRET)


def tls_pool(stack: ExitStack, servers: Sequence[FreeRadius], trust: Trust, run_dir: Path) -> dict[str, Any]:
    """A pool over TLS: before each server a radsecproxy of its own, already running."""
    ports = {server.name: free_tcp_port() for server in servers}
    for server in servers:
        party = RadsecParty(trust.ca, trust.server)
        stack.enter_context(proxy_from_radsec(server, party, run_dir / f"proxy-{server.name}", ports[server.name]))
    return pool_of(tls_backends(ports), upstream_tls=upstream_tls(trust), health_check=dict(FAST_CHECK))


@pytest.mark.parametrize("side", list(Side), ids=lambda side: side.value)
def test_every_challenge_is_answered_at_the_server_that_asked(
    otp_servers: Servers, side: Side, trust: Trust, tmp_path: Path
) -> None:
    """PAP both times: passwords are hidden anew for each hop, the State passes untouched."""
    with way_to(otp_servers, side, trust, tmp_path) as way:
        outcome = sign_in_all(Target(LOOPBACK, way.port, way.secret, parallel=8), USERS, seed=1)
    served = [server.sign_ins() for server in otp_servers]
    assert outcome.accepted == len(USERS), f"{outcome}; by server: {served}"
    assert min(served) >= len(USERS) // 5, f"one server was hardly used: {served}"


@pytest.mark.parametrize("side", list(Side), ids=lambda side: side.value)
def test_eap_shares_its_keys_through_tls(
    eap_servers: Servers, side: Side, trust: Trust, certificate: CertificateFiles, tmp_path: Path
) -> None:
    user, config = TestUser(), tmp_path / "supplicant.conf"
    write_supplicant_config(config, Method.PEAP_MSCHAPV2, user, certificate)
    with way_to(eap_servers, side, trust, tmp_path) as way:
        target = EapTarget(LOOPBACK, way.port, way.secret)
        results = [sign_in(target, config, mac_of(number)) for number in range(6)]
    failed = [result for result in results if not result.is_perfect]
    assert not failed, f"{len(failed)} of {len(results)} failed; the first one:\n{failed[0]}\n{failed[0].log_tail}"
    assert sum(server.sign_ins() for server in eap_servers) == len(results)
