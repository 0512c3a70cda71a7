"""What waits for the store that nodes share, and what its client gets meanwhile."""

from __future__ import annotations

from unit.balancer.exchange.radius_world import ENTROPY, SOURCE, World, server_answer, sign_in

from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.exchange.duplicates import DuplicateTable
from mfalb.balancer.exchange.radius_exchange import Ask, Drop, Forward, RadiusExchange, Reply, RequestDecision
from mfalb.balancer.exchange.radius_shared import SharedRadiusExchanges
from mfalb.wire import radius

STATE = b"state of another node"
LATER = bytes(range(60, 76))  # another authenticator


class SharedWorld(World):
    """A node that shares its pins."""

    exchanges: SharedRadiusExchanges

    def __post_init__(self) -> None:
        super().__post_init__()
        duplicates: DuplicateTable[RadiusExchange] = DuplicateTable(self.in_flight_limit, 100, 15.0)
        self.exchanges = SharedRadiusExchanges(self.service, duplicates, self.guards)

    def ask(self, datagram: bytes, now: float = 0.0) -> Ask:
        decision = self.request(datagram, now)
        assert isinstance(decision, Ask), decision
        return decision

    def go_on(self, ask: Ask, now: float = 0.0) -> RequestDecision:
        return self.carry(self.exchanges.go_on(ask, self.source(SOURCE), now, ENTROPY), now)

    def held(self, now: float = 0.0, identifier: int = 7) -> tuple[RadiusExchange, Reply]:
        """A first half whose challenge waits for the store."""
        exchange = self.begin(sign_in(identifier=identifier), now)
        datagram = server_answer(exchange, radius.ACCESS_CHALLENGE, (radius.STATE, STATE))
        reply = self.exchanges.answer(exchange, datagram, now)
        assert isinstance(reply, Reply)
        return exchange, reply


# ------------------------------------------------------------------------------------------ requests


def test_a_state_that_is_not_known_here_is_asked_for_and_goes_to_the_server_that_the_store_names() -> None:
    for backend in ("b1", "b2"):
        world = SharedWorld()
        ask = world.ask(sign_in(state=STATE))
        (key,) = ask.missing
        world.pins.put(Pin(key, backend, 300.0), 0.0)
        decision = world.go_on(ask)
        assert isinstance(decision, Forward)
        assert decision.exchange.backend.name == backend
        assert decision.exchange.is_bound
        assert world.exchanges.unknown_states == 0


def test_one_that_the_store_does_not_know_goes_where_every_node_sends_it_as_without_a_store() -> None:
    world, alone = SharedWorld(), World()
    decision = world.go_on(world.ask(sign_in(state=STATE)))
    assert isinstance(decision, Forward)
    assert decision.exchange.backend.name == alone.begin(sign_in(state=STATE)).backend.name
    assert not decision.exchange.is_bound
    assert world.exchanges.unknown_states == 1


def test_what_has_no_state_and_what_is_known_here_is_not_asked_for() -> None:
    world = SharedWorld()
    assert isinstance(world.request(sign_in()), Forward)
    issuer = World.challenge(world, STATE, identifier=8)
    assert world.begin(sign_in(state=STATE, identifier=9)).backend.name == issuer
    without = SharedWorld(has_pins=False)
    assert isinstance(without.request(sign_in(state=STATE)), Forward)


def test_while_it_is_asked_for_retransmits_are_absorbed_and_afterwards_too() -> None:
    world = SharedWorld()
    ask = world.ask(sign_in(state=STATE))
    assert world.request(sign_in(state=STATE)) == Drop("duplicate_in_flight")
    assert isinstance(world.go_on(ask), Forward)
    assert world.request(sign_in(state=STATE)) == Drop("duplicate_in_flight")


def test_when_its_client_asks_for_something_else_meanwhile_the_older_request_is_over() -> None:
    world = SharedWorld()
    older = world.ask(sign_in(state=STATE))
    newer = world.ask(sign_in(state=STATE, authenticator=LATER))
    assert world.go_on(older) == Drop("superseded")
    assert isinstance(world.go_on(newer), Forward)
    older = world.ask(sign_in(state=STATE, identifier=20))
    assert isinstance(world.request(sign_in(identifier=20, authenticator=LATER)), Forward)
    assert world.go_on(older) == Drop("superseded")


def test_no_more_requests_are_asked_for_at_once_than_may_be_in_flight() -> None:
    world = SharedWorld(in_flight_limit=2)
    asks = [world.ask(sign_in(state=STATE, identifier=number)) for number in range(2)]
    assert isinstance(world.request(sign_in(state=STATE, identifier=3)), Forward)
    for ask in asks:
        world.go_on(ask)


# ------------------------------------------------------------------------------------------ answers


def test_while_an_answer_is_held_its_client_s_retransmits_get_nothing_and_afterwards_get_it() -> None:
    world = SharedWorld()
    exchange, reply = world.held()
    assert reply.pins
    for now in (0.5, 5.0):  # also when a retransmit would be sent on
        assert world.request(sign_in(), now) == Drop("duplicate_in_flight")
    assert world.exchanges.stored(reply, 5.0)
    assert world.request(sign_in(), 6.0) == Reply(reply.datagram, "repeated")
    assert exchange.key not in world.exchanges.duplicates.in_flight


def test_an_answer_that_only_ends_a_sign_in_is_not_held() -> None:
    world = SharedWorld()
    World.challenge(world, STATE, identifier=8)
    exchange = world.begin(sign_in(state=STATE, identifier=9), now=1.0)
    reply = world.answer(exchange, radius.ACCESS_ACCEPT, now=2.0)
    assert isinstance(reply, Reply)
    assert reply.pins
    assert world.request(sign_in(state=STATE, identifier=9), 2.0) == Reply(reply.datagram, "repeated")


def test_an_answer_without_pins_is_not_held() -> None:
    world = SharedWorld()
    exchange = world.begin(sign_in())
    reply = world.answer(exchange, radius.ACCESS_REJECT)
    assert isinstance(reply, Reply)
    assert not reply.pins
    assert world.request(sign_in()) == Reply(reply.datagram, "repeated")


def test_an_answer_whose_client_asks_for_something_else_meanwhile_is_nobody_s() -> None:
    world = SharedWorld()
    _, reply = world.held()
    newer = world.begin(sign_in(authenticator=LATER))
    assert not world.exchanges.stored(reply, 0.1)
    assert world.request(sign_in(authenticator=LATER)) == Drop("duplicate_in_flight"), "the newer one goes on"
    assert isinstance(world.answer(newer, radius.ACCESS_REJECT), Reply)
    assert not world.exchanges.expire_superseded(1e9), "its identifier is nobody's care any more"


def test_an_answer_that_is_held_past_its_exchange_s_deadline_is_nobody_s() -> None:
    world = SharedWorld()
    exchange, reply = world.held()
    assert world.exchanges.expire(exchange.deadline) == [exchange]
    assert not world.exchanges.stored(reply, exchange.deadline)


def test_nothing_is_settled_while_anything_waits_for_the_store() -> None:
    world = SharedWorld()
    assert not world.exchanges.is_waiting
    _, reply = world.held()
    assert world.exchanges.is_waiting
    world.exchanges.stored(reply, 0.0)
    assert not world.exchanges.is_waiting
    ask = world.ask(sign_in(state=STATE, identifier=8))
    assert world.exchanges.is_waiting
    world.go_on(ask)
    assert not world.exchanges.is_waiting
