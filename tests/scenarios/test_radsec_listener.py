"""RadSec clients: who is let in, what their stream may hold, and what becomes of answers nobody waits for."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer, write_secret
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radius_server import RadiusServer
from programs.radsec_client import RADSEC, RadsecClient, access_request, client_tls, connected
from programs.radsec_pool import Trust, make_trust, pool_of, radsec_listener

from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_hidden import reveal_password_untrusted

SECRET = "towards-the-server-1"
PASSWORD = "correct-horse"
LIMIT = 8
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@dataclass(frozen=True)
class Site:
    """A balancer that takes RadSec, before one UDP server."""

    balancer: Balancer
    server: RadiusServer
    trust: Trust
    port: int

    def client(self) -> AbstractContextManager[RadsecClient]:
        """A connection of the client that is configured."""
        return connected(self.port, client_tls(self.trust.ca, self.trust.client))

    def drops(self, reason: str) -> float:
        try:
            return self.balancer.metrics().total("mfalb_listener_drops_total", reason=reason)
        except KeyError:
            return 0

    def wait_for_drop(self, reason: str, before: float) -> None:
        wait_until(lambda: self.drops(reason) == before + 1, f"{reason} to be counted")

    def connections(self) -> float:
        return self.balancer.metrics().total("mfalb_listener_connections", listener="radsec")


def configuration(run_dir: Path, server: RadiusServer, listener: dict[str, Any]) -> dict[str, Any]:
    file = write_secret(run_dir, "server", SECRET)
    pool = pool_of([{"name": server.name, "address": server.address, "secret_file": file}])
    return {"listeners": [listener], "pools": {"mfa": pool}}


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("trust"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, trust: Trust) -> Iterator[Site]:
    run_dir = tmp_path_factory.mktemp("radsec_listener")
    limits = {"connections": LIMIT, "handshake_timeout": "1s", "idle_timeout": "2s"}
    listener, port = radsec_listener(trust, limits=limits, add_proxy_state="never")
    with RadiusServer("b1", SECRET) as server:
        config = configuration(run_dir, server, listener)
        with Balancer(config, run_dir / "mfalb", secrets=[SECRET, PASSWORD]) as balancer:
            yield Site(balancer, server, trust, port)


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The site; after each test an honest sign-in must still succeed, and nothing may be left open or in flight."""
    running.server.answers = running.server.accept
    yield running
    running.server.answers = running.server.accept
    with running.client() as client:
        assert client.ask(access_request()).code == radius.ACCESS_ACCEPT
    wait_until(lambda: running.connections() == 0, "all connections to be forgotten")
    assert running.balancer.metrics().total("mfalb_listener_in_flight") == 0


@pytest.fixture
def client(site: Site) -> Iterator[RadsecClient]:
    with site.client() as client:
        yield client


# ------------------------------------------------------------------------------------------ who is let in


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_with_its_certificate_signs_in_over_both_versions_of_tls(site: Site, version: ssl.TLSVersion) -> None:
    request = access_request(password=PASSWORD)
    with connected(site.port, client_tls(site.trust.ca, site.trust.client, version)) as client:
        assert client.stream.version() == version.name.replace("v1_", "v1.")
        answer = client.ask(request)
    assert (answer.code, answer.identifier) == (radius.ACCESS_ACCEPT, 7)
    assert radius.has_valid_response_authenticator(answer, RADSEC, request[4:20])
    assert answer.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR
    asked = site.server.requests[-1]
    hidden = asked.first(radius.USER_PASSWORD) or b""
    assert reveal_password_untrusted(hidden, site.server.key, asked.authenticator).rstrip(b"\0") == PASSWORD.encode()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("nobody", "client_certificate_missing"),
        ("foreign", "client_certificate_refused"),
        ("stranger", "unknown_client"),
    ],
)
def test_who_has_no_good_certificate_is_refused_and_counted_and_reaches_nobody(
    site: Site, who: str, reason: str, version: ssl.TLSVersion
) -> None:
    own = {"nobody": None, "foreign": site.trust.foreign, "stranger": site.trust.stranger}[who]
    before, seen = site.drops(reason), len(site.server.requests)
    with suppress(OSError), connected(site.port, client_tls(site.trust.ca, own, version)) as client:
        # In TLS 1.3 a client is done with its handshake before it is judged
        client.send(access_request())
        assert client.is_closed()
    site.wait_for_drop(reason, before)
    assert len(site.server.requests) == seen


def test_a_client_that_does_not_believe_the_balancer_leaves_which_is_counted(site: Site) -> None:
    before = site.drops("tls_failed")
    tls = client_tls(site.trust.foreign_ca, site.trust.client)
    with pytest.raises(ssl.SSLCertVerificationError), connected(site.port, tls):
        pass
    site.wait_for_drop("tls_failed", before)


def test_an_older_tls_is_refused(site: Site) -> None:
    before = site.drops("tls_failed")
    tls = client_tls(site.trust.ca, site.trust.client)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"alert|EOF|reset"), connected(site.port, tls):
        pass
    site.wait_for_drop("tls_failed", before)


def test_who_connects_and_says_nothing_is_cut_after_the_handshake_timeout(site: Site) -> None:
    before = site.drops("handshake_aborted")
    with socket.create_connection((LOOPBACK, site.port), 5) as silent:
        assert silent.recv(1) == b""
    site.wait_for_drop("handshake_aborted", before)


def test_one_connection_more_than_the_limit_is_closed_and_the_others_are_served(site: Site) -> None:
    before = site.drops("connection_limit")
    with ExitStack() as stack:
        clients = [stack.enter_context(site.client()) for _ in range(LIMIT)]
        with pytest.raises(OSError, match=r"EOF|reset"), site.client():
            pass
        answers = [client.ask(access_request()).code for client in clients]
    assert answers == [radius.ACCESS_ACCEPT] * LIMIT
    assert site.drops("connection_limit") == before + 1


# ------------------------------------------------------------------------------------- what a stream may hold


def test_packets_in_any_pieces_are_answered_once_each(client: RadsecClient) -> None:
    requests = [access_request(identifier=identifier) for identifier in range(100)]
    stream = b"".join(requests)
    for start in range(0, len(stream), 31):
        client.send(stream[start : start + 31])
    answers = [client.packet() for _ in requests]
    assert sorted(answer.identifier for answer in answers) == list(range(100))
    for answer in answers:
        assert radius.has_valid_response_authenticator(answer, RADSEC, requests[answer.identifier][4:20])


def test_the_largest_packet_there_may_be_comes_through(client: RadsecClient, site: Site) -> None:
    room = 4096 - len(access_request())
    more = b"".join(radius.attribute(radius.CLASS, bytes(251)) for _ in range(room // 253))
    request = access_request(more=more + radius.attribute(radius.CLASS, bytes(room % 253 - 2)))
    assert len(request) == 4096
    assert client.ask(request).code == radius.ACCESS_ACCEPT
    assert site.server.requests[-1].every(radius.CLASS)


def signed_badly() -> bytes:
    return access_request()[:-1] + b"!"


ENDINGS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a Length of 0": (lambda: bytes(4), "bad_length"),
    "a Length of 19": (lambda: b"\1\7\0\x13" + bytes(15), "bad_length"),
    "a Length of 4097": (lambda: b"\1\7\x10\1", "bad_length"),
    "text": (lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "bad_length"),
    "an attribute of length 1": (lambda: b"\1\7\0\x16" + bytes(16) + b"\1\1", "bad_attribute_length"),
    "an attribute past the end": (lambda: b"\1\7\0\x17" + bytes(16) + b"\1\x09a", "attributes_overrun"),
    "a short signature": (lambda: b"\1\7\0\x18" + bytes(16) + b"\x50\4ab", "bad_message_authenticator_length"),
    "a wrong signature": (signed_badly, "bad_message_authenticator"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_what_cannot_be_trusted_ends_the_connection_behind_the_answers_to_what_came_before(
    site: Site, client: RadsecClient, name: str
) -> None:
    """RFC 6613 section 2.6.4. A Status-Server is what is answered at once."""
    make, reason = ENDINGS[name]
    before, seen = site.drops(reason), len(site.server.requests)
    status = radius.signed_request(radius.STATUS_SERVER, 9, os.urandom(16), b"", RADSEC)
    client.send(status + make() + access_request())
    assert client.packet().identifier == 9
    assert client.is_closed()
    assert site.drops(reason) == before + 1
    assert len(site.server.requests) == seen, "what came behind the fault was taken for a request"


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (radius.signed_request(radius.ACCESS_CHALLENGE, 1, bytes(16), b"", RADSEC), "unexpected_code"),
        (bytes((1, 1, 0, 20)) + bytes(16), "missing_message_authenticator"),
    ],
)
def test_what_is_merely_unwelcome_is_dropped_and_the_connection_goes_on(
    site: Site, client: RadsecClient, datagram: bytes, reason: str
) -> None:
    before = site.drops(reason)
    client.send(datagram)
    assert client.ask(access_request()).code == radius.ACCESS_ACCEPT
    assert site.drops(reason) == before + 1


def test_another_secret_than_radsec_is_used_where_it_is_written(tmp_path: Path, trust: Trust) -> None:
    own = SharedSecret(b"an-unusual-secret-for-radsec")
    client = {"name": "nas", "certificate": {"common_name": "NAS 1"}}
    client["secret_file"] = write_secret(tmp_path, "client", own.value.decode())
    listener, port = radsec_listener(trust, clients=[client])
    request = radius.signed_request(radius.ACCESS_REQUEST, 3, os.urandom(16), b"", own)
    with RadiusServer("b1", SECRET) as server, Balancer(configuration(tmp_path, server, listener), tmp_path / "mfalb"):
        with connected(port, client_tls(trust.ca, trust.client)) as peer:
            assert radius.has_valid_response_authenticator(peer.ask(request), own, request[4:20])
        with connected(port, client_tls(trust.ca, trust.client)) as peer:
            peer.send(access_request())
            assert peer.is_closed()


# --------------------------------------------------------------------------------------- one source a connection


def test_a_retransmit_on_its_connection_is_one_request_and_on_another_it_is_a_new_one(site: Site) -> None:
    request, seen = access_request(), len(site.server.requests)
    with site.client() as one, site.client() as two:
        first, again = one.ask(request), one.ask(request)
        assert first.data == again.data
        assert len(site.server.requests) == seen + 1
        assert two.ask(request).code == radius.ACCESS_ACCEPT
        assert len(site.server.requests) == seen + 2


def test_the_answer_for_a_connection_that_is_gone_is_counted_and_its_pin_is_made(site: Site) -> None:
    may_answer, state = threading.Event(), radius.attribute(radius.STATE, b"to be continued")
    challenge = partial(site.server.signed, code=radius.ACCESS_CHALLENGE, body=state)
    site.server.answers = lambda request: [challenge(request)] if may_answer.wait(5) else []
    before, seen = site.drops("client_gone"), len(site.server.requests)
    pins = site.balancer.metrics().total("mfalb_pins_made_total")
    with site.client() as client:
        client.send(access_request())
        wait_until(lambda: len(site.server.requests) == seen + 1, "the request to arrive")
    wait_until(lambda: site.connections() == 0, "the connection to be forgotten")
    may_answer.set()
    site.wait_for_drop("client_gone", before)
    assert site.balancer.metrics().total("mfalb_pins_made_total") == pins + 1


def test_a_stop_ends_the_connections_and_gives_nobody_an_answer_that_no_server_gave(
    tmp_path: Path, trust: Trust
) -> None:
    """One connection is idle, one waits for an answer, one has not shaken hands. Leaving asserts exit code and log."""
    listener, port = radsec_listener(trust)
    with RadiusServer("b1", SECRET) as server, ExitStack() as stack:
        server.answers = lambda _: []
        with Balancer(configuration(tmp_path, server, listener), tmp_path / "mfalb", secrets=[SECRET]) as balancer:
            idle, waiting = (stack.enter_context(connected(port, client_tls(trust.ca, trust.client))) for _ in range(2))
            silent = stack.enter_context(socket.create_connection((LOOPBACK, port), 5))
            waiting.send(access_request())
            wait_until(lambda: len(server.requests) == 1, "the request to arrive")
            began_at = time.monotonic()
            balancer.stop()
            assert time.monotonic() - began_at < 5
        assert idle.is_closed()
        assert waiting.is_closed()
        assert silent.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port), 1)


# ------------------------------------------------------------------------------------------------- limits


def test_a_connection_is_closed_when_it_is_idle_but_not_while_it_waits_for_a_person(site: Site) -> None:
    before = site.drops("idle_timeout")

    def slowly(request: Packet) -> list[bytes]:
        time.sleep(3.5)  # what is asked for here is time itself
        return site.server.accept(request)

    site.server.answers = slowly
    with site.client() as waiting, site.client() as idle:
        waiting.send(access_request())
        assert idle.is_closed()
        assert waiting.packet().code == radius.ACCESS_ACCEPT
        assert site.drops("idle_timeout") == before + 1


def test_a_client_that_does_not_read_is_read_no_more_and_harms_nobody(site: Site) -> None:
    """It asks for the same large stored answer again and again, and takes none."""
    body = b"".join(radius.attribute(radius.CLASS, bytes(253)) for _ in range(15))
    site.server.answers = lambda request: [site.server.signed(request, radius.ACCESS_ACCEPT, body)]
    request = access_request()
    with site.client() as greedy, site.client() as other:
        assert len(greedy.ask(request).data) > 3800
        greedy.stream.settimeout(1)
        with pytest.raises(OSError, match=r"timed out|reset|Broken pipe|EOF"):
            ask_for_ever(greedy, request)
        assert other.ask(access_request(identifier=8)).code == radius.ACCESS_ACCEPT
        assert resident_bytes(site.balancer.worker) < 400 * 1024 * 1024


def ask_for_ever(client: RadsecClient, request: bytes) -> None:
    """40 MB of requests: far more than the kernel holds for both ends. Each piece has the client's time-out."""
    for _ in range(40_000_000 // (len(request) * 200)):
        client.send(request * 200)


def resident_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
