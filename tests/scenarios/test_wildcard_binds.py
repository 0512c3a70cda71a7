"""Promise: who asks one address of a host is answered from that address, however the listener is bound.

A connected UDP socket hears the address only that it is connected to: an answer from another one is silence.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import POLLIN, poll
from time import monotonic
from typing import Final

import pytest
from programs import radclient
from programs.balancer import Balancer
from programs.datagram_forms import on_both_forms
from programs.ports import LOOPBACK
from programs.process import Launch, wait_until
from programs.radclient import Target
from programs.radius_pool import radius_pool
from programs.radius_responder import Manners, RadiusResponder

from mfalb.net.batched_datagrams import BatchedDatagramSocket
from mfalb.net.datagrams import BATCH, Datagram, DatagramSocket, PlainDatagramSocket
from mfalb.net.udp_sockets import bound_socket
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

DEADLINE_S: Final = 10.0
ASKED: Final = ("127.0.0.1", "127.0.0.2", "127.255.255.254", "::1")

Wrap = Callable[..., DatagramSocket]

# ------------------------------------------------------------------------------------------- one socket

on_each_kind = pytest.mark.parametrize("wrap", [BatchedDatagramSocket, PlainDatagramSocket], ids=["batched", "plain"])


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes what is entered into it."""
    with ExitStack() as stack:
        yield stack


def received(sock: DatagramSocket, count: int) -> list[Datagram]:
    """So many datagrams, waited for."""
    found: list[Datagram] = []
    poller = poll()
    poller.register(sock.socket, POLLIN)
    deadline = monotonic() + DEADLINE_S
    while len(found) < count and monotonic() < deadline:
        assert poller.poll(DEADLINE_S * 1000), "nothing came in time"
        found += sock.receive()
    return found


def ipv6_addresses() -> list[tuple[str, int]]:
    """Each IPv6 address of this host, and its interface: ::1, and what else there is, link-local ones too."""
    lines = Path("/proc/net/if_inet6").read_text("ascii").splitlines()
    fields = [line.split() for line in lines]
    tentative = 0x40  # still looked for elsewhere: nobody may use it
    return [
        (socket.inet_ntop(socket.AF_INET6, bytes.fromhex(host)), int(interface, 16))
        for host, interface, _, _, flags, _ in fields
        if not int(flags, 16) & tentative
    ]


@on_each_kind
def test_each_ipv6_address_of_the_host_answers_for_itself_even_to_another_of_them(
    wrap: Wrap, opened: ExitStack
) -> None:
    """Link-local addresses, of which each link has its own, go by their interface."""
    server = wrap(opened.enter_context(closing(bound_socket("::", 0))), is_connected=False)
    port = server.socket.getsockname()[1]
    addresses = ipv6_addresses()
    assert ("::1", 1) in addresses
    for host, interface in addresses:
        scope = interface if host.startswith("fe80") else 0
        client = opened.enter_context(closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)))
        client.settimeout(DEADLINE_S)
        if not scope:
            client.bind(("::1", 0))  # the kernel's own choice for an answer to ::1 is ::1
        client.connect((host, port, 0, scope))
        client.send(host.encode())
        ((asked, peer),) = received(server, 1)
        assert asked == host.encode()
        assert server.send([(b"from " + asked, peer)]) == 1
        assert client.recv(100) == b"from " + asked


@on_each_kind
def test_runs_of_one_length_to_one_client_leave_from_the_addresses_that_it_asked(wrap: Wrap, opened: ExitStack) -> None:
    server = wrap(opened.enter_context(closing(bound_socket("0.0.0.0", 0))), is_connected=False)
    port = server.socket.getsockname()[1]
    client = opened.enter_context(closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
    client.bind((LOOPBACK, 0))
    client.settimeout(DEADLINE_S)
    hosts = ASKED[:3]
    for number in range(3 * BATCH):
        client.sendto(b"%04d".ljust(130, b".") % number, (hosts[number % 3], port))
    asked = received(server, 3 * BATCH)
    assert server.send(asked) == 3 * BATCH
    answers = [client.recvfrom(1000) for _ in range(3 * BATCH)]
    assert {(int(data[:4]), host) for data, (host, _) in answers} == {
        (number, hosts[number % 3]) for number in range(3 * BATCH)
    }


@on_each_kind
def test_only_a_wildcard_address_has_peers_that_tell_what_they_asked(wrap: Wrap, opened: ExitStack) -> None:
    sizes: dict[str, int] = {}
    for bound_to in ("127.0.0.1", "::1", "0.0.0.0", "::"):
        server = wrap(opened.enter_context(closing(bound_socket(bound_to, 0))), is_connected=False)
        host, port = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound_to, bound_to), server.socket.getsockname()[1]
        client = opened.enter_context(closing(bound_socket(host, 0)))
        client.sendto(b"x", (host, port))
        ((_, peer),) = received(server, 1)
        sizes[bound_to] = len(peer)
    assert sizes == {"127.0.0.1": 16, "::1": 28, "0.0.0.0": 16 + 12, "::": 28 + 20}


# ------------------------------------------------------------------------------------------- a balancer

CLIENT_SECRET: Final = "towards-the-clients-0"
CLIENT: Final = SharedSecret(CLIENT_SECRET.encode())
USER: Final = radius.attribute(radius.USER_NAME, b"alice")


@dataclass(frozen=True, slots=True)
class Site:
    """A balancer on all addresses of this host, before one server that a test tells how slow to be."""

    server: RadiusResponder
    balancer: Balancer
    port: int

    def wait_for_requests(self, count: int) -> None:
        wait_until(lambda: len(self.server.requests()) == count, f"{count} requests to reach the server")

    @contextmanager
    def client(self, asked: str) -> Iterator[socket.socket]:
        """A socket of a NAS, connected to one of the balancer's addresses. All of them are on the NAS's one address."""
        family = socket.AF_INET6 if ":" in asked else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1" if ":" in asked else LOOPBACK, 0))
            sock.settimeout(DEADLINE_S)
            sock.connect((asked, self.port))
            yield sock


@contextmanager
def site(run_dir: Path, launch: Launch) -> Iterator[Site]:
    with RadiusResponder("b1", "towards-the-server-1", Manners()) as server:
        made = radius_pool((server,), run_dir, client_secret=CLIENT_SECRET)
        (listener,) = made.config["listeners"]
        listener["bind"] = [f"0.0.0.0:{made.port}", f"[::]:{made.port}"]
        listener["clients"].append({**listener["clients"][0], "name": "loopback6", "network": "::1/128"})
        with Balancer(made.config, run_dir / "mfalb", secrets=made.secrets, launch=launch) as balancer:
            wait_until(lambda: balancer.metrics().total("mfalb_backend_up") == 1, "the server to be up")
            yield Site(server, balancer, made.port)


def request(code: int = radius.ACCESS_REQUEST) -> bytes:
    """A new request: its authenticator was never used before."""
    body = USER if code == radius.ACCESS_REQUEST else b""
    return radius.signed_request(code, 7, os.urandom(16), body, CLIENT)


def assert_accepted(answer: bytes, asked: bytes) -> None:
    packet = radius.read_untrusted(answer)
    assert (packet.code, packet.identifier) == (radius.ACCESS_ACCEPT, asked[1])
    assert radius.has_valid_response_authenticator(packet, CLIENT, asked[4:20])


@on_both_forms
def test_each_address_answers_a_sign_in_its_retransmits_and_a_status_server(tmp_path: Path, launch: Launch) -> None:
    with site(tmp_path, launch) as here:
        for number, host in enumerate(ASKED, 1):
            with here.client(host) as client:
                here.server.manners.access_after_s = 0.3
                sign_in = request()
                client.send(sign_in)
                here.wait_for_requests(number)
                client.send(sign_in)  # while it is in flight
                answer = client.recv(4096)
                assert_accepted(answer, sign_in)
                client.send(sign_in)  # when it was answered
                assert client.recv(4096) == answer
                probe = request(radius.STATUS_SERVER)
                client.send(probe)
                assert_accepted(client.recv(4096), probe)
                assert len(here.server.requests()) == number


@on_both_forms
def test_one_request_to_two_addresses_is_two_and_each_is_answered_from_where_it_was_asked(
    tmp_path: Path, launch: Launch
) -> None:
    """RFC 5080 section 2.2.2: duplicates come to the same socket; so it is with two addresses that are bound singly."""
    with site(tmp_path, launch) as here, closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.bind((LOOPBACK, 0))
        client.settimeout(DEADLINE_S)
        here.server.manners.access_after_s = 0.3
        sign_in = request()
        for _ in range(2):  # a new request to each, and its retransmit
            for host in ASKED[:2]:
                client.sendto(sign_in, (host, here.port))
        answers = dict(client.recvfrom(4096)[::-1] for _ in range(2))
        assert {host for host, _ in answers} == set(ASKED[:2])
        for address, answer in answers.items():
            assert_accepted(answer, sign_in)
            client.sendto(sign_in, address)
            assert client.recvfrom(4096) == (answer, address)
        assert len(here.server.requests()) == 2


@on_both_forms
def test_radclient_takes_the_answers_of_each_address(tmp_path: Path, launch: Launch) -> None:
    with site(tmp_path, launch) as here:
        for host in ("127.0.0.2", "[::1]"):
            target = Target(host, here.port, CLIENT_SECRET, timeout_s=2.0, tries=1)
            (answer,) = radclient.send(target, [(("User-Name", "alice"),)])
            assert answer is not None, f"{host}: no answer"
            assert answer.code == "Access-Accept"
