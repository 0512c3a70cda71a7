"""A listener over UDP: whose datagram it is, and what becomes of a batch."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest
from programs.radius_mutations import forged_by_a_bit
from unit.balancer.exchange.radius_world import CLIENT, World, sign_in, status_server
from unit.balancer.listeners.test_radius_dispatch import Desk

from mfalb.balancer.config.radius_models import RadiusClient
from mfalb.balancer.config.values import Secret
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_peer import RadiusSource, Secrets
from mfalb.balancer.listeners.radius import RadiusListener
from mfalb.balancer.listeners.radius_clients import RadiusClients
from mfalb.net.datagrams import Datagram
from mfalb.net.sockaddr import sockaddr_of
from mfalb.wire import radius

PEER = sockaddr_of(("10.0.0.5", 40_000))


@dataclass
class Io:
    """A bound socket that gives what the test put there and keeps what it gets."""

    socket: object = field(default_factory=object)
    arrived: list[Datagram] = field(default_factory=list)
    sent: list[Datagram] = field(default_factory=list)

    def receive(self) -> list[Datagram]:
        arrived, self.arrived = self.arrived, []
        return arrived

    def send(self, datagrams: list[Datagram]) -> int:
        self.sent += datagrams
        return len(datagrams)


class Poller:
    """Keeps the readers, in the order of their sockets."""

    def __init__(self) -> None:
        self.readers: list[Callable[[], None]] = []

    def watch(self, _sock: socket.socket, reader: Callable[[], None]) -> None:
        self.readers.append(reader)


class Site:
    """A listener on some sockets, before a world."""

    def __init__(self, sockets: int = 1) -> None:
        self.desk = Desk(World())
        self.desk.upstream.flush = lambda: None  # type: ignore[method-assign]
        self.ios, self.poller = [Io() for _ in range(sockets)], Poller()
        client = RadiusClient(name="vpn", network=ip_network("10.0.0.0/8"), secret=Secret(CLIENT.value))
        clients = RadiusClients((client,), Secrets())
        self.listener = RadiusListener(self.desk.dispatch, clients, self.poller, self.ios)  # type: ignore[arg-type]

    def arrive(self, *datagrams: bytes, socket: int = 0, peer: bytes = PEER) -> None:
        self.ios[socket].arrived = [(data, peer) for data in datagrams]
        self.poller.readers[socket]()


def test_c1_the_same_datagram_at_two_sockets_of_ours_is_two_requests() -> None:
    """RFC 5080 section 2.2.2: a duplicate has the same destination, too."""
    site = Site(2)
    for number in (0, 1, 0, 1):
        site.arrive(sign_in(), socket=number)
    assert len(site.desk.upstream.sent) == 2
    assert site.desk.drops() == {"duplicate_in_flight": 2}


def test_a_listener_may_have_more_sockets_than_a_byte_can_tell_apart() -> None:
    site = Site(300)
    for number in (0, 255, 256, 299):
        site.arrive(sign_in(), socket=number)
    assert len({exchange.key for exchange, _ in site.desk.upstream.sent}) == 4


def test_a_fault_of_ours_with_one_datagram_costs_no_other_of_its_batch(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    received = site.desk.dispatch.received

    def fails_at_the_second(data: bytes, source: RadiusSource, now: float) -> None:
        if data[1] == 2:
            raise ZeroDivisionError
        received(data, source, now)

    monkeypatch.setattr(site.desk.dispatch, "received", fails_at_the_second)
    for _ in range(2):
        site.arrive(*(sign_in(identifier=number, authenticator=bytes((number,)) * 16) for number in (1, 2, 3)))
    passed: list[RadiusExchange] = [exchange for exchange, _ in site.desk.upstream.sent]
    assert [exchange.request.identifier for exchange in passed] == [1, 3]
    assert site.desk.drops() == {"internal_error": 2, "duplicate_in_flight": 2}
    assert [record.getMessage() for record in caplog.records] == ["internal error: a datagram is lost"]


def test_a_warning_names_the_address_of_the_client_s_socket(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    site.arrive(forged_by_a_bit(sign_in()))
    (record,) = caplog.records
    assert (vars(record)["client"], vars(record)["host"]) == ("vpn", "10.0.0.5")


def test_answers_leave_by_the_socket_that_was_asked() -> None:
    site = Site(2)
    site.arrive(status_server(), socket=1)
    site.listener.flush()
    assert [len(io.sent) for io in site.ios] == [0, 1]
    ((answer, peer),) = site.ios[1].sent
    assert (answer[0], peer) == (radius.ACCESS_ACCEPT, PEER)
