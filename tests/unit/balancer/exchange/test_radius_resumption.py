"""A retransmit of what a dead worker sent goes where that one sent it, with the same bytes."""

from __future__ import annotations

import pytest
from unit.balancer.exchange.radius_world import CLIENT, ENTROPY, SOURCE, World, sent, sign_in

from mfalb.balancer.exchange.flight_log import Flight
from mfalb.balancer.exchange.radius_exchange import Drop, Forward, RadiusExchange, Reply
from mfalb.wire import radius

OTHER_ENTROPY = bytes(range(200, 216))
TIMEOUT_S = 120.0


def flight_of(exchange: RadiusExchange, until: float = TIMEOUT_S) -> tuple[bytes, Flight]:
    """What the log of the worker that sent an exchange says, by its key."""
    key = exchange.key + exchange.request.authenticator
    return key, Flight(exchange.backend.name, exchange.entropy, 3, exchange.datagram[1], until)


def successor(world: World, exchange: RadiusExchange, *, until: float = TIMEOUT_S) -> World:
    """The same listener in the next worker."""
    made = World(is_shared_secret=world.is_shared_secret, pins=world.pins, guards=world.guards)
    key, flight = flight_of(exchange, until)
    made.exchanges.flights = {key: flight}
    return made


def ask(world: World, datagram: bytes, now: float = 1.0) -> Forward | Reply | Drop:
    decision = world.exchanges.request(datagram, world.source(SOURCE), now, OTHER_ENTROPY)
    assert isinstance(decision, Forward | Reply | Drop)
    return decision


@pytest.mark.parametrize("is_shared", [True, False], ids=["equal secrets", "unequal secrets"])
def test_it_goes_to_the_same_server_with_the_same_bytes(*, is_shared: bool) -> None:
    world = World(is_shared_secret=is_shared)
    for turns in range(2):  # whoever's turn it was
        request = sign_in(identifier=turns)
        before = world.begin(request)
        after = successor(world, before)
        decision = ask(after, request)
        assert isinstance(decision, Forward)
        assert decision.exchange.flight is not None
        after.carry(decision, 1.0)
        assert decision.exchange.backend.name == before.backend.name
        assert decision.exchange.datagram == before.datagram
        assert decision.exchange.upstream_authenticator == before.upstream_authenticator
        assert after.exchanges.flights == {}


def test_another_authenticator_under_the_same_identifier_begins_anew() -> None:
    world = World()
    after = successor(world, world.begin(sign_in()))
    decision = ask(after, sign_in(authenticator=bytes(16)))
    assert isinstance(decision, Forward)
    assert decision.exchange.flight is None
    assert decision.exchange.entropy == OTHER_ENTROPY
    assert len(after.exchanges.flights) == 1


def test_what_is_too_old_begins_anew() -> None:
    world = World()
    after = successor(world, world.begin(sign_in()), until=1.0)
    decision = ask(after, sign_in(), now=1.0)
    assert isinstance(decision, Forward)
    assert decision.exchange.flight is None


def test_a_refusal_comes_after_a_retransmission_so_nobody_else_gets_it() -> None:
    world = World()
    after = successor(world, world.begin(sign_in()))
    decision = ask(after, sign_in())
    assert isinstance(decision, Forward)
    after.carry(decision, 1.0)
    assert after.exchanges.refused(decision.exchange, 1.1, ENTROPY) == Drop("refused_after_resend")


def test_when_its_server_is_down_another_one_gets_it_as_new() -> None:
    world = World()
    before = world.begin(sign_in())
    after = successor(world, before)
    after.set_up(before.backend.name, is_up=False)
    decision = ask(after, sign_in())
    assert isinstance(decision, Forward)
    assert decision.exchange.backend.name != before.backend.name
    assert (decision.exchange.flight, decision.exchange.transmissions) == (None, 0)
    assert decision.exchange.entropy == OTHER_ENTROPY


def test_a_code_whose_server_is_down_is_refused() -> None:
    world = World()
    issuer = world.challenge(b"state")
    before = world.begin(sign_in(state=b"state", identifier=8))
    assert before.backend.name == issuer
    after = successor(world, before)
    after.set_up(issuer, is_up=False)
    decision = ask(after, sign_in(state=b"state", identifier=8))
    assert isinstance(decision, Reply)
    assert decision.reason == "pinned_down"


def test_the_answer_reaches_the_client_and_further_retransmits_get_it_again() -> None:
    world = World()
    after = successor(world, world.begin(sign_in()))
    decision = ask(after, sign_in())
    assert isinstance(decision, Forward)
    after.carry(decision, 1.0)
    reply = after.answer(decision.exchange, radius.ACCESS_ACCEPT, now=1.1)
    assert isinstance(reply, Reply)
    assert reply.datagram[4:20] == CLIENT.digest(reply.datagram[:4] + sent_authenticator() + reply.datagram[20:])
    again = ask(after, sign_in(), now=1.2)
    assert isinstance(again, Reply)
    assert again.reason == "repeated"


def sent_authenticator() -> bytes:
    return radius.read_untrusted(sign_in()).authenticator


def test_a_flight_to_a_server_that_there_is_none_of_begins_anew() -> None:
    world = World()
    before = world.begin(sign_in())
    after = successor(world, before)
    key, flight = flight_of(before)
    after.exchanges.flights[key] = flight._replace(backend="b9")
    decision = ask(after, sign_in())
    assert isinstance(decision, Forward)
    after.carry(decision, 1.0)
    assert sent(decision.exchange).identifier == 200
