"""What a client repeats (RFC 5080 section 2.2.2): requirements C1 to C6, A6."""

from __future__ import annotations

import pytest
from unit.balancer.exchange.radius_world import (
    AUTHENTICATOR,
    CLIENT,
    DEADLINE_S,
    SOURCE,
    World,
    received,
    server_answer,
    sign_in,
)

from mfalb.balancer.exchange.radius_exchange import Drop, Forward, Reply, Resend
from mfalb.wire import radius

OTHER_AUTHENTICATOR = bytes(range(50, 66))


def test_c1_a_retransmit_in_flight_is_dropped_within_a_second_and_then_sent_again_with_the_same_bytes() -> None:
    world = World()
    exchange = world.begin(sign_in(), now=10.0)
    bytes_sent = exchange.datagram
    assert world.request(sign_in(), now=10.9) == Drop("duplicate_in_flight")
    again = world.request(sign_in(), now=11.0)
    assert isinstance(again, Resend)
    assert again.exchange is exchange
    assert exchange.datagram == bytes_sent


def test_c1_a_retransmit_is_sent_again_at_most_once_a_second() -> None:
    world = World()
    exchange = world.begin(sign_in(), now=0.0)
    resent = 0
    for tenth in range(1, 100):
        now = tenth / 10
        if isinstance(world.request(sign_in(), now=now), Resend):
            exchange.sent_at = now  # as the upstream notes it
            resent += 1
    assert resent == 9


def test_c2_a_retransmit_after_the_answer_gets_the_stored_bytes_and_reaches_no_server() -> None:
    world = World()
    exchange = world.begin(sign_in())
    first = world.answer(exchange, radius.ACCESS_ACCEPT, now=1.0)
    assert isinstance(first, Reply)
    again = world.request(sign_in(), now=14.0)
    assert again == Reply(first.datagram, "repeated")


def test_c4_an_answer_is_forgotten_after_its_time_and_a_very_late_retransmit_is_new() -> None:
    world = World()
    world.answer(world.begin(sign_in()), radius.ACCESS_ACCEPT, now=1.0)
    world.exchanges.expire(16.1)
    assert isinstance(world.request(sign_in(), now=16.1), Forward)


def test_c3_the_same_identifier_with_a_new_authenticator_supersedes_the_older_request() -> None:
    world = World()
    older = world.begin(sign_in())
    decision = world.request(sign_in(authenticator=OTHER_AUTHENTICATOR), now=0.1)
    assert isinstance(decision, Forward)
    assert decision.superseded is older
    assert decision.exchange is not older
    assert list(world.exchanges.duplicates.in_flight.values()) == [decision.exchange]


def test_a_superseding_request_is_given_up_after_those_that_began_before_it() -> None:
    """Expiry walks the table in order and stops at the first that is not due."""
    world = World()
    world.begin(sign_in(), now=0.0)
    world.begin(sign_in(identifier=8), now=1.0)
    newer = world.begin(sign_in(authenticator=OTHER_AUTHENTICATOR), now=2.0)
    assert [one.request.identifier for one in world.exchanges.expire(1.0 + DEADLINE_S)] == [8]
    assert world.exchanges.expire(2.0 + DEADLINE_S) == [newer]


def test_an_unusable_new_request_leaves_the_older_one_under_way() -> None:
    world = World()
    older = world.begin(sign_in())
    for name in ("b1", "b2"):
        world.set_up(name, is_up=False)
    decision = world.request(sign_in(authenticator=OTHER_AUTHENTICATOR))
    assert decision == Drop("no_backend")
    assert list(world.exchanges.duplicates.in_flight.values()) == [older]


def test_c1_the_same_identifier_from_another_port_is_another_request() -> None:
    world = World()
    one = world.begin(sign_in(), source=SOURCE)
    two = world.begin(sign_in(), source=b"10.0.0.5:40001")
    assert one is not two
    assert len(world.exchanges.duplicates.in_flight) == 2


def test_a6_a_forged_retransmit_neither_resends_nor_disturbs_the_one_under_way() -> None:
    world = World()
    exchange = world.begin(sign_in())
    forged = sign_in()[:-1] + b"?"
    assert world.request(forged, now=5.0) == Drop("bad_message_authenticator")
    assert list(world.exchanges.duplicates.in_flight.values()) == [exchange]


def test_c1_the_same_datagram_at_another_socket_of_ours_is_another_request() -> None:
    """RFC 5080 section 2.2.2: a duplicate has the same destination, too. A listener puts its socket into the key."""
    world = World()
    one, two = world.begin(sign_in(), source=b"\0" + SOURCE), world.begin(sign_in(), source=b"\1" + SOURCE)
    assert one is not two


def test_c1_a_retransmit_under_another_authenticator_or_code_is_none() -> None:
    world = World()
    exchange = world.begin(sign_in())
    status = radius.signed_request(radius.STATUS_SERVER, 7, AUTHENTICATOR, b"", CLIENT)
    reply = world.request(status)
    assert isinstance(reply, Reply)
    assert reply.reason == "status"
    assert world.request(sign_in(), now=0.5) == Drop("duplicate_in_flight")
    assert list(world.exchanges.duplicates.in_flight.values()) == [exchange]


@pytest.mark.parametrize("code", [radius.ACCESS_ACCEPT, radius.ACCESS_REJECT, radius.ACCESS_CHALLENGE])
def test_c2_every_retransmit_after_the_answer_gets_the_same_bytes(code: int) -> None:
    world = World()
    exchange = world.begin(sign_in())
    first = world.answer(exchange, code, (radius.STATE, b"s"), (radius.REPLY_MESSAGE, b"hi"), now=1.0)
    assert isinstance(first, Reply)
    assert [world.request(sign_in(), now=now) for now in (1.0, 1.1, 9.0, 15.9)] == [
        Reply(first.datagram, "repeated")
    ] * 4
    assert exchange.transmissions == 1


def test_a6_a_forgery_neither_fetches_nor_replaces_a_stored_answer() -> None:
    world = World()
    first = world.answer(world.begin(sign_in()), radius.ACCESS_ACCEPT)
    assert isinstance(first, Reply)
    assert world.request(sign_in()[:-1] + b"?") == Drop("bad_message_authenticator")
    other = bytearray(sign_in(authenticator=OTHER_AUTHENTICATOR))
    other[-1] ^= 1
    assert world.request(bytes(other)) == Drop("bad_message_authenticator")
    assert world.request(sign_in(), now=1.0) == Reply(first.datagram, "repeated")


def test_c3_a_new_request_under_an_answered_identifier_is_new_and_its_answer_takes_the_old_one_s_place() -> None:
    world = World()
    world.answer(world.begin(sign_in()), radius.ACCESS_REJECT, now=1.0)
    newer = world.begin(sign_in(authenticator=OTHER_AUTHENTICATOR), now=2.0)
    world.answer(newer, radius.ACCESS_ACCEPT, now=3.0)
    stored = received(world.request(sign_in(authenticator=OTHER_AUTHENTICATOR), now=4.0))
    assert stored.code == radius.ACCESS_ACCEPT
    assert radius.has_valid_response_authenticator(stored, CLIENT, OTHER_AUTHENTICATOR)


def test_c3_the_answer_to_the_older_request_does_not_answer_the_newer_one() -> None:
    world = World(is_shared_secret=True)  # each request keeps its client's authenticator on its way
    answer_to_older = server_answer(world.begin(sign_in()), radius.ACCESS_ACCEPT)
    newer = world.begin(sign_in(authenticator=OTHER_AUTHENTICATOR), now=0.1)
    assert world.exchanges.answer(newer, answer_to_older, 1.0) == Drop("bad_response_authenticator")


def test_c4_a_stored_answer_lives_for_its_whole_time_and_no_longer() -> None:
    world = World()  # the table keeps answers for 15 s, as listeners do by default
    world.answer(world.begin(sign_in()), radius.ACCESS_ACCEPT, now=1.0)
    world.exchanges.expire(15.9)
    assert isinstance(world.request(sign_in(), now=15.9), Reply)
    world.exchanges.expire(16.0)
    assert isinstance(world.request(sign_in(), now=16.0), Forward)


def test_c6_nothing_is_sent_again_unless_the_client_asks_again() -> None:
    """Retransmits are the client's (RFC 5080 section 2.2.1 is about those who make their own)."""
    world = World()
    exchange = world.begin(sign_in())
    for tenth in range(int(DEADLINE_S * 10)):
        assert world.exchanges.expire(tenth / 10) == []
    assert world.exchanges.expire(DEADLINE_S) == [exchange]
    assert exchange.transmissions == 1
