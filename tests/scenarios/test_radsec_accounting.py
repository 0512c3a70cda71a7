"""Promise: one RadSec connection carries sign-ins and their accounting, and says what may not be asked on it.

radclient ─UDP─▶ radsecproxy ─TLS─▶ mfalb ─UDP─▶ two FreeRADIUS, each with a port for either service.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer, write_secret
from programs.freeradius_records import RecordServer, record_server
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Target, send
from programs.radius_server import RadiusServer
from programs.radsec_client import RADSEC, RadsecClient, access_request, client_tls, connected
from programs.radsec_pool import FAST_CHECK, Trust, make_trust, radsec_listener
from programs.radsecproxy import RadsecParty, proxy_towards_radsec
from pyrad.packet import AcctPacket, CoAPacket, Packet

from mfalb.wire import radius

SECRET = "towards-the-server-1"
CLIENT_SECRET = "towards-the-first-proxy"
USERS = [f"user{number}" for number in range(12)]
STATION = ("Calling-Station-Id", "00-11-22-33-44-55")
CAUSE_406 = (406).to_bytes(4, "big")


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("trust"))


def pool(run_dir: Path, addresses: dict[str, str], secrets: Sequence[str], affinity: dict[str, Any]) -> dict[str, Any]:
    """A pool over UDP, of servers by name."""
    backends = [
        {"name": name, "address": address, "secret_file": write_secret(run_dir / "secrets", name, secret)}
        for (name, address), secret in zip(addresses.items(), secrets, strict=True)
    ]
    return {"backends": backends, "health_check": dict(FAST_CHECK), "affinity": affinity}


# --------------------------------------------------------------------------------------- with other people's programs


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[RecordServer, RecordServer]]:
    """Two FreeRADIUS with different secrets."""
    with ExitStack() as running:
        one, two = (
            running.enter_context(record_server(f"records{number}", tmp_path, f"towards-record-server-{number}"))
            for number in (1, 2)
        )
        yield one, two


@contextmanager
def nas_over_tls(
    servers: Sequence[RecordServer], trust: Trust, run_dir: Path, affinity: dict[str, Any]
) -> Iterator[tuple[Target, Balancer]]:
    """radsecproxy before mfalb, as a UDP client sees it; `affinity` is the accounting pool's."""
    secrets = [server.secret for server in servers]
    sign_ins = {server.name: server.address for server in servers}
    records = {server.name: server.accounting_address for server in servers}
    listener, port = radsec_listener(trust, accounting_pool="records")
    pools = {
        "mfa": pool(run_dir, sign_ins, secrets, {"type": "radius_state"}),
        "records": pool(run_dir, records, secrets, affinity),
    }
    party = RadsecParty(trust.ca, trust.client)
    config = {"listeners": [listener], "pools": pools}
    with Balancer(config, run_dir / "mfalb", secrets=[*secrets, CLIENT_SECRET]) as balancer:
        proxy, udp_port = proxy_towards_radsec(port, party, run_dir / "proxy", CLIENT_SECRET)
        with proxy:
            yield Target(LOOPBACK, udp_port, CLIENT_SECRET, timeout_s=5, tries=1), balancer


def sign_in(user: str) -> list[tuple[str, str]]:
    return [("User-Name", user), ("User-Password", "hello"), STATION]


def record(user: str, status: str, *attributes: tuple[str, str]) -> list[tuple[str, str]]:
    return [("Acct-Status-Type", status), ("User-Name", user), ("Acct-Session-Id", f"session-{user}"), *attributes]


def test_records_follow_their_sessions_over_the_one_connection_that_brings_both(
    servers: tuple[RecordServer, RecordServer], trust: Trust, tmp_path: Path
) -> None:
    """The second half is the proof that the first can fail: nothing but the affinity makes the difference."""
    strays = {}
    for name, affinity in (("followed", {"type": "radius_session", "follows": "mfa"}), ("balanced", {"type": "none"})):
        users = [f"{name}-{user}" for user in USERS]
        with nas_over_tls(servers, trust, tmp_path / name, affinity) as (nas, balancer):
            accepts = send(nas, [sign_in(user) for user in users])
            classes = [accept.attributes["Class"] for accept in accepts if accept]
            sessions = list(zip(users, classes, strict=True))
            by_class = [record(user, "Start", ("Class", one)) for user, one in sessions]
            by_station = [record(user, "Stop", STATION) for user in users]
            # radsecproxy 1.9.2 takes a right Message-Authenticator of an Accounting-Request for a wrong one
            answers = send(nas, [*reversed(by_class), *by_station], kind="acct", is_signed=False)
            page = balancer.metrics()
        assert [answer.code for answer in answers if answer] == ["Accounting-Response"] * 2 * len(users)
        assert page.total("mfalb_listener_connections", listener="radsec") == 1
        assert page.total("mfalb_listener_answers_total", listener="radsec", answer="accept") >= len(users)
        assert page.total("mfalb_listener_answers_total", listener="radsec", answer="accounting") == 2 * len(users)
        assert page.total("mfalb_listener_in_flight", listener="radsec") == 0
        kept = {user: [began_at(server, one, user) for server in servers] for user, one in sessions}
        assert all(sum(count for count, _ in places) == 2 for places in kept.values())
        strays[name] = sum(count for places in kept.values() for count, is_here in places if not is_here)
    assert strays["followed"] == 0
    assert strays["balanced"] >= len(USERS) // 2, "of two records each, about half should go astray"


def began_at(server: RecordServer, session_class: str, user: str) -> tuple[int, bool]:
    """How many records of a user a server has, and whether it let the user in."""
    return len(server.records(user)), bytes.fromhex(session_class[2:]).decode() == f"{server.name}/{user}"


# ---------------------------------------------------------------------------------------- what may not be asked


@dataclass(frozen=True)
class Site:
    """A balancer that takes sign-ins over TLS and nothing else, before one server."""

    balancer: Balancer
    server: RadiusServer
    client: RadsecClient


@pytest.fixture
def site(trust: Trust, tmp_path: Path) -> Iterator[Site]:
    listener, port = radsec_listener(trust)
    with RadiusServer("b1", SECRET) as server:
        pools = {"mfa": pool(tmp_path, {"b1": server.address}, [SECRET], {"type": "radius_state"})}
        config = {"listeners": [listener], "pools": pools}
        with (
            Balancer(config, tmp_path / "mfalb", secrets=[SECRET]) as balancer,
            connected(port, client_tls(trust.ca, trust.client)) as client,
        ):
            yield Site(balancer, server, client)


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        (radius.COA_REQUEST, radius.COA_NAK),
        (radius.DISCONNECT_REQUEST, radius.DISCONNECT_NAK),
        (radius.ACCOUNTING_REQUEST, radius.ACCOUNTING_RESPONSE),
    ],
)
def test_what_a_listener_does_not_offer_is_refused_with_406_and_the_connection_goes_on(
    site: Site, code: int, refusal: int
) -> None:
    """pyrad makes the request and judges the answer."""
    kind = AcctPacket if code == radius.ACCOUNTING_REQUEST else CoAPacket
    request = kind(code=code, id=9, secret=RADSEC.value)
    request[44] = [b"0001"]  # Acct-Session-Id
    request[33] = [b"first", b"second"]  # Proxy-State
    seen = len(site.server.requests)
    site.client.send(bytes(request.RequestPacket()))
    answer = Packet(packet=site.client.packet().data, secret=RADSEC.value)
    assert request.VerifyReply(answer)
    assert (answer.code, answer.id) == (refusal, 9)
    assert [answer[101], answer[33]] == [[CAUSE_406], [b"first", b"second"]]
    assert site.client.ask(access_request()).code == radius.ACCESS_ACCEPT
    assert len(site.server.requests) == seen + 1
    page = site.balancer.metrics()
    assert page.total("mfalb_listener_answers_total", answer="unsupported") == 1
    assert page.total("mfalb_radius_peer_drops_total", peer="nas", reason="unsupported") == 1
    told = "a client asks for what its listener has no service for"
    wait_until(lambda: told in site.balancer.log(), "the warning")


def test_a_forged_request_for_what_is_not_offered_ends_the_connection_without_an_answer(site: Site) -> None:
    forged = radius.content_signed_request(radius.COA_REQUEST, 9, radius.attribute(44, b"0001"), RADSEC)
    site.client.send(forged[:-1] + b"2")
    assert site.client.is_closed()


# ------------------------------------------------------------------------------------------------- refused


def test_what_a_udp_server_s_host_refuses_goes_to_another_server_at_once(trust: Trust, tmp_path: Path) -> None:
    """Over TLS the client does not ask again: nobody but the refusal itself can move the request on."""
    listener, port = radsec_listener(trust)
    with RadiusServer("gone", SECRET) as gone, RadiusServer("alive", SECRET) as alive:
        addresses = {server.name: server.address for server in (gone, alive)}
        quiet = {"health_check": {"type": "radius", "interval": "60s", "rise": 1, "fall": 3}}
        pools = {"mfa": pool(tmp_path, addresses, [SECRET] * 2, {"type": "radius_state"}) | quiet}
        config = {"listeners": [listener], "pools": pools}
        with (
            Balancer(config, tmp_path / "mfalb", secrets=[SECRET]) as balancer,
            connected(port, client_tls(trust.ca, trust.client)) as client,
        ):
            gone.close()
            codes = [client.ask(access_request(identifier=number)).code for number in range(4)]
            refused = balancer.metrics().total("mfalb_backend_failures_total", backend="gone")
    assert codes == [radius.ACCESS_ACCEPT] * 4
    assert refused > 0, "nobody asked the server that is gone"
