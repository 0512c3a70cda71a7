"""Promise: every kind of answer that mfalb gives passes the strictest client, and RFC 2865's own packets pass mfalb.

The client is pyrad, which takes an answer only when both its signatures are right. The servers behind mfalb sign their
answers, or do not, as servers of before 2024 (and Debian 12's FreeRADIUS): mfalb's own answers are signed either way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.pyrad_client import PyradClient
from programs.radius_pool import radius_pool, without_proxy_state
from programs.radius_server import RadiusServer
from unit.wire import rfc2865_examples as rfc

from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_hidden import reveal_password_untrusted

RFC_SECRET = rfc.SECRET.value.decode()
ALICE = (radius.USER_NAME, b"alice")


@dataclass(frozen=True)
class Site:
    """The balancer before two servers."""

    balancer: Balancer
    servers: tuple[RadiusServer, RadiusServer]
    port: int
    client: PyradClient

    def requests(self) -> list[Packet]:
        """All that either server was asked."""
        return [request for server in self.servers for request in server.requests]

    def answer_with(self, code: int, body: bytes = b"", *, is_signed: bool = True) -> None:
        """Both servers answer everything with this, and with the request's Proxy-States."""

        def answering(server: RadiusServer) -> Callable[[Packet], list[bytes]]:
            make = server.signed if is_signed else server.unsigned
            return lambda request: [make(request, code, body + proxy_states(request))]

        for server in self.servers:
            server.answers = answering(server)


def proxy_states(request: Packet) -> bytes:
    return b"".join(radius.attribute(radius.PROXY_STATE, value) for value in request.every(radius.PROXY_STATE))


@contextmanager
def site(
    run_dir: Path,
    *,
    client_secret: str = "towards-the-clients-0",
    server_secret: str = "towards-the-servers-1",
    client: Mapping[str, Any] | None = None,
    listener: Mapping[str, Any] | None = None,
) -> Iterator[Site]:
    """`client` and `listener` are keys to add to the configuration of the one client and the one listener."""
    with ExitStack() as stack:
        one, two = (stack.enter_context(RadiusServer(name, server_secret)) for name in ("b1", "b2"))
        pool = without_proxy_state(radius_pool((one, two), run_dir, client_secret=client_secret))
        (listening,) = pool.config["listeners"]
        listening["clients"][0].update(client or {})
        listening.update(listener or {})
        balancer = stack.enter_context(Balancer(pool.config, run_dir / "mfalb", secrets=pool.secrets))
        pyrad = stack.enter_context(PyradClient(pool.port, client_secret))
        yield Site(balancer, (one, two), pool.port, pyrad)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as a_site:
        yield a_site


def taken(answer: bytes | None) -> Packet:
    """An answer that pyrad took; its Message-Authenticator stands first."""
    assert answer is not None, "pyrad took no answer"
    packet = radius.read_untrusted(answer)
    assert packet.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR
    return packet


# ------------------------------------------------------------------------------------- each kind of answer

BODY = radius.attribute(radius.REPLY_MESSAGE, b"hello") + radius.attribute(radius.STATE, bytes(range(16)))


@pytest.mark.parametrize("code", [radius.ACCESS_ACCEPT, radius.ACCESS_REJECT, radius.ACCESS_CHALLENGE])
@pytest.mark.parametrize("is_signed", [True, False], ids=["signed by the server", "unsigned by the server"])
def test_pyrad_takes_what_a_server_said_and_the_same_bytes_again(running: Site, code: int, *, is_signed: bool) -> None:
    running.answer_with(code, BODY, is_signed=is_signed)
    request = running.client.request([ALICE, (radius.PROXY_STATE, b"one"), (radius.PROXY_STATE, b"two")], "hello")
    first, second = running.client.ask(request), running.client.ask(request)
    packet = taken(first)
    assert packet.code == code
    assert packet.attributes()[1:] == [(18, b"hello"), (24, bytes(range(16))), (33, b"one"), (33, b"two")]
    assert first == second, "a retransmit must get the stored bytes"
    assert len(running.requests()) == 1


def test_pyrad_takes_the_refusal_of_a_sign_in_whose_server_is_gone(running: Site) -> None:
    running.answer_with(radius.ACCESS_CHALLENGE, BODY)
    taken(running.client.sign_in(ALICE))
    (beginner,) = (server for server in running.servers if server.requests)
    beginner.close()
    state = (radius.STATE, bytes(range(16)))
    refusal = taken(running.client.sign_in(ALICE, state, (radius.PROXY_STATE, b"mine"), password="123456"))
    assert refusal.code == radius.ACCESS_REJECT
    assert b"sign in again" in (refusal.first(radius.REPLY_MESSAGE) or b"")
    assert refusal.every(radius.PROXY_STATE) == [b"mine"]
    assert len(running.requests()) == 1, "the other server was asked to go on with what it had not begun"


def test_pyrad_takes_the_refusal_of_a_user_who_signs_in_too_often(tmp_path: Path) -> None:
    with site(tmp_path, listener={"user_limit": {"sign_ins": 2, "window": "60s"}}) as limited:
        answers = [taken(limited.client.sign_in(ALICE)).code for _ in range(3)]
        assert answers == [radius.ACCESS_ACCEPT, radius.ACCESS_ACCEPT, radius.ACCESS_REJECT]
        assert len(limited.requests()) == 2


def test_pyrad_takes_the_answer_to_a_status_server_and_no_server_hears_of_it(running: Site) -> None:
    question = running.client.request([(radius.NAS_IDENTIFIER, b"a curious NAS")], is_status=True)
    assert taken(running.client.ask(question)).code == radius.ACCESS_ACCEPT
    seen = [one for server in running.servers for one in (*server.requests, *server.probes)]
    assert seen, "the servers were not even probed"
    assert not [one for one in seen if radius.NAS_IDENTIFIER in one.offsets]


def test_pyrad_takes_no_answer_that_mfalb_was_told_not_to_sign(tmp_path: Path) -> None:
    """The proof that the tests above can fail: the same answer, without its first attribute, is nothing to pyrad."""
    with site(tmp_path, client={"send_message_authenticator": False}) as unsigned:
        with PyradClient(unsigned.port, "towards-the-clients-0", timeout_s=0.5) as impatient:
            assert impatient.sign_in(ALICE) is None
        assert unsigned.balancer.metrics().total("mfalb_listener_answers_total") == 1


# --------------------------------------------------------------------------------- RFC 2865, section 7

SECRETS = [RFC_SECRET, "towards-the-servers-1"]


@pytest.fixture(params=SECRETS, ids=["one secret", "two secrets"])
def rfc_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """The examples are of 2000: no request in them has a Message-Authenticator."""
    lenient = {"require_message_authenticator": False}
    with site(tmp_path, client_secret=RFC_SECRET, server_secret=request.param, client=lenient) as a_site:
        yield a_site


def ask(site: Site, datagram: bytes, timeout_s: float = 5.0) -> bytes:
    """Raises TimeoutError when there is no answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((LOOPBACK, site.port))
        client.settimeout(timeout_s)
        client.send(datagram)
        return client.recv(4096)


def say_as_printed(site: Site, response: bytes) -> None:
    """Servers with the RFC's secret send the very bytes that it prints; others sign the same attributes their way."""
    printed = radius.read_untrusted(response)

    def answering(server: RadiusServer) -> Callable[[Packet], list[bytes]]:
        if server.secret == RFC_SECRET:
            return lambda _: [response]
        return lambda request: [server.unsigned(request, printed.code, response[radius.HEADER_BYTES :])]

    for server in site.servers:
        server.answers = answering(server)


def exchanged(site: Site, request: bytes, response: bytes) -> Packet:
    """One printed exchange through mfalb; returns what the server was asked."""
    say_as_printed(site, response)
    known = site.requests()
    answer = radius.read_untrusted(ask(site, request))
    authenticator = radius.read_untrusted(request).authenticator
    assert radius.has_valid_response_authenticator(answer, rfc.SECRET, authenticator)
    assert radius.has_valid_message_authenticator(answer, rfc.SECRET, authenticator)
    printed = radius.read_untrusted(response)
    assert (answer.code, answer.identifier) == (printed.code, printed.identifier)
    assert answer.attributes()[1:] == printed.attributes()
    (asked,) = [one for one in site.requests() if one not in known]
    return asked


def assert_same(site: Site, got: Packet, request: bytes, password: bytes | None, *more: tuple[int, bytes]) -> None:
    """The server got the request: its attributes in their order, `more` behind them, and this password in clear."""
    secret, sent = SharedSecret(site.servers[0].secret.encode()), radius.read_untrusted(request)
    assert radius.has_valid_message_authenticator(got, secret)
    without = [one for one in got.attributes()[1:] if one[0] != radius.USER_PASSWORD]
    assert without == [*(one for one in sent.attributes() if one[0] != radius.USER_PASSWORD), *more]
    hidden = got.first(radius.USER_PASSWORD)
    assert (hidden is None) == (password is None)
    if hidden is not None and password is not None:
        assert reveal_password_untrusted(hidden, secret, got.authenticator) == password.ljust(16, b"\0")


def test_the_telnet_user_of_section_7_1_is_accepted(rfc_site: Site) -> None:
    got = exchanged(rfc_site, rfc.TELNET_REQUEST, rfc.TELNET_ACCEPT)
    assert_same(rfc_site, got, rfc.TELNET_REQUEST, b"arctangent")


def test_the_framed_user_of_section_7_2_is_accepted_and_the_challenge_is_spelt_out(rfc_site: Site) -> None:
    got = exchanged(rfc_site, rfc.CHAP_REQUEST, rfc.CHAP_ACCEPT)
    challenge = radius.read_untrusted(rfc.CHAP_REQUEST).authenticator
    if rfc_site.servers[0].secret == RFC_SECRET:  # nothing hangs on a secret: the authenticator is still the challenge
        assert_same(rfc_site, got, rfc.CHAP_REQUEST, None)
        assert got.authenticator == challenge
    else:
        assert_same(rfc_site, got, rfc.CHAP_REQUEST, None, (radius.CHAP_CHALLENGE, challenge))
        assert got.authenticator != challenge


def test_the_card_user_of_section_7_3_ends_where_he_began_and_the_misprint_is_dropped(rfc_site: Site) -> None:
    """The second request is printed with a State of 16 bytes that has 10: such a packet is nobody's."""
    first = exchanged(rfc_site, rfc.CARD_REQUEST, rfc.CARD_CHALLENGE)
    assert_same(rfc_site, first, rfc.CARD_REQUEST, b"challenge")
    (beginner,) = [server for server in rfc_site.servers if server.requests]
    with pytest.raises(TimeoutError):
        ask(rfc_site, rfc.CARD_ANSWER_MISPRINTED, timeout_s=0.3)
    drops = "mfalb_listener_drops_total"
    wait_until(lambda: rfc_site.balancer.metrics().total(drops, reason="attributes_overrun") == 1, "its count")
    second = exchanged(rfc_site, rfc.CARD_ANSWER, rfc.CARD_REJECT)
    assert_same(rfc_site, second, rfc.CARD_ANSWER, b"99101462")
    assert len(beginner.requests) == 2, "the State did not lead back"
