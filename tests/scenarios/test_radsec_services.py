"""Promise: accounting and dynamic authorization go over TLS as sign-ins do, each on a port of its own.

Records: radclient ─UDP─▶ radsecproxy ─TLS─▶ mfalb ─TLS─▶ radsecproxy ─UDP─▶ FreeRADIUS, which discards a record whose
authenticator is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer
from programs.freeradius_records import RecordServer, record_server
from programs.ports import LOOPBACK, free_tcp_port
from programs.radclient import Target, send
from programs.radsec_client import RADSEC, RadsecClient, client_tls, connected
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
from programs.radsec_server import RadsecServer, server_tls
from programs.radsecproxy import RadsecParty, proxy_from_radsec, proxy_towards_radsec

from mfalb.wire import radius

CLIENT_SECRET = "towards-the-first-proxy"
USERS = [f"user{number}" for number in range(12)]
STATION = ("Calling-Station-Id", "00-11-22-33-44-55")
Servers = tuple[RecordServer, RecordServer]


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("trust"))


# ------------------------------------------------------------------------------------------- accounting


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with ExitStack() as running:
        one, two = (
            running.enter_context(record_server(f"records{number}", tmp_path, f"towards-record-server-{number}"))
            for number in (1, 2)
        )
        yield one, two


def service(trust: Trust, kind: str, **more: object) -> tuple[dict[str, Any], int]:
    """A listener for one service, and its port; the pool has the same name."""
    return radsec_listener(trust, pool=kind, name=kind, service=kind, add_proxy_state="never", **more)


@pytest.mark.parametrize("is_followed", [True, False])
def test_records_reach_the_server_that_let_the_session_in_as_they_were_sent(
    servers: Servers, trust: Trust, tmp_path: Path, *, is_followed: bool
) -> None:
    """That some go astray when they are not followed is the proof that the first case can fail."""
    secrets = [CLIENT_SECRET, *(server.secret for server in servers)]
    with ExitStack() as stack:
        ports = {server.name: free_tcp_port() for server in servers}
        for server in servers:
            party = RadsecParty(trust.ca, trust.server, BALANCER_NAME)
            stack.enter_context(proxy_from_radsec(server, party, tmp_path / f"proxy-{server.name}", ports[server.name]))
        (sign_ins, port), (records, records_port) = service(trust, "authentication"), service(trust, "accounting")
        # One port of radsecproxy takes both kinds (RFC 6614 section 2.1), so both pools lead there
        common = {"upstream_tls": upstream_tls(trust), "health_check": dict(FAST_CHECK)}
        follow = {"type": "radius_session", "follows": "authentication"} if is_followed else {"type": "none"}
        pools = {
            "authentication": pool_of(tls_backends(ports), **common),
            "accounting": pool_of(tls_backends(ports), **common) | {"affinity": follow},
        }
        config = {"listeners": [sign_ins, records], "pools": pools}
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb", secrets=secrets))
        party = RadsecParty(trust.ca, trust.client)
        proxy, udp_port = proxy_towards_radsec(port, party, tmp_path / "first-proxy", CLIENT_SECRET, records_port)
        stack.enter_context(proxy)
        nas = Target(LOOPBACK, udp_port, CLIENT_SECRET, timeout_s=5, tries=1)
        accepts = send(nas, [[("User-Name", user), ("User-Password", "hello"), STATION] for user in USERS])
        classes = [accept.attributes["Class"] for accept in accepts if accept]
        sent = [record(user, one) for user, one in zip(USERS, classes, strict=True)]
        # Unsigned: radclient and radsecproxy do not agree on what a Message-Authenticator of a record is made of
        answers = send(nas, [*reversed(sent)], kind="acct", is_signed=False)
        counted = balancer.metrics().total("mfalb_listener_answers_total", listener="accounting", answer="accounting")
    assert [answer.code if answer else None for answer in answers] == ["Accounting-Response"] * len(USERS)
    assert counted == len(USERS)
    strays = 0
    for user, one in zip(USERS, classes, strict=True):
        ((keeper, kept),) = [(server.name, kept) for server in servers for kept in server.records(user)]
        assert kept == (
            f'Acct-Status-Type = Start, User-Name = "{user}", Acct-Session-Id = "session-{user}", Class = {one}, '
            'Cisco-AVPair = "one=1", Attr-230 = 0x6f6464, Cisco-AVPair = "two=2"'
        )
        strays += bytes.fromhex(one[2:]).decode() != f"{keeper}/{user}"
    assert strays == 0 if is_followed else strays >= 2
    assert min(len(server.records()) for server in servers) >= len(USERS) // 3


def record(user: str, class_value: str) -> list[tuple[str, str]]:
    return [
        ("Acct-Status-Type", "Start"),
        ("User-Name", user),
        ("Acct-Session-Id", f"session-{user}"),
        ("Class", class_value),
        ("Cisco-AVPair", "one=1"),
        ("Attr-230", "0x6f6464"),
        ("Cisco-AVPair", "two=2"),
    ]


# ------------------------------------------------------------------------------------ dynamic authorization


def disconnect(nas: str, identifier: int) -> bytes:
    body = radius.attribute(radius.USER_NAME, b"alice") + radius.attribute(radius.NAS_IDENTIFIER, nas.encode())
    return radius.content_signed_request(radius.DISCONNECT_REQUEST, identifier, body, RADSEC)


def ask(client: RadsecClient, nas: str, identifier: int) -> tuple[int, int | None]:
    """The code of the answer, and its Error-Cause."""
    request = disconnect(nas, identifier)
    answer = client.ask(request)
    assert radius.has_valid_response_authenticator(answer, RADSEC, request[4:20])
    cause = answer.first(radius.ERROR_CAUSE)
    return answer.code, int.from_bytes(cause, "big") if cause else None


def test_a_disconnect_reaches_the_nas_it_names_and_is_refused_at_once_when_there_is_none(
    trust: Trust, tmp_path: Path
) -> None:
    listener, port = service(trust, "dynamic_authorization")
    tls = server_tls(trust.server, trust.ca)
    with ExitStack() as stack:
        gates = [stack.enter_context(RadsecServer(name, tls)) for name in ("gate1", "gate2")]
        for gate in gates:
            gate.answers = lambda request, gate=gate: [gate.signed(request, radius.DISCONNECT_ACK)]  # type: ignore[misc]
        named = tls_backends({gate.name: gate.port for gate in gates} | {"gone": free_tcp_port()})
        backends = [one | {"nas": {"identifiers": [one["name"]]}} for one in named]
        pool = {"backends": backends, "upstream_tls": upstream_tls(trust), "connect_timeout": "1s"}
        config = {"listeners": [listener], "pools": {"dynamic_authorization": pool}}
        stack.enter_context(Balancer(config, tmp_path / "mfalb"))
        client = stack.enter_context(connected(port, client_tls(trust.ca, trust.client)))
        assert [ask(client, gate, number) for number, gate in enumerate(("gate2", "gate1", "gate2"))] == [
            (radius.DISCONNECT_ACK, None)
        ] * 3
        assert ask(client, "nobody", 3) == (radius.DISCONNECT_NAK, 502)
    assert [len(gate.requests) for gate in gates] == [1, 2]
    for request in (request for gate in gates for request in gate.requests):
        assert radius.has_valid_content_authenticator(request, RADSEC)
