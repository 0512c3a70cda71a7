"""Promise: records reach accounting servers as their NAS sent them, at the server that let the session in.

The servers are FreeRADIUS, which discards a record whose authenticator is wrong; the NAS is radclient or pyrad.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest
from programs.balancer import Balancer
from programs.freeradius_records import RecordServer, record_server
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Target, send
from programs.radius_server import RadiusServer
from programs.radius_services import CLIENT_SECRET, WATCHED, Services
from programs.redis import Redis, store_config
from pyrad.client import Client, Timeout
from pyrad.packet import AccountingResponse, AcctPacket, AuthPacket, Packet, StatusServer

from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

Servers = tuple[RecordServer, RecordServer]
USERS = [f"user{number}" for number in range(12)]
SESSION_PINS = {"type": "radius_session", "follows": "authentication"}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Two FreeRADIUS with different secrets, both other than the client's."""
    with ExitStack() as running:
        one, two = (
            running.enter_context(record_server(f"records{number}", tmp_path, f"towards-record-server-{number}"))
            for number in (1, 2)
        )
        yield one, two


def services(servers: Servers, run_dir: Path, **pool: object) -> Services:
    """Authentication and accounting before both servers; `pool` are keys of the accounting pool."""
    made = Services(run_dir)
    backends = [{"name": server.name, "secret": server.secret} for server in servers]
    made.add(
        "authentication",
        [one | {"address": server.address} for one, server in zip(backends, servers, strict=True)],
        {"affinity": {"type": "radius_state"}, **WATCHED},
    )
    made.add(
        "accounting",
        [one | {"address": server.accounting_address} for one, server in zip(backends, servers, strict=True)],
        {**WATCHED, **pool},
    )
    return made


@contextmanager
def balancer(made: Services) -> Iterator[Balancer]:
    with Balancer(made.config, made.run_dir / "mfalb", secrets=made.secrets) as running:
        yield running


def nas(made: Services, service: str = "accounting") -> Target:
    return Target(LOOPBACK, made.ports[service], CLIENT_SECRET, timeout_s=5, tries=1)


def record(user: str, *attributes: tuple[str, str], status: str = "Start") -> list[tuple[str, str]]:
    return [("Acct-Status-Type", status), ("User-Name", user), ("Acct-Session-Id", f"session-{user}"), *attributes]


def test_a9_records_reach_freeradius_with_every_attribute_and_are_shared_among_servers(
    servers: Servers, tmp_path: Path
) -> None:
    made = services(servers, tmp_path)
    more = (
        ("Class", "a class"),
        ("Proxy-State", "first"),
        ("Cisco-AVPair", "one=1"),
        ("Attr-230", "0x6f6464"),
        ("Cisco-AVPair", "two=2"),
        ("Acct-Delay-Time", "3"),
        ("Proxy-State", "second"),
    )
    with balancer(made) as running:
        answers = send(nas(made), [record(user, *more) for user in USERS], kind="acct")
        answered = running.metrics().total("mfalb_listener_answers_total", listener="accounting", answer="accounting")
    assert [answer.code if answer else None for answer in answers] == ["Accounting-Response"] * len(USERS)
    assert answered == len(USERS)
    shares = [len(server.records()) for server in servers]
    assert sum(shares) == len(USERS)
    assert min(shares) >= len(USERS) // 3
    for user in USERS:
        (kept,) = [kept for server in servers for kept in server.records(user)]
        assert kept == (
            f'Acct-Status-Type = Start, User-Name = "{user}", Acct-Session-Id = "session-{user}", '
            'Class = 0x6120636c617373, Proxy-State = 0x6669727374, Cisco-AVPair = "one=1", Attr-230 = 0x6f6464, '
            'Cisco-AVPair = "two=2", Acct-Delay-Time = 3, Proxy-State = 0x7365636f6e64'
        )


def test_e6_a_server_that_signs_its_answers_is_believed_and_so_are_we(tmp_path: Path) -> None:
    """FreeRADIUS makes its Message-Authenticator over zeros here, and radclient, of the same house, checks ours so."""
    with record_server("signing", tmp_path, "towards-record-server-1", is_signing=True) as server:
        made = services((server, server), tmp_path / "made")
        for pool in made.config["pools"].values():
            del pool["backends"][1]
        with balancer(made):
            answers = send(nas(made), [record(user) for user in USERS], kind="acct")
    assert [answer.code if answer else None for answer in answers] == ["Accounting-Response"] * len(USERS)
    assert all(answer and "Message-Authenticator" in answer.attributes for answer in answers)


def test_records_follow_their_sessions_and_without_being_told_to_they_do_not(servers: Servers, tmp_path: Path) -> None:
    """The second half is the proof that the first can fail: nothing but the affinity makes the difference."""
    strays = {}
    for name, affinity in (("followed", SESSION_PINS), ("balanced", {"type": "none"})):
        made = services(servers, tmp_path / name, affinity=affinity)
        users = [f"{name}-{user}" for user in USERS]
        with balancer(made):
            accepts = send(nas(made, "authentication"), [sign_in(user) for user in users])
            classes = [accept.attributes["Class"] for accept in accepts if accept]
            sessions = list(zip(users, classes, strict=True))
            by_class = [record(user, ("Class", one)) for user, one in sessions]
            by_station = [record(user, STATION, status="Stop") for user in users]
            answers = send(nas(made), [*reversed(by_class), *by_station], kind="acct")
        assert [answer.code for answer in answers if answer] == ["Accounting-Response"] * 2 * len(users)
        strays[name] = 0
        for server in servers:
            for user, value in sessions:
                began_here = bytes.fromhex(value[2:]).decode() == f"{server.name}/{user}"
                strays[name] += 0 if began_here else len(server.records(user))
    assert strays["followed"] == 0
    assert strays["balanced"] >= len(USERS) // 2, "of two records each, about half should go astray"


def test_records_follow_their_sessions_to_the_server_though_they_come_to_another_node(
    servers: Servers, tmp_path: Path
) -> None:
    with Redis(tmp_path) as redis, ExitStack() as running:
        nodes = []
        for name in ("a", "b"):
            made = services(servers, tmp_path / name, affinity=SESSION_PINS)
            made.config["pins"] = store_config(redis, node=name)
            node = running.enter_context(balancer(made))
            wait_until(lambda one=node: one.metrics().total("mfalb_pin_store_up") == 1, f"node {name}")  # type: ignore[misc]
            nodes.append(made)
        accepts = send(nas(nodes[0], "authentication"), [sign_in(user) for user in USERS])
        classes = [accept.attributes["Class"] for accept in accepts if accept]
        sessions = list(zip(USERS, classes, strict=True))
        by_class = [record(user, ("Class", one)) for user, one in sessions]
        by_station = [record(user, STATION, status="Stop") for user in USERS]
        answers = send(nas(nodes[1]), [*reversed(by_class), *by_station], kind="acct")
    assert [answer.code for answer in answers if answer] == ["Accounting-Response"] * 2 * len(USERS)
    for server in servers:
        for user, value in sessions:
            began_here = bytes.fromhex(value[2:]).decode() == f"{server.name}/{user}"
            assert len(server.records(user)) == (2 if began_here else 0), user


STATION = ("Calling-Station-Id", "00-11-22-33-44-55")


def sign_in(user: str) -> list[tuple[str, str]]:
    return [("User-Name", user), ("User-Password", "hello"), STATION]


class PyradNas:
    """pyrad as the client of an accounting port: it takes an answer only when its authenticator is right."""

    def __init__(self, port: int, timeout_s: float = 3.0) -> None:
        secret = CLIENT_SECRET.encode()
        self._client = Client(LOOPBACK, port, acctport=port, secret=secret, retries=1, timeout=timeout_s)
        self._client.bind((LOOPBACK, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client._CloseSocket()  # pyrad has no public way to close a client

    def send(self, *attributes: tuple[int, bytes]) -> int | None:
        """The code that a record is answered with; None for silence."""
        packet = AcctPacket(secret=CLIENT_SECRET.encode())
        for kind, value in attributes:
            packet.setdefault(kind, []).append(value)
        return self.ask(packet)

    def ask(self, packet: Packet) -> int | None:
        try:
            return int(self._client.SendPacket(packet).code)
        except Timeout:
            return None


ALICE = ((radius.ACCT_STATUS_TYPE, b"\0\0\0\1"), (radius.USER_NAME, b"alice"))


def test_a8_pyrad_takes_the_answers_though_neither_side_signs_with_a_message_authenticator(
    servers: Servers, tmp_path: Path
) -> None:
    made = services(servers, tmp_path)
    with balancer(made), PyradNas(made.ports["accounting"]) as client:
        assert client.send(*ALICE) == AccountingResponse
    assert sum(len(server.records("alice")) for server in servers) == 1


def test_d1_status_server_on_the_accounting_port_is_answered_with_an_accounting_response(
    servers: Servers, tmp_path: Path
) -> None:
    made = services(servers, tmp_path)
    with balancer(made), PyradNas(made.ports["accounting"]) as client:
        status = AuthPacket(
            code=StatusServer,
            secret=CLIENT_SECRET.encode(),
            authenticator=AuthPacket.CreateAuthenticator(),
            message_authenticator=True,
        )
        assert client.ask(status) == AccountingResponse


# ------------------------------------------------------------------------------------- servers that are gone


Fakes = tuple[RadiusServer, RadiusServer]


@contextmanager
def fake_site(run_dir: Path) -> Iterator[tuple[Balancer, Fakes, int]]:
    """Two servers that keep what they get, and answer honestly unless they are told otherwise."""
    made = Services(run_dir)
    with ExitStack() as running:
        one, two = (running.enter_context(RadiusServer(name, f"towards-{name}-0123456789")) for name in ("b1", "b2"))
        for server in (one, two):
            server.answers = lambda request, server=server: [server.unsigned(request, radius.ACCOUNTING_RESPONSE)]  # type: ignore[misc]
        backends = [{"name": one.name, "secret": one.secret, "address": one.address} for one in (one, two)]
        made.add("accounting", backends, WATCHED)
        yield running.enter_context(balancer(made)), (one, two), made.ports["accounting"]


def accounting_request(*attributes: tuple[int, bytes]) -> bytes:
    body = b"".join(radius.attribute(*one) for one in attributes)
    return radius.content_signed_request(radius.ACCOUNTING_REQUEST, 7, body, SharedSecret(CLIENT_SECRET.encode()))


def drops(running: Balancer, reason: str) -> float:
    return running.metrics().total("mfalb_listener_drops_total", listener="accounting", reason=reason)


def test_c7_a_record_whose_server_went_down_goes_to_the_other_and_says_how_long_it_waited(tmp_path: Path) -> None:
    request = accounting_request(*ALICE, (radius.ACCT_DELAY_TIME, (10).to_bytes(4, "big")))
    with fake_site(tmp_path) as (running, servers, port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for server in servers:
            server.answers = lambda _: []
        client.connect((LOOPBACK, port))
        began_at = time.monotonic()
        client.send(request)
        wait_until(lambda: any(server.requests for server in servers), "the record at a server")
        (first,) = (server for server in servers if server.requests)
        (second,) = (server for server in servers if server is not first)
        first.close()
        second.answers = lambda one: [second.unsigned(one, radius.ACCOUNTING_RESPONSE)]
        wait_until(lambda: is_down(running, first.name), f"{first.name} down", deadline_s=15)
        wait_until(lambda: time.monotonic() - began_at >= 1.1, "a second")
        client.send(request)
        client.settimeout(5)
        answer = radius.read_untrusted(client.recv(4096))
        waited_s = time.monotonic() - began_at
    (moved,) = second.requests
    delay_s = int.from_bytes(moved.first(radius.ACCT_DELAY_TIME) or b"", "big")
    assert 11 <= delay_s <= 10 + waited_s
    assert moved.attributes()[:2] == list(ALICE)
    assert AcctPacket(packet=moved.data, secret=second.secret.encode()).VerifyAcctRequest()
    assert radius.has_valid_response_authenticator(answer, SharedSecret(CLIENT_SECRET.encode()), request[4:20])


def is_down(running: Balancer, backend: str) -> bool:
    return running.metrics().total("mfalb_backend_up", backend=backend) == 0


def test_c8_silent_servers_are_met_with_silence_and_so_are_dead_ones(tmp_path: Path) -> None:
    with fake_site(tmp_path) as (running, servers, port), PyradNas(port, timeout_s=1) as client:
        for server in servers:
            server.answers = lambda _: []
        assert client.send(*ALICE) is None
        assert sum(len(server.requests) for server in servers) == 1
        for server in servers:
            server.close()
        wait_until(lambda: all(is_down(running, server.name) for server in servers), "both down", deadline_s=15)
        assert client.send(*ALICE) is None
        assert drops(running, "no_backend") == 1
        assert "mfalb_listener_answers_total" not in {name for name, _, _ in running.metrics().samples}
