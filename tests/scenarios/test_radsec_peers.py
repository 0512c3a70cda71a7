"""RadSec with programs that nobody here wrote: radsecproxy as client and as server, FreeRADIUS behind it.

client     radclient ─UDP─▶ radsecproxy ─TLS─▶ mfalb ─UDP─▶ FreeRADIUS
server     radclient ─UDP─▶ mfalb ─TLS─▶ radsecproxy ─UDP─▶ FreeRADIUS
both       radclient ─UDP─▶ radsecproxy ─TLS─▶ mfalb ─TLS─▶ radsecproxy ─UDP─▶ FreeRADIUS
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.challenge import sign_in_all
from programs.eapol import EapTarget, Method, mac_of, sign_in, write_supplicant_config
from programs.freeradius import OTP_FIRST_PASSWORD, FreeRadius, TestUser
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Program, wait_until
from programs.radclient import Target, send
from programs.radius_pool import radius_pool
from programs.radsec_pool import (
    BALANCER_NAME,
    FAST_CHECK,
    Trust,
    make_trust,
    pool_of,
    radsec_listener,
    tls_backends,
    upstream_tls,
)
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
    proxies: tuple[Program, ...]

    def backends_up(self) -> float:
        return self.balancer.metrics().total("mfalb_backend_up")

    def crash_proxies(self) -> None:
        """Kills every radsecproxy, in the middle of whatever it is at, and starts it again."""
        for proxy in self.proxies:
            proxy.kill()
        for proxy in self.proxies:
            proxy.forget_log()
            proxy.start()


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("trust"))


@contextmanager
def way_to(servers: Sequence[FreeRadius], side: Side, trust: Trust, run_dir: Path) -> Iterator[Way]:
    with ExitStack() as stack:
        plain = radius_pool(servers, run_dir, client_secret=CLIENT_SECRET)
        proxies: list[Program] = []
        (udp_listener,), pool = plain.config["listeners"], plain.config["pools"]["mfa"]
        if side is not Side.CLIENT:
            proxies, pool = tls_pool(stack, servers, trust, run_dir)
        listener, port = (udp_listener, plain.port) if side is Side.SERVER else radsec_listener(trust)
        config = {"listeners": [listener], "pools": {"mfa": pool}}
        balancer = stack.enter_context(Balancer(config, run_dir / "mfalb", secrets=plain.secrets))
        if side is not Side.SERVER:
            party = RadsecParty(trust.ca, trust.client)
            proxy, port = proxy_towards_radsec(port, party, run_dir / "first-proxy", CLIENT_SECRET)
            proxies.append(stack.enter_context(proxy))
        yield Way(balancer, port, CLIENT_SECRET, tuple(proxies))


def tls_pool(
    stack: ExitStack, servers: Sequence[FreeRadius], trust: Trust, run_dir: Path, first: RadsecParty | None = None
) -> tuple[list[Program], dict[str, Any]]:
    """Before each server a radsecproxy of its own, already running, and the pool of these.

    `first` is who the first one is, if it is not as honest as the others.
    """
    ports = {server.name: free_tcp_port() for server in servers}
    honest = RadsecParty(trust.ca, trust.server, BALANCER_NAME)
    proxies: list[Program] = []
    for server, party in zip(servers, [first or honest, *[honest] * (len(servers) - 1)], strict=True):
        proxy = proxy_from_radsec(server, party, run_dir / f"proxy-{server.name}", ports[server.name])
        proxies.append(stack.enter_context(proxy))
    return proxies, pool_of(tls_backends(ports), upstream_tls=upstream_tls(trust), health_check=dict(FAST_CHECK))


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


# ------------------------------------------------------------------------------------------- who dies


@pytest.mark.parametrize("side", list(Side), ids=lambda side: side.value)
def test_peers_that_crash_in_the_middle_of_sign_ins_cost_nobody_a_sign_in(
    otp_servers: Servers, side: Side, trust: Trust, tmp_path: Path
) -> None:
    """Every connection is cut between the halves. The States come back over new ones, to the servers that made them."""
    with way_to(otp_servers, side, trust, tmp_path) as way:

        def crash() -> None:
            way.crash_proxies()
            wait_until(lambda: way.backends_up() == len(otp_servers), "both servers to be up")

        target = Target(LOOPBACK, way.port, way.secret, parallel=8)
        outcome = sign_in_all(target, USERS, seed=2, between=crash)
    assert outcome.accepted == len(USERS), str(outcome)
    assert min(server.sign_ins() for server in otp_servers) >= len(USERS) // 5


# ------------------------------------------------------------------------------------ who is not believed


@pytest.mark.parametrize("trouble", ["other authority", "other name", "refuses our authority", "refuses our name"])
def test_a_server_that_is_not_believed_or_does_not_believe_us_gets_no_sign_in(
    otp_servers: Servers, trouble: str, trust: Trust, tmp_path: Path
) -> None:
    party, reason = {
        "other authority": (RadsecParty(trust.ca, trust.foreign_server), "unable to get local issuer"),
        "other name": (RadsecParty(trust.ca, trust.misnamed), "IP address mismatch"),
        "refuses our authority": (RadsecParty(trust.foreign_ca, trust.server), "unknown ca"),
        "refuses our name": (RadsecParty(trust.ca, trust.server, "somebody-else"), "connection closed"),
    }[trouble]
    with ExitStack() as stack:
        plain = radius_pool(otp_servers, tmp_path, client_secret=CLIENT_SECRET)
        _, pool = tls_pool(stack, otp_servers, trust, tmp_path, first=party)
        config = {"listeners": plain.config["listeners"], "pools": {"mfa": pool}}
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb", secrets=plain.secrets))
        outcome = sign_in_all(Target(LOOPBACK, plain.port, CLIENT_SECRET, parallel=8), USERS[:10], seed=3)
        first, second = json.loads(balancer.get("/status"))["pools"]["mfa"]
    assert outcome.accepted == 10, str(outcome)
    assert [server.sign_ins() for server in otp_servers] == [0, 10]
    assert (first["health"], second["health"]) == ("down", "up")
    assert reason in first["reason"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A client and a listener of which one does not believe the other, and where that is said."""

    believes: str
    shows: str
    listener_shows: str
    drop: str | None  # by the balancer's metrics
    complaint: str  # in the client's log


REFUSALS = {
    "client of another authority": Refused("ca", "foreign", "balancer", "client_certificate_refused", ""),
    "client of another name": Refused("ca", "stranger", "balancer", "unknown_client", ""),
    "balancer of another authority": Refused("foreign_ca", "client", "balancer", "tls_failed", "verify"),
    "balancer of another name": Refused("ca", "client", "misnamed", None, "name check failed"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_client_that_is_not_believed_or_does_not_believe_us_signs_nobody_in(
    otp_servers: Servers, name: str, trust: Trust, tmp_path: Path
) -> None:
    case = REFUSALS[name]
    plain = radius_pool(otp_servers, tmp_path, client_secret=CLIENT_SECRET)
    listener, tls_port = radsec_listener(trust)
    shown = getattr(trust, case.listener_shows)
    listener["tls"]["certificates"] = [{"cert": str(shown.cert), "key": str(shown.key)}]
    config = {"listeners": [listener], "pools": plain.config["pools"]}
    party = RadsecParty(getattr(trust, case.believes), getattr(trust, case.shows))
    proxy, port = proxy_towards_radsec(tls_port, party, tmp_path / "proxy", CLIENT_SECRET)
    with Balancer(config, tmp_path / "mfalb", secrets=plain.secrets) as balancer, proxy:
        if case.drop is not None:
            wait_until(lambda: drops(balancer, str(case.drop)) > 0, f"{case.drop} to be counted")
        wait_until(lambda: case.complaint in proxy.log(), f"radsecproxy to say {case.complaint}")
        sign_in = [("User-Name", "alice"), ("User-Password", OTP_FIRST_PASSWORD)]
        answers = send(Target(LOOPBACK, port, CLIENT_SECRET, timeout_s=1, tries=1), [sign_in])
        assert balancer.metrics().total("mfalb_listener_requests_total") == 0
    assert answers == [None]


def drops(balancer: Balancer, reason: str) -> float:
    with suppress(KeyError):  # nothing was dropped so far
        return balancer.metrics().total("mfalb_listener_drops_total", reason=reason)
    return 0
