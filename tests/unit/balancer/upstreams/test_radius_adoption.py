"""What a carrier does with its predecessor's sockets and requests."""

from __future__ import annotations

import mmap
from typing import Any

import pytest
from unit.balancer.exchange.radius_world import ENTROPY, SOURCE, World, sign_in
from unit.balancer.upstreams.test_radius import Descriptor, Events, Io, Poller

from mfalb.balancer.exchange.flight_log import RING_BYTES, FlightLog
from mfalb.balancer.exchange.radius_exchange import Forward, RadiusExchange
from mfalb.balancer.upstreams import radius as module
from mfalb.balancer.upstreams.custody import Custody, KeptSocket
from mfalb.balancer.upstreams.radius import RadiusUpstream

TIMEOUT_S = 120.0


class Clock:
    """The time that the carrier is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "monotonic", made)
    monkeypatch.setattr(module, "connected_socket", lambda host, port: Descriptor((host, port)))
    return made


class Place:
    """A worker's place: memory and sockets that stay while workers come and go."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.memory = mmap.mmap(-1, RING_BYTES)
        self.kept: list[Any] = []
        self.ios: list[Io] = []
        self.strays = 0
        self.next()

    def next(self) -> None:
        """The worker is gone; another one begins."""
        self.world = World(servers=1, in_flight_limit=1000)
        self.events = Events()
        self.events.stray_answer = self._stray  # type: ignore[method-assign]
        self.poller = Poller()
        self.custody = Custody(FlightLog(self.memory, 0), list(self.kept), self._opened, lambda _: None)
        self.upstream = RadiusUpstream(
            self.poller,  # type: ignore[arg-type]
            self._wrap,  # type: ignore[arg-type]
            self.events,
            self.world.service.upstream_datagram,
            self.custody,
        )
        self.world.exchanges.flights = self.custody.flights
        self.upstream.adopt(self.world.pool.backends, TIMEOUT_S)

    def _stray(self) -> None:
        self.strays += 1

    def _opened(self, backend: str, sock: Any) -> int:
        self.kept.append(KeptSocket(len(self.kept) + 1, "radius/auth", backend, sock))
        return len(self.kept)

    def _wrap(self, sock: Any, *, is_connected: bool) -> Io:
        assert is_connected
        self.ios.append(Io(sock))
        return self.ios[-1]

    def ask(self, datagram: bytes, source: bytes = SOURCE) -> RadiusExchange:
        exchanges = self.world.exchanges
        decision = exchanges.request(datagram, self.world.source(source), self.clock.now, ENTROPY)
        assert isinstance(decision, Forward), decision
        self.upstream.send(decision.exchange, self.clock.now)
        self.upstream.flush()
        return decision.exchange


@pytest.fixture
def place(clock: Clock) -> Place:
    return Place(clock)


def test_a_retransmit_goes_out_from_the_same_socket_with_the_same_bytes(place: Place) -> None:
    before = place.ask(sign_in())
    place.next()
    after = place.ask(sign_in())
    assert after.datagram == before.datagram
    assert after.carrier.io.socket is before.carrier.io.socket
    assert after.transmissions == 2
    assert len(place.kept) == 1
    assert after.backend.active == 1
    assert place.custody.flights == {}


def test_the_next_one_after_that_knows_it_as_well(place: Place) -> None:
    before = place.ask(sign_in())
    for _ in range(3):
        place.next()
        place.clock.now += 1.0
        assert place.ask(sign_in()).datagram == before.datagram


def test_new_requests_get_none_of_the_identifiers_that_may_still_be_answered(place: Place) -> None:
    used = {place.ask(sign_in(identifier=number)).identifier for number in range(10)}
    place.next()
    fresh = [place.ask(sign_in(identifier=number), source=b"other") for number in range(246)]
    assert used.isdisjoint(one.identifier for one in fresh)
    assert len(place.kept) == 1
    place.ask(sign_in(identifier=250), source=b"other")
    assert len(place.kept) == 2


def test_an_answer_that_comes_before_the_client_asks_again_is_a_stray_one(place: Place) -> None:
    before = place.ask(sign_in())
    place.next()
    place.ios[-1].arrived = [(bytes((2, before.identifier)) + bytes(18), b"")]
    (read,) = place.poller.readers
    read()
    assert place.strays == 1
    assert place.events.told == []


def test_what_nobody_asked_again_for_is_forgotten_in_its_time(place: Place) -> None:
    before = place.ask(sign_in())
    place.next()
    place.upstream.expire(place.clock.now + TIMEOUT_S - 1)
    assert len(place.custody.flights) == 1
    place.upstream.expire(place.clock.now + TIMEOUT_S)
    assert place.custody.flights == {}
    ids = {place.ask(sign_in(identifier=number), source=b"other").identifier for number in range(256)}
    assert before.identifier in ids
    assert len(place.kept) == 1


def test_what_was_sent_too_long_ago_is_not_taken_over(place: Place) -> None:
    place.ask(sign_in())
    place.clock.now += TIMEOUT_S + 1
    place.next()
    assert place.custody.flights == {}


def test_where_no_more_sockets_may_be_opened_what_is_asked_now_comes_first(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SOCKET_LIMIT", 1)
    for number in range(256):
        place.ask(sign_in(identifier=number))
    place.next()
    exchange = place.ask(sign_in(), source=b"other")
    assert exchange.identifier == 0  # the one that was sent first
    assert len(place.custody.flights) == 255
    assert len(place.kept) == 1
