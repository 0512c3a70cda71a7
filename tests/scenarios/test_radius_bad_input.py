"""What should not be answered is not answered, counted by reason, and changes nothing for anybody else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs.balancer import Balancer, write_secret
from programs.ports import LOOPBACK, free_udp_port
from programs.process import wait_until
from programs.radius_server import Answers, RadiusServer

from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret

CLIENT = SharedSecret(b"towards-the-clients-0")
SERVER = SharedSecret(b"towards-the-server-1")
USER = radius.attribute(radius.USER_NAME, b"alice")


def accept(request: Packet) -> list[bytes]:
    """What an honest server says."""
    return [answer(request, radius.ACCESS_ACCEPT)]


def answer(request: Packet, code: int, body: bytes = b"", secret: SharedSecret = SERVER) -> bytes:
    return radius.signed_response(code, request.identifier, request.authenticator, body, secret)


@dataclass(frozen=True)
class Site:
    """A balancer before one server, and a client's socket that it knows (127.0.0.1)."""

    balancer: Balancer
    server: RadiusServer
    port: int

    def drops(self, reason: str) -> float:
        try:
            return self.balancer.metrics().total("mfalb_listener_drops_total", reason=reason)
        except KeyError:
            return 0

    def ask(self, datagram: bytes, timeout_s: float = 5.0, source: str = LOOPBACK) -> bytes:
        """The answer to one datagram. Raises TimeoutError when none comes."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((source, 0))
            client.settimeout(timeout_s)
            client.sendto(datagram, (LOOPBACK, self.port))
            return client.recv(4096)

    def assert_dropped(self, datagram: bytes, reason: str, source: str = LOOPBACK) -> None:
        """Silence to the client, a count by reason, nothing at the server."""
        before, seen = self.drops(reason), len(self.server.requests)
        with suppress(TimeoutError):
            pytest.fail(f"answered with {self.ask(datagram, 0.05, source)!r}")
        wait_until(lambda: self.drops(reason) == before + 1, f"{reason} to be counted")
        assert len(self.server.requests) == seen


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    run_dir, port = tmp_path_factory.mktemp("radius_bad_input"), free_udp_port()
    with ExitStack() as stack:
        server = stack.enter_context(RadiusServer("b1", SERVER.value.decode()))
        config = configuration(run_dir, port, server)
        secrets = [CLIENT.value.decode(), SERVER.value.decode()]
        balancer = stack.enter_context(Balancer(config, run_dir / "mfalb", secrets=secrets))
        yield Site(balancer, server, port)


def configuration(run_dir: Path, port: int, server: RadiusServer) -> dict[str, object]:
    client_file = write_secret(run_dir, "client", CLIENT.value.decode())
    server_file = write_secret(run_dir, "server", SERVER.value.decode())
    listener = {
        "name": "radius",
        "protocol": "radius",
        "bind": [f"{LOOPBACK}:{port}"],
        "clients": [{"name": "vpn", "network": "127.0.0.1/32", "secret_file": client_file}],
        "pool": "mfa",
    }
    backend = {"name": "b1", "address": server.address, "secret_file": server_file}
    return {"listeners": [listener], "pools": {"mfa": {"backends": [backend], "affinity": {"type": "radius_state"}}}}


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The site; after each test an honest sign-in must still succeed."""
    running.server.answers = accept
    yield running
    running.server.answers = accept
    assert radius.read_untrusted(running.ask(request())).code == radius.ACCESS_ACCEPT


def request(body: bytes = USER, *, identifier: int = 7, secret: SharedSecret = CLIENT) -> bytes:
    """A new Access-Request: its authenticator was never used before."""
    return radius.signed_request(radius.ACCESS_REQUEST, identifier, os.urandom(16), body, secret)


def unsigned(body: bytes = USER, code: int = radius.ACCESS_REQUEST, length: int | None = None) -> bytes:
    size = 20 + len(body) if length is None else length
    return bytes((code, 7, size >> 8, size & 255)) + os.urandom(16) + body


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "short_datagram"),
    "a byte": (lambda: b"\1", "short_datagram"),
    "19 bytes": (lambda: bytes(19), "short_datagram"),
    "a length under 20": (lambda: unsigned(length=19), "bad_length"),
    "a length past the datagram": (lambda: unsigned(length=100), "truncated"),
    "a length past 4096": (lambda: unsigned(bytes(4077)), "bad_length"),
    "an attribute of length 0": (lambda: unsigned(b"\1\0"), "bad_attribute_length"),
    "an attribute of length 1": (lambda: unsigned(b"\1\1"), "bad_attribute_length"),
    "an attribute past the end": (lambda: unsigned(b"\1\x09abc"), "attributes_overrun"),
    "a lone type": (lambda: unsigned(USER + b"\1"), "attributes_overrun"),
    "a short signature": (lambda: unsigned(b"\x50\x04ab"), "bad_message_authenticator_length"),
    "an accept": (lambda: unsigned(code=radius.ACCESS_ACCEPT), "unexpected_code"),
    "accounting": (
        lambda: radius.content_signed_request(radius.ACCOUNTING_REQUEST, 7, USER, CLIENT),
        "unexpected_code",
    ),
    "a change of authorization": (lambda: unsigned(code=43), "unexpected_code"),
    "no signature": (unsigned, "missing_message_authenticator"),
    "an unsigned Status-Server": (lambda: unsigned(b"", radius.STATUS_SERVER), "missing_message_authenticator"),
    "a wrong secret": (lambda: request(secret=SharedSecret(b"guessed")), "bad_message_authenticator"),
    "a changed byte": (lambda: request()[:-1] + b"E", "bad_message_authenticator"),
    "a password of no whole block": (
        lambda: request(USER + radius.attribute(radius.USER_PASSWORD, bytes(15))),
        "bad_user_password_length",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a2_a4_a5_a6_e3_a_bad_datagram_is_met_with_silence_and_counted(site: Site, name: str) -> None:
    make, reason = BAD[name]
    site.assert_dropped(make(), reason)


def test_a1_a_client_nobody_configured_is_met_with_silence_and_counted(site: Site) -> None:
    site.assert_dropped(request(), "unknown_client", source="127.0.0.2")


def test_random_noise_stops_nothing(site: Site) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((LOOPBACK, 0))
        before = site.balancer.metrics().total("mfalb_listener_requests_total")
        for number in range(2000):
            client.sendto(os.urandom(number % 200), (LOOPBACK, site.port))
        wait_until(
            lambda: site.balancer.metrics().total("mfalb_listener_requests_total") >= before + 2000, "all to be read"
        )
    assert site.balancer.metrics().total("mfalb_listener_in_flight") == 0


FORGERIES: dict[str, tuple[Answers, str]] = {
    "another secret": (lambda r: [answer(r, 2, secret=SharedSecret(b"guessed"))], "bad_response_authenticator"),
    "a changed code": (lambda r: [b"\2" + answer(r, 3)[1:]], "bad_response_authenticator"),
    "another identifier": (
        lambda r: [radius.signed_response(2, r.identifier ^ 1, r.authenticator, b"", SERVER)],
        "late_answer",
    ),
    "a foreign Proxy-State": (
        lambda r: [answer(r, 2, radius.attribute(radius.PROXY_STATE, b"collision"))],
        "foreign_proxy_state",
    ),
    "noise": (lambda r: [bytes((2, r.identifier)) + bytes(30)], "bad_length"),
    "a stump": (lambda _: [b"\2"], "late_answer"),
    "a code no server uses": (lambda r: [answer(r, radius.ACCOUNTING_RESPONSE)], "unexpected_answer_code"),
    "unsigned EAP": (
        lambda r: [unsigned_answer(r, radius.attribute(radius.EAP_MESSAGE, b"\3\1\0\4"))],
        "missing_message_authenticator",
    ),
}


def unsigned_answer(request: Packet, body: bytes) -> bytes:
    head = bytes((radius.ACCESS_ACCEPT, request.identifier, 0, 20 + len(body)))
    return head + SERVER.digest(head + request.authenticator + body) + body


@pytest.mark.parametrize("name", FORGERIES)
def test_b1_a_forged_answer_is_counted_and_the_genuine_one_behind_it_reaches_the_client(site: Site, name: str) -> None:
    forge, reason = FORGERIES[name]
    before = site.drops(reason)
    site.server.answers = lambda r: [*forge(r), answer(r, radius.ACCESS_REJECT)]
    assert radius.read_untrusted(site.ask(request())).code == radius.ACCESS_REJECT
    wait_until(lambda: site.drops(reason) == before + 1, f"{reason} to be counted")


def test_b8_a_second_answer_is_dropped(site: Site) -> None:
    before = site.drops("late_answer")
    site.server.answers = lambda r: [answer(r, radius.ACCESS_REJECT), answer(r, radius.ACCESS_ACCEPT)]
    assert radius.read_untrusted(site.ask(request())).code == radius.ACCESS_REJECT
    wait_until(lambda: site.drops("late_answer") == before + 1, "the second answer to be counted")


def test_a6_a_bad_retransmit_does_not_take_the_place_of_the_good_request(site: Site) -> None:
    """Identifier and source of a request under way, other bytes: only a valid signature may supersede."""
    may_answer = threading.Event()
    site.server.answers = lambda r: [answer(r, radius.ACCESS_ACCEPT)] if may_answer.wait(5) else []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((LOOPBACK, 0))
        client.settimeout(5)
        seen = len(site.server.requests)
        client.sendto(request(), (LOOPBACK, site.port))
        wait_until(lambda: len(site.server.requests) == seen + 1, "the request to arrive")
        client.sendto(request(secret=SharedSecret(b"guessed")), (LOOPBACK, site.port))
        may_answer.set()
        assert radius.read_untrusted(client.recv(4096)).code == radius.ACCESS_ACCEPT
    assert len(site.server.requests) == seen + 1
