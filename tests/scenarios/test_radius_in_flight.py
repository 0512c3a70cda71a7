"""Promise: what is in flight keeps its identifier, its server and its one answer, over real sockets.

Ids are those of the requirements: A3 padding, B1 and B9 answers that are nobody's or too late, C1 retransmits, C3
superseded requests, C5 identifiers, C6 retransmits of our own.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer
from programs.datagram_forms import on_both_forms
from programs.ports import LOOPBACK
from programs.process import Launch, wait_until
from programs.radius_pool import radius_pool, without_proxy_state
from programs.radius_responder import Manners, RadiusResponder, accept

from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret

CLIENT_SECRET = "towards-the-clients-0"
CLIENT = SharedSecret(CLIENT_SECRET.encode())
SERVER_SECRET = "towards-the-server-1"
USER = radius.attribute(radius.USER_NAME, b"alice")
NEVER = Manners(access_after_s=None)


@dataclass(frozen=True, slots=True)
class Site:
    """A balancer before one server, which a test tells how slow to be."""

    balancer: Balancer
    server: RadiusResponder
    port: int

    def total(self, name: str, **labels: str) -> float:
        with suppress(KeyError):
            return self.balancer.metrics().total(name, **labels)
        return 0.0

    def drops(self, reason: str) -> float:
        return self.total("mfalb_listener_drops_total", reason=reason)

    def in_flight(self) -> float:
        return self.total("mfalb_listener_in_flight")

    @contextmanager
    def client(self, timeout_s: float = 5.0) -> Iterator[socket.socket]:
        """One socket of a NAS, connected to the balancer."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.settimeout(timeout_s)
            sock.connect((LOOPBACK, self.port))
            yield sock


@contextmanager
def site(
    run_dir: Path,
    manners: Manners,
    *,
    server_secret: str = SERVER_SECRET,
    launch: Launch | None = None,
    **pool: Any,
) -> Iterator[Site]:
    """`pool` are keys to add to the pool's configuration."""
    with RadiusResponder("b1", server_secret, manners) as server:
        made = without_proxy_state(radius_pool((server,), run_dir, client_secret=CLIENT_SECRET))
        made.config["pools"]["mfa"].update(pool)
        with Balancer(made.config, run_dir / "mfalb", secrets=made.secrets, launch=launch) as balancer:
            here = Site(balancer, server, made.port)
            wait_until(lambda: here.total("mfalb_backend_up") == 1, "the server to be up")
            yield here


def request(identifier: int = 7) -> bytes:
    """A new Access-Request: its authenticator was never used before."""
    return radius.signed_request(radius.ACCESS_REQUEST, identifier, os.urandom(16), USER, CLIENT)


def taken(answer: bytes, request: bytes) -> Packet:
    """An answer as its client checks it: the identifier, and both signatures over its own authenticator."""
    packet = radius.read_untrusted(answer)
    assert packet.identifier == request[1]
    assert radius.has_valid_response_authenticator(packet, CLIENT, request[4:20])
    assert radius.has_valid_message_authenticator(packet, CLIENT, request[4:20])
    return packet


def hears_nothing(sock: socket.socket, for_s: float) -> bool:
    sock.settimeout(for_s)
    try:
        sock.recv(4096)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(5.0)
    return False


# ------------------------------------------------------------------------------------------ identifiers (C5)


@pytest.mark.parametrize("server_secret", [CLIENT_SECRET, SERVER_SECRET], ids=["one secret", "two secrets"])
def test_c5_more_than_256_in_flight_take_more_source_ports_and_no_identifier_twice(
    tmp_path: Path, server_secret: str
) -> None:
    """Three sockets of a NAS with 250 requests each, none of which is answered before all have arrived."""
    with site(tmp_path, Manners(access_after_s=3.0), server_secret=server_secret) as here:
        sent: list[tuple[socket.socket, bytes]] = []
        with here.client() as one, here.client() as two, here.client() as three:
            for identifier in range(250):
                for sock in (one, two, three):
                    sent.append((sock, request(identifier)))
                    sock.send(sent[-1][1])
                if identifier % 25 == 0:
                    time.sleep(0.01)  # no test of the kernel's buffers
            wait_until(lambda: len(here.server.requests()) == len(sent), "all to arrive", deadline_s=2.9)
            assert here.in_flight() == len(sent), "too slow a machine: some were answered already"
            held = Counter((asked.port, asked.identifier) for asked in here.server.requests())
            assert held.most_common(1)[0][1] == 1, "one port and identifier, two requests"
            ports = {port for port, _ in held}
            assert 3 <= len(ports) <= 16, "as many as are needed, or a few more so that more pass untouched"
            asked_by = {(sock, asked[1]): asked for sock, asked in sent}
            for sock, _ in sent:  # each socket's answers may come in any order
                answer = sock.recv(4096)
                assert taken(answer, asked_by.pop((sock, answer[1]))).code == radius.ACCESS_ACCEPT
        wait_until(lambda: here.in_flight() == 0, "all to be over")
        assert here.total("mfalb_listener_answers_total", answer="accept") == len(sent)
        assert here.total("mfalb_listener_drops_total") == 0


def test_c5_an_identifier_is_used_again_after_its_request_was_answered_or_given_up_and_longest_free_first(
    tmp_path: Path,
) -> None:
    """One client after the other, each with the identifier 7, as many devices begin: no two in a row share one."""
    with site(tmp_path, Manners()) as here:
        for _ in range(300):
            with here.client() as sock:
                asked = request()
                sock.send(asked)
                taken(sock.recv(4096), asked)
        used = [(asked.port, asked.identifier) for asked in here.server.requests()]
        assert len(used) == 300
        assert len(set(used[:256])) == 256
        assert used[256:] == used[:44], "in the same order again"


# -------------------------------------------------------------------------------- retransmits (C1, C3, C6)


@on_both_forms
def test_c1_retransmits_go_to_the_same_server_from_the_same_port_byte_for_byte_at_most_once_a_second(
    tmp_path: Path, launch: Launch
) -> None:
    with site(tmp_path, Manners(access_after_s=2.6), launch=launch) as here, here.client() as sock:
        asked, begun_at = request(), time.monotonic()
        while time.monotonic() - begun_at < 2.4:
            sock.send(asked)
            time.sleep(0.1)
        taken(sock.recv(4096), asked)
        copies = here.server.requests()
        assert len({(copy.port, copy.data) for copy in copies}) == 1
        assert len(copies) in (2, 3), "24 tries in 2.4 seconds"
        assert all(copies[n + 1].at_s - copies[n].at_s >= 0.95 for n in range(len(copies) - 1))
        assert here.total("mfalb_listener_answers_total", answer="accept") == 1


def test_c6_a_request_that_its_client_does_not_repeat_is_not_repeated(tmp_path: Path) -> None:
    with site(tmp_path, NEVER, response_timeout="2s") as here, here.client() as sock:
        sock.send(request())
        wait_until(lambda: here.drops("backend_silent") == 1, "the request to be given up")
        assert len(here.server.requests()) == 1
        assert hears_nothing(sock, 0.05)


@pytest.mark.parametrize("server_secret", [CLIENT_SECRET, SERVER_SECRET], ids=["one secret", "two secrets"])
def test_c3_a_newer_request_under_the_same_identifier_gets_the_only_answer(tmp_path: Path, server_secret: str) -> None:
    manners = Manners(access_after_s=0.5)
    with site(tmp_path, manners, server_secret=server_secret) as here, here.client() as sock:
        older, newer = request(), request()
        sock.send(older)
        wait_until(lambda: len(here.server.requests()) == 1, "the older one to arrive")
        sock.send(newer)
        taken(sock.recv(4096), newer)
        assert hears_nothing(sock, 0.6)
        assert here.drops("superseded") == 1
        wait_until(lambda: here.drops("late_answer") == 1, "the abandoned answer to be counted")
        assert here.drops("bad_response_authenticator") == 0, "an alarm"


# --------------------------------------------------------------------------- answers that are nobody's (B1, B9)


def test_b9_an_answer_after_the_request_was_given_up_is_dropped_and_counted_as_late(tmp_path: Path) -> None:
    with site(tmp_path, Manners(access_after_s=1.5), response_timeout="500ms") as here, here.client() as sock:
        sock.send(request())
        wait_until(lambda: here.drops("backend_silent") == 1, "the request to be given up")
        wait_until(lambda: here.drops("late_answer") == 1, "the late answer to be counted")
        assert hears_nothing(sock, 0.1)
        assert here.total("mfalb_backend_up") == 1


def test_b9_an_answer_for_a_client_that_has_left_harms_nobody(tmp_path: Path) -> None:
    with site(tmp_path, Manners(access_after_s=0.5)) as here:
        with here.client() as gone:
            gone.send(request())
            wait_until(lambda: len(here.server.requests()) == 1, "the request to arrive")
        wait_until(lambda: here.total("mfalb_listener_answers_total", answer="accept") == 1, "its answer")
        with here.client() as sock:
            asked = request()
            sock.send(asked)
            taken(sock.recv(4096), asked)


def test_b1_a_right_answer_from_a_wrong_address_or_port_is_not_taken(tmp_path: Path) -> None:
    """The kernel discards it: a socket towards a backend is connected to it."""
    with site(tmp_path, Manners(access_after_s=1.0)) as here, here.client() as sock:
        asked = request()
        sock.send(asked)
        wait_until(lambda: len(here.server.requests()) == 1, "the request to arrive")
        (question,) = here.server.requests()
        genuine = accept(question, SERVER_SECRET)
        for source in (LOOPBACK, "127.0.0.2"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind((source, 0))
                stranger.sendto(genuine, (LOOPBACK, question.port))
        assert hears_nothing(sock, 0.3)
        assert here.in_flight() == 1
        taken(sock.recv(4096), asked)
        assert here.total("mfalb_listener_drops_total") == 0


# ------------------------------------------------------------------------------------------- padding (A3)


@pytest.mark.parametrize("server_secret", [CLIENT_SECRET, SERVER_SECRET], ids=["one secret", "two secrets"])
def test_a3_a_tail_behind_the_packet_is_not_passed_on(tmp_path: Path, server_secret: str) -> None:
    with site(tmp_path, Manners(access_after_s=0.3), server_secret=server_secret) as here, here.client() as sock:
        asked = request()
        sock.send(asked + radius.attribute(radius.USER_NAME, b"mallory"))
        wait_until(lambda: len(here.server.requests()) == 1, "the request to arrive")
        (question,) = here.server.requests()
        assert int.from_bytes(question.data[2:4], "big") == len(question.data) == len(asked)
        assert question.attribute_types == [radius.MESSAGE_AUTHENTICATOR, radius.USER_NAME]
        answer = sock.recv(4096)
        assert taken(answer, asked).data == answer
