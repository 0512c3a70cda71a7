"""Exchanges that were handed over go on at another worker as if it had begun them."""

from __future__ import annotations

import io
import mmap
from typing import Any

import pytest
from unit.balancer.exchange.radius_world import AUTHENTICATOR, World, server_answer, sign_in
from unit.balancer.listeners.test_radius_dispatch import Path
from unit.balancer.upstreams.test_radius import Descriptor, Io, Poller

from mfalb.balancer.exchange.flight_log import RING_BYTES, FlightLog
from mfalb.balancer.exchange.handed_exchanges import HandedService, packed, read_untrusted
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_peer import RadiusSource
from mfalb.balancer.listeners import radius_dispatch, radius_hand_over
from mfalb.balancer.listeners.radius_dispatch import RadiusDispatch, RadiusParts
from mfalb.balancer.listeners.radius_hand_over import hand_over, take_up
from mfalb.balancer.upstreams import radius as upstream_module
from mfalb.balancer.upstreams.custody import Custody, KeptSocket
from mfalb.balancer.upstreams.radius import RadiusUpstream
from mfalb.telemetry.log import AccessLog
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.wire import radius

PEER = b"10.0.0.5:40000"
ADDRESS = "('127.0.0.1', 1812)"
OTHER = bytes(range(80, 96))  # another authenticator
TIMEOUT_S = 120.0


class Clock:
    """The time that all modules are told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (upstream_module, radius_dispatch, radius_hand_over):
        monkeypatch.setattr(module, "monotonic", made)
    monkeypatch.setattr(upstream_module, "connected_socket", lambda host, port: Descriptor((host, port)))
    return made


class Seat:
    """A worker's place: a dispatch with its upstream, on sockets that may be a predecessor's."""

    def __init__(self, clock: Clock, tag: bytes, kept: list[KeptSocket], *, servers: int = 1) -> None:
        self.clock, self.tag, self.kept = clock, tag, kept
        self.memory = mmap.mmap(-1, RING_BYTES)
        self.ios: list[Io] = []
        self.poller, self.path = Poller(), Path()
        self.world = World(servers=servers, in_flight_limit=1000)
        self.custody = Custody(FlightLog(self.memory, 0), list(kept), self._opened, lambda _: None)
        self.custody.is_handed = True
        self.counters = ListenerCounters("edge", "radius")
        self.access = io.StringIO()
        self.log = AccessLog(is_json=False, stream=self.access)
        parts = RadiusParts(self.world.exchanges, self.world.pins, self.counters, self.log, lambda _: None)
        self.dispatch = RadiusDispatch(parts, self._upstream)

    def _upstream(self, events: RadiusDispatch) -> RadiusUpstream:
        sign = self.world.service.upstream_datagram
        made = RadiusUpstream(self.poller, self._wrap, events, sign, self.custody)  # type: ignore[arg-type]
        made.adopt(self.world.pool.backends, TIMEOUT_S)
        return made

    def _opened(self, backend: str, sock: Any) -> int:
        self.kept.append(KeptSocket(len(self.kept) + 1, "edge/auth", backend, sock))
        return len(self.kept)

    def _wrap(self, sock: Any, *, is_connected: bool) -> Io:
        assert is_connected
        self.ios.append(Io(sock))
        return self.ios[-1]

    def source(self, peer: bytes) -> RadiusSource:
        return RadiusSource(self.world.client, self.tag + peer, self.path, peer)

    def ask(self, datagram: bytes) -> None:
        self.dispatch.received(datagram, self.source(PEER), self.clock.now)
        self.dispatch.upstream.flush()

    @property
    def exchange(self) -> RadiusExchange:
        (found,) = self.dispatch.exchanges.under_way()
        return found

    def answer(self, exchange: RadiusExchange, code: int = radius.ACCESS_ACCEPT) -> None:
        """The server answers on the socket that the exchange went out from."""
        exchange.carrier.io.arrived = [(server_answer(exchange, code), b"")]
        for reader in self.poller.readers:
            reader()

    def sent(self) -> list[bytes]:
        return [data for one in self.ios for data, _ in one.sent]

    def handed(self) -> HandedService:
        handed = hand_over("edge/auth", self.dispatch, {self.tag: ADDRESS})
        (read,) = read_untrusted(packed([handed]))
        return read

    def successor(self) -> Seat:
        """The next worker, with what this one tells it."""
        handed = self.handed()
        following = Seat(self.clock, b"\0\7", self.kept)
        (endpoint,) = handed.endpoints
        assert endpoint.address == ADDRESS
        take_up(following.dispatch, [(endpoint, following.tag, following.source)])
        return following


@pytest.fixture
def seat(clock: Clock) -> Seat:
    return Seat(clock, b"\0\0", [])


def test_an_answer_that_comes_later_reaches_the_client_though_nobody_asked_again(seat: Seat) -> None:
    seat.ask(sign_in())
    before = seat.exchange
    seat.clock.now += 3.0
    following = seat.successor()
    assert seat.dispatch.exchanges.under_way() == []
    assert following.sent() == []
    assert (following.exchange.datagram, following.exchange.deadline) == (before.datagram, before.deadline)
    following.answer(following.exchange)
    ((answer, peer),) = following.path.sent
    assert (answer[0], answer[1], peer) == (radius.ACCESS_ACCEPT, 7, PEER)
    assert following.dispatch.in_flight == 0
    assert following.world.pool.backends["b1"].active == 0
    following.log.flush(0.0)
    assert "answer=accept reason=answered pin=- ms=3000.0" in following.access.getvalue()


def test_a_retransmit_is_absorbed_and_after_a_second_sent_again_from_the_same_socket(seat: Seat) -> None:
    seat.ask(sign_in())
    before = seat.exchange
    sock = before.carrier.io.socket
    following = seat.successor()
    following.ask(sign_in())
    assert following.sent() == []
    seat.clock.now += 1.0
    following.ask(sign_in())
    assert following.sent() == [before.datagram]
    assert following.exchange.carrier.io.socket is sock
    assert following.exchange.transmissions == 2


def test_who_was_answered_and_asks_again_gets_that_answer(seat: Seat) -> None:
    seat.ask(sign_in())
    seat.answer(seat.exchange)
    following = seat.successor()
    following.ask(sign_in())
    assert following.path.sent == seat.path.sent
    assert following.sent() == []
    seat.clock.now += 16.0
    following.dispatch.tick()
    following.ask(sign_in())
    assert len(following.sent()) == 1, "it was kept for its time only"


def test_what_was_superseded_keeps_its_identifier_and_its_late_answer_is_nobodys(seat: Seat) -> None:
    seat.ask(sign_in())
    seat.ask(sign_in(authenticator=OTHER))
    following = seat.successor()
    late, current = following.dispatch.exchanges.under_way()
    assert (late.is_superseded, current.is_superseded) == (True, False)
    following.answer(late)
    assert following.path.sent == []
    assert following.counters.drops["late_answer"] == 1
    following.answer(current)
    assert len(following.path.sent) == 1


def test_identifiers_of_what_is_over_may_be_used_at_once(seat: Seat) -> None:
    for number in range(200):
        seat.ask(sign_in(identifier=number))
        seat.answer(seat.exchange)
    seat.ask(sign_in(identifier=250))
    following = seat.successor()
    for number in range(255):
        following.ask(sign_in(identifier=number, authenticator=OTHER))
    assert len(following.ios) == 1, "one socket was enough"
    assert len({one.identifier for one in following.dispatch.exchanges.under_way()}) == 256


def test_what_stays_with_the_former_worker_is_absorbed_here_until_its_deadline(seat: Seat) -> None:
    seat.ask(sign_in())
    seat.exchange.carrier.number = 0  # as a connection's
    following = seat.successor()
    assert len(seat.dispatch.exchanges.under_way()) == 1
    seat.clock.now += 2.0
    following.ask(sign_in())
    assert following.sent() == []
    assert following.counters.drops["duplicate_in_flight"] == 1
    seat.answer(seat.exchange)
    assert len(seat.path.sent) == 1
    seat.clock.now += TIMEOUT_S
    following.dispatch.tick()
    assert following.counters.drops["left_to_predecessor"] == 1
    assert following.dispatch.in_flight == 0


def test_what_makes_no_sense_here_is_passed_over(seat: Seat) -> None:
    seat.ask(sign_in())
    (endpoint,) = seat.handed().endpoints
    (flight,) = endpoint.flights
    following = Seat(seat.clock, b"\0\0", seat.kept)
    senseless = [
        flight._replace(backend="b9"),
        flight._replace(datagram=b"no request"),
        flight._replace(deadline=seat.clock.now),
        flight._replace(socket=99),
    ]
    endpoint.flights[:] = senseless
    take_up(following.dispatch, [(endpoint, b"\0\0", following.source)])
    endpoint.flights[:] = [flight]
    take_up(following.dispatch, [(endpoint, b"\0\0", lambda _: None)])
    assert following.dispatch.exchanges.under_way() == []
    following.ask(sign_in())
    assert len(following.sent()) == 1


def test_two_flights_under_one_identifier_of_a_socket_cannot_be(seat: Seat) -> None:
    seat.ask(sign_in())
    (endpoint,) = seat.handed().endpoints
    (flight,) = endpoint.flights
    again = flight._replace(datagram=sign_in(identifier=9, authenticator=AUTHENTICATOR))
    endpoint.flights.append(again)
    following = Seat(seat.clock, b"\0\0", seat.kept)
    take_up(following.dispatch, [(endpoint, b"\0\0", following.source)])
    identifiers = [one.identifier for one in following.dispatch.exchanges.under_way()]
    assert len(set(identifiers)) == len(identifiers)


def test_a_worker_that_dies_later_has_noted_what_it_took_up(seat: Seat) -> None:
    seat.ask(sign_in())
    following = seat.successor()
    (noted,) = FlightLog(following.memory, 0).take_over({1}, 0.0)
    assert (noted.socket, noted.identifier) == (1, following.exchange.identifier)
    assert noted.key == following.exchange.key
