"""RadSec towards backends: what was not sent goes elsewhere at once, what was sent does not, nothing is sent twice."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer, write_secret
from programs.ports import LOOPBACK, free_udp_port
from programs.process import wait_until
from programs.radius_mutations import forged_by_a_bit
from programs.radsec_pool import FAST_CHECK, Trust, make_trust, pool_of, tls_backends, upstream_tls
from programs.radsec_server import Answers, RadsecServer, server_tls

from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret

CLIENT = SharedSecret(b"towards-the-clients-0")
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@dataclass(frozen=True)
class Site:
    """A balancer that takes RADIUS over UDP, before two RadSec servers of which `first` has the first turn."""

    balancer: Balancer
    first: RadsecServer
    second: RadsecServer
    port: int

    def total(self, name: str, **labels: str) -> float:
        try:
            return self.balancer.metrics().total(name, **labels)
        except KeyError:
            return 0

    def drops(self, reason: str) -> float:
        return self.total("mfalb_listener_drops_total", reason=reason)

    def failures(self, server: RadsecServer) -> float:
        return self.total("mfalb_backend_failures_total", backend=server.name)

    def backend(self, server: RadsecServer) -> dict[str, Any]:
        """What /status says of one."""
        (found,) = [
            one for one in json.loads(self.balancer.get("/status"))["pools"]["mfa"] if one["name"] == server.name
        ]
        return dict(found)


class Nas:
    """A client's socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((LOOPBACK, port))
        self.socket.settimeout(5)

    def request(self, user: str, *, identifier: int = 7, state: bytes | None = None) -> bytes:
        """A new request, sent."""
        body = radius.attribute(radius.USER_NAME, user.encode())
        if state is not None:
            body += radius.attribute(radius.STATE, state)
        datagram = radius.signed_request(radius.ACCESS_REQUEST, identifier, os.urandom(16), body, CLIENT)
        self.socket.send(datagram)
        return datagram

    def answer(self) -> Packet:
        return radius.read_untrusted(self.socket.recv(4096))

    def sign_in(self, user: str, **more: Any) -> Packet:
        """Asked once: whatever fails on the way, the client need not ask again."""
        self.request(user, **more)
        return self.answer()


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("trust"))


@pytest.fixture
def honest(trust: Trust) -> ssl.SSLContext:
    return server_tls(trust.server, trust.ca)


@contextmanager
def site_of(first: RadsecServer, second: RadsecServer, trust: Trust, run_dir: Path, **more: object) -> Iterator[Site]:
    port = free_udp_port()
    listener = {
        "name": "radius",
        "protocol": "radius",
        "bind": [f"{LOOPBACK}:{port}"],
        "clients": [
            {
                "name": "nas",
                "network": "127.0.0.1/32",
                "secret_file": write_secret(run_dir, "client", CLIENT.value.decode()),
            }
        ],
        "pool": "mfa",
    }
    backends = tls_backends({first.name: first.port, second.name: second.port})
    pool = pool_of(backends, upstream_tls=upstream_tls(trust), connect_timeout="1s", **more)
    config = {"listeners": [listener], "pools": {"mfa": pool}}
    with Balancer(config, run_dir / "mfalb", secrets=[CLIENT.value.decode()]) as balancer:
        yield Site(balancer, first, second, port)


@pytest.fixture
def site(trust: Trust, honest: ssl.SSLContext, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(RadsecServer(name, honest)) for name in ("b1", "b2"))
        yield stack.enter_context(site_of(first, second, trust, tmp_path))


@pytest.fixture
def nas(site: Site) -> Iterator[Nas]:
    nas = Nas(site.port)
    with nas.socket:
        yield nas


# ------------------------------------------------------------------------------- not sent: elsewhere at once


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "trouble", ["other authority", "other name", "refuses our certificate", "nobody listens", "no TLS"]
)
def test_a_backend_that_cannot_be_connected_to_is_passed_over_and_no_client_notices(
    trust: Trust, honest: ssl.SSLContext, tmp_path: Path, trouble: str, version: ssl.TLSVersion
) -> None:
    context = {
        "other authority": server_tls(trust.foreign_server, trust.ca, version),
        "other name": server_tls(trust.misnamed, trust.ca, version),
        "refuses our certificate": server_tls(trust.server, trust.foreign_ca, version),
    }.get(trouble, honest)
    with ExitStack() as stack:
        first, second = RadsecServer("b1", context), RadsecServer("b2", honest)
        stack.enter_context(second)
        if trouble == "no TLS":
            stack.enter_context(Echo(first.port))
        elif trouble != "nobody listens":
            stack.enter_context(first)
        site = stack.enter_context(site_of(first, second, trust, tmp_path))
        nas = Nas(site.port)
        stack.enter_context(nas.socket)
        users = [f"user{number}" for number in range(10)]
        assert [nas.sign_in(user).code for user in users] == [radius.ACCESS_ACCEPT] * 10
        assert second.users() == [user.encode() for user in users]
        assert first.requests == []
        assert site.failures(first) >= 1
        assert site.total("mfalb_backend_active") == 0


class Echo:
    """Listens, and gives everybody back what they send: no TLS."""

    def __init__(self, port: int) -> None:
        self._listening = socket.create_server((LOOPBACK, port))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                with peer:
                    peer.sendall(peer.recv(4096))


def test_what_belongs_to_a_backend_that_is_gone_is_refused_at_once_and_given_to_nobody(site: Site, nas: Nas) -> None:
    state = radius.attribute(radius.STATE, b"of the first one")
    site.first.answers = lambda request: [site.first.signed(request, radius.ACCESS_CHALLENGE, state)]
    assert nas.sign_in("alice").code == radius.ACCESS_CHALLENGE
    site.first.stop()
    assert nas.sign_in("bob").code == radius.ACCESS_ACCEPT  # by now the balancer has read that the connection ended
    assert nas.sign_in("alice", identifier=8, state=b"of the first one").code == radius.ACCESS_REJECT
    assert site.second.users() == [b"bob"]


def test_a_challenge_is_answered_at_the_backend_that_asked_whosever_turn_it_is(site: Site, nas: Nas) -> None:
    for server in (site.first, site.second):
        server.answers = challenger(server)
    for number in range(6):
        user = f"user{number}"
        challenge = nas.sign_in(user)
        assert challenge.code == radius.ACCESS_CHALLENGE
        assert nas.sign_in("in between").code == radius.ACCESS_CHALLENGE  # so that the turn is the other's
        state = challenge.first(radius.STATE)
        answer = nas.sign_in(user, state=state)
        assert answer.first(radius.REPLY_MESSAGE) == state, "another server was asked"
    assert min(len(site.first.requests), len(site.second.requests)) >= 6


def challenger(server: RadsecServer) -> Answers:
    """Asks for more, under a State that says who asked; accepts its own States and says whose they are."""
    own = server.name.encode()

    def answer(request: Packet) -> list[bytes]:
        state = request.first(radius.STATE)
        if state is None:
            return [server.signed(request, radius.ACCESS_CHALLENGE, radius.attribute(radius.STATE, own))]
        return [server.signed(request, radius.ACCESS_ACCEPT, radius.attribute(radius.REPLY_MESSAGE, own))]

    return answer


# ------------------------------------------------------------------------------------- sent: never elsewhere


def test_on_one_connection_a_retransmit_is_not_sent_again(site: Site, nas: Nas) -> None:
    """RFC 6613 section 2.6.1. The balancer passes a retransmit on after a second at the earliest."""
    may_answer = threading.Event()
    site.first.answers = lambda request: site.first.accept(request) if may_answer.wait(10) else []
    datagram = nas.request("alice")
    wait_until(lambda: len(site.first.requests) == 1, "the request to arrive")
    before = site.drops("duplicate_in_flight")
    again = iter(range(50))
    nas.socket.settimeout(0.3)
    while site.drops("duplicate_in_flight") < before + 6:
        assert next(again) < 40
        nas.socket.send(datagram)
        with pytest.raises(TimeoutError):
            nas.answer()
    assert site.drops("duplicate_resent") == 0
    may_answer.set()
    nas.socket.settimeout(5)
    assert nas.answer().code == radius.ACCESS_ACCEPT
    assert len(site.first.requests) == 1
    assert site.second.requests == []


def test_when_a_connection_is_lost_the_retransmit_goes_to_the_same_backend_over_another(site: Site, nas: Nas) -> None:
    site.first.answers = lambda _: []
    datagram = nas.request("alice")
    wait_until(lambda: len(site.first.requests) == 1, "the request to arrive")
    site.first.hang_up()
    site.first.answers = site.first.accept
    nas.socket.settimeout(0.25)
    answers: list[Packet] = []

    def is_answered() -> bool:
        nas.socket.send(datagram)
        with suppress(TimeoutError):
            answers.append(nas.answer())
        return bool(answers)

    wait_until(is_answered, "the retransmit to be answered")
    assert answers[0].code == radius.ACCESS_ACCEPT
    assert site.first.users() == [b"alice", b"alice"]
    assert site.first.opened == 2
    one, two = site.first.requests
    assert one.authenticator == two.authenticator, "to the server it is the same request"
    assert site.second.requests == []
    assert site.drops("duplicate_resent") == 1


def test_only_when_health_says_down_may_what_was_sent_begin_again_elsewhere(
    trust: Trust, honest: ssl.SSLContext, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(RadsecServer(name, honest)) for name in ("b1", "b2"))
        site = stack.enter_context(site_of(first, second, trust, tmp_path, health_check=dict(FAST_CHECK)))
        nas = Nas(site.port)
        stack.enter_context(nas.socket)
        first.answers = lambda _: []
        datagram = nas.request("alice")
        wait_until(lambda: len(first.requests) == 1, "the request to arrive")
        first.stop()
        nas.socket.settimeout(0.25)
        answers: list[Packet] = []

        def is_answered() -> bool:
            was_up = site.backend(first)["health"] == "up"
            nas.socket.send(datagram)
            with suppress(TimeoutError):
                answers.append(nas.answer())
            is_still_up = site.backend(first)["health"] == "up"
            assert not (was_up and is_still_up and second.requests), "given to the second while the first was up"
            return bool(answers)

        wait_until(is_answered, "the second server to answer")
        assert answers[0].code == radius.ACCESS_ACCEPT
        assert second.users() == [b"alice"]
        assert site.backend(first)["health"] == "down"


# ------------------------------------------------------------------------------------------ connections


def test_a_backend_that_restarts_is_connected_to_again(site: Site, nas: Nas) -> None:
    users = iter(range(1000))
    assert nas.sign_in("before").code == radius.ACCESS_ACCEPT
    site.first.stop()
    assert {nas.sign_in(f"{next(users)}").code for _ in range(4)} == {radius.ACCESS_ACCEPT}
    seen = len(site.first.requests)
    site.first.start()

    def has_work_again() -> bool:
        assert nas.sign_in(f"{next(users)}").code == radius.ACCESS_ACCEPT
        return len(site.first.requests) > seen

    wait_until(has_work_again, "the first server to get work again")


def test_more_than_256_in_flight_take_a_second_connection_and_no_identifier_twice(
    trust: Trust, honest: ssl.SSLContext, tmp_path: Path
) -> None:
    count = 600
    with ExitStack() as stack:
        first, second = RadsecServer("b1", honest), RadsecServer("b2", honest)
        stack.enter_context(first)  # nobody listens at the second
        site = stack.enter_context(site_of(first, second, trust, tmp_path))
        clients = [Nas(site.port) for _ in range(3)]
        for nas in clients:
            stack.enter_context(nas.socket)
        first.answers = lambda _: []
        for index in range(count):
            clients[index % 3].request(f"user{index}", identifier=index // 3)
        wait_until(lambda: len(first.requests) == count, "all requests to arrive")
        assert first.opened == 3
        places = {(carrier, one.identifier) for carrier, one in zip(first.carriers, first.requests, strict=True)}
        assert len(places) == count
        assert site.total("mfalb_backend_active", backend="b1") == count


@pytest.mark.parametrize("name", ["a wrong Length", "text", "another secret", "a changed answer"])
def test_what_cannot_be_trusted_ends_the_connection_and_the_next_request_takes_another(
    site: Site, nas: Nas, name: str
) -> None:
    guessed = SharedSecret(b"guessed")

    def fault(request: Packet) -> list[bytes]:
        forged = radius.signed_response(2, request.identifier, request.authenticator, b"", guessed)
        changed = forged_by_a_bit(site.first.accept(request)[0])
        garbage = {"a wrong Length": b"\2\7\0\3", "text": b"HTTP/1.1 400 Bad Request\r\n\r\n"}
        return [{"another secret": forged, "a changed answer": changed, **garbage}[name]]

    site.first.answers = fault
    datagram = nas.request("alice")
    wait_until(lambda: site.failures(site.first) == 1, "the connection to be given up")
    site.first.answers = site.first.accept
    nas.socket.settimeout(0.25)
    answers: list[Packet] = []

    def is_answered() -> bool:
        nas.socket.send(datagram)
        with suppress(TimeoutError):
            answers.append(nas.answer())
        return bool(answers)

    wait_until(is_answered, "the retransmit to be answered")
    assert answers[0].code == radius.ACCESS_ACCEPT
    assert site.first.opened == 2
    assert site.second.requests == []


def test_an_answer_to_nothing_is_counted_and_ends_nothing(site: Site, nas: Nas) -> None:
    def twice(request: Packet) -> list[bytes]:
        return site.first.accept(request) * 2

    site.first.answers = twice
    assert nas.sign_in("alice").code == radius.ACCESS_ACCEPT
    wait_until(lambda: site.drops("late_answer") == 1, "the second answer to be counted")
    nas.sign_in("bob")  # the second server's turn
    assert nas.sign_in("carol").code == radius.ACCESS_ACCEPT
    assert site.first.opened == 1


# ------------------------------------------------------------------------------------------------ health


def test_status_says_why_a_backend_cannot_be_asked(trust: Trust, honest: ssl.SSLContext, tmp_path: Path) -> None:
    first = RadsecServer("b1", server_tls(trust.misnamed, trust.ca))
    with first, RadsecServer("b2", honest) as second:  # noqa: SIM117 - what follows needs both
        with site_of(first, second, trust, tmp_path, health_check=dict(FAST_CHECK)) as site:
            assert site.backend(second)["health"] == "up"
            assert site.backend(first)["health"] == "down"
            assert "IP address mismatch" in site.backend(first)["reason"]
            nas = Nas(site.port)
            with nas.socket:
                assert [nas.sign_in("alice", identifier=number).code for number in range(4)] == [
                    radius.ACCESS_ACCEPT
                ] * 4
            assert site.failures(first) == 0, "the data path tried what health had found out"


def test_a_backend_comes_back_up_when_it_answers_status_server_again(
    trust: Trust, honest: ssl.SSLContext, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(RadsecServer(name, honest)) for name in ("b1", "b2"))
        site = stack.enter_context(site_of(first, second, trust, tmp_path, health_check=dict(FAST_CHECK)))
        first.stop()
        wait_until(lambda: site.backend(first)["health"] == "down", "the first server to be down")
        first.start()
        wait_until(lambda: site.backend(first)["health"] == "up", "the first server to be up")


@pytest.mark.parametrize("is_open", [True, False])
def test_a_tcp_check_is_possible_too(trust: Trust, honest: ssl.SSLContext, tmp_path: Path, is_open: bool) -> None:
    first, second = RadsecServer("b1", honest), RadsecServer("b2", honest)
    check = {"type": "tcp", "interval": "500ms"}
    with ExitStack() as stack:
        stack.enter_context(second)
        if is_open:
            stack.enter_context(first)
        site = stack.enter_context(site_of(first, second, trust, tmp_path, health_check=check))
        assert site.backend(first)["health"] == ("up" if is_open else "down")
