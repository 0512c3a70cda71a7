from __future__ import annotations

import pytest
from unit.balancer.exchange.radius_world import (
    AUTHENTICATOR,
    CLIENT,
    DEADLINE_S,
    ENTROPY,
    SOURCE,
    World,
    received,
    sent,
    server_answer,
    sign_in,
)

from mfalb.balancer.exchange.radius_exchange import Drop, Forward, Reply, Resend
from mfalb.balancer.pools.backend import AdminState
from mfalb.wire import radius

OTHER_AUTHENTICATOR = bytes(range(50, 66))

# ------------------------------------------------------------------------------- retransmits (C1, C2, C3)


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


# -------------------------------------------------------------------------- refusals, silence, finality


def test_a_request_refused_before_it_was_received_goes_to_another_server_at_once() -> None:
    world = World()
    exchange = world.begin(sign_in())
    first = exchange.backend.name
    decision = world.exchanges.refused(exchange, 0.1, ENTROPY)
    assert isinstance(decision, Forward)
    assert decision.exchange is exchange
    assert exchange.backend.name != first
    world.carry(decision, 0.1)
    assert radius.has_valid_message_authenticator(sent(exchange), world.upstreams[exchange.backend.name].secret)


def test_a_request_refused_by_all_is_over() -> None:
    world = World()
    exchange = world.begin(sign_in())
    world.carry(world.exchanges.refused(exchange, 0.1, ENTROPY), 0.1)
    assert world.exchanges.refused(exchange, 0.2, ENTROPY) == Drop("no_backend", exchange)
    assert not world.exchanges.duplicates.in_flight


def test_a_request_refused_after_it_was_sent_twice_waits_since_the_first_may_have_arrived() -> None:
    world = World()
    exchange = world.begin(sign_in())
    exchange.transmissions = 2
    first = exchange.backend
    assert world.exchanges.refused(exchange, 2.0, ENTROPY) == Drop("refused_after_resend")
    assert exchange.backend is first
    assert list(world.exchanges.duplicates.in_flight.values()) == [exchange]


def test_a_refused_state_is_rejected_instead_of_tried_elsewhere() -> None:
    world = World()
    world.challenge(b"s")
    exchange = world.begin(sign_in(state=b"s", identifier=8))
    decision = world.exchanges.refused(exchange, 0.1, ENTROPY)
    assert isinstance(decision, Reply)
    assert decision.exchange is exchange
    assert received(decision).code == radius.ACCESS_REJECT


def test_a_silent_server_that_is_up_is_never_left_for_another() -> None:
    world = World()
    exchange = world.begin(sign_in())
    first = exchange.backend
    for second in range(1, 110):
        decision = world.request(sign_in(), now=float(second))
        assert isinstance(decision, Resend)
        assert decision.exchange.backend is first


def test_a_silent_server_in_maintenance_keeps_what_it_may_be_acting_on() -> None:
    world = World()
    exchange = world.begin(sign_in())
    world.pool.set_admin_state(exchange.backend.name, AdminState.MAINT)
    assert isinstance(world.request(sign_in(), now=60.0), Resend)


def test_a_silent_server_that_health_found_down_loses_the_request_with_the_next_retransmit() -> None:
    world = World()
    exchange = world.begin(sign_in())
    first = exchange.backend.name
    world.set_up(first, is_up=False)
    decision = world.request(sign_in(), now=3.0)
    assert isinstance(decision, Forward)
    assert decision.exchange is exchange
    assert exchange.backend.name != first
    assert exchange.deadline == DEADLINE_S, "a second server is no reason to wait longer"


def test_b9_a_late_answer_of_the_server_that_was_left_is_dropped() -> None:
    world = World()
    exchange = world.begin(sign_in())
    late = server_answer(exchange, radius.ACCESS_ACCEPT)
    world.set_up(exchange.backend.name, is_up=False)
    world.request(sign_in(), now=3.0)
    assert world.exchanges.answer(exchange, late, 4.0) == Drop("bad_response_authenticator")
    assert isinstance(world.answer(exchange, radius.ACCESS_ACCEPT, now=5.0), Reply)


@pytest.mark.parametrize("code", [radius.ACCESS_ACCEPT, radius.ACCESS_REJECT, radius.ACCESS_CHALLENGE])
def test_f3_f4_every_answer_is_final_whatever_it_says(code: int) -> None:
    world = World()
    exchange = world.begin(sign_in())
    decision = world.answer(exchange, code)
    assert isinstance(decision, Reply)
    assert decision.exchange is exchange
    assert received(decision).code == code
    assert not world.exchanges.duplicates.in_flight
    assert isinstance(world.request(sign_in(), now=1.0), Reply)


def test_a_request_that_could_not_be_sent_begins_anew_with_its_retransmit() -> None:
    world = World()
    exchange = world.begin(sign_in())
    world.exchanges.give_up(exchange)
    assert world.begin(sign_in(), now=1.0) is not exchange


def test_requests_without_an_answer_are_given_up_at_their_deadline_and_not_before() -> None:
    world = World()
    one, two = world.begin(sign_in(), now=0.0), world.begin(sign_in(identifier=8), now=1.0)
    assert world.exchanges.expire(DEADLINE_S - 0.1) == []
    assert world.exchanges.expire(DEADLINE_S) == [one]
    assert world.exchanges.expire(DEADLINE_S + 1) == [two]
    assert not world.exchanges.duplicates.in_flight


def test_with_no_server_up_a_request_is_dropped() -> None:
    world = World()
    for name in ("b1", "b2"):
        world.set_up(name, is_up=False)
    assert world.request(sign_in()) == Drop("no_backend")
    assert not world.exchanges.duplicates.in_flight


# -------------------------------------------------------------------------------- limits, Status-Server


def test_d7_past_the_limit_new_requests_are_dropped_and_those_with_a_state_are_served() -> None:
    world = World(in_flight_limit=2)
    issuer = world.challenge(b"s", identifier=1)
    for number in (2, 3):
        world.begin(sign_in(identifier=number))
    assert world.request(sign_in(identifier=4)) == Drop("in_flight_limit")
    assert world.begin(sign_in(state=b"s", identifier=5)).backend.name == issuer


def test_d7_past_the_limit_retransmits_and_answers_still_pass() -> None:
    world = World(in_flight_limit=1)
    exchange = world.begin(sign_in())
    assert isinstance(world.request(sign_in(), now=2.0), Resend)
    assert isinstance(world.answer(exchange, radius.ACCESS_ACCEPT), Reply)
    assert isinstance(world.request(sign_in(identifier=9)), Forward)


def status_server(*, is_signed: bool = True) -> bytes:
    if is_signed:
        return radius.signed_request(radius.STATUS_SERVER, 3, AUTHENTICATOR, b"", CLIENT)
    return bytes((radius.STATUS_SERVER, 3, 0, 20)) + AUTHENTICATOR


def test_d1_status_server_is_answered_here_and_reaches_no_server() -> None:
    world = World()
    answer = received(world.request(status_server()))
    assert answer.code == radius.ACCESS_ACCEPT
    assert answer.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR
    assert radius.has_valid_message_authenticator(answer, CLIENT, AUTHENTICATOR)
    assert radius.has_valid_response_authenticator(answer, CLIENT, AUTHENTICATOR)
    assert not world.exchanges.duplicates.in_flight


def test_d1_status_server_meets_silence_when_no_server_could_take_work() -> None:
    world = World()
    for name in ("b1", "b2"):
        world.set_up(name, is_up=False)
    assert world.request(status_server()) == Drop("status_no_backend")


def test_d1_status_server_must_be_signed_whatever_the_client_may_leave_out() -> None:
    assert World().request(status_server(is_signed=False)) == Drop("missing_message_authenticator")


# ------------------------------------------------------------------------------ untouched, or too long


def test_a3_a_datagram_passes_byte_for_byte_both_ways_when_nothing_has_to_change() -> None:
    world = World(is_shared_secret=True)
    request = sign_in() + b"padding behind the packet"
    decision = world.exchanges.request(request, world.source(SOURCE), 0.0, ENTROPY)
    assert isinstance(decision, Forward)
    exchange = decision.exchange
    exchange.datagram = world.service.upstream_datagram(exchange, 7)
    assert exchange.datagram == sign_in()
    answer = server_answer(exchange, radius.ACCESS_ACCEPT, (radius.REPLY_MESSAGE, b"hi"))
    reply = world.exchanges.answer(exchange, answer + b"padding", 0.0)
    assert isinstance(reply, Reply)
    assert reply.datagram == answer


def test_with_one_secret_a_taken_identifier_changes_the_signature_and_nothing_else() -> None:
    world = World(is_shared_secret=True)
    exchange = world.begin(sign_in())
    packet, original = sent(exchange), radius.read_untrusted(sign_in())
    assert (packet.identifier, packet.authenticator) == (200, original.authenticator)
    assert packet.attributes()[1:] == original.attributes()[1:]
    assert radius.has_valid_message_authenticator(packet, CLIENT)


def test_e2_an_answer_without_a_signature_is_signed_for_the_client_first_attribute() -> None:
    for is_shared in (True, False):
        world = World(is_shared_secret=is_shared)
        decision = world.answer(
            world.begin(sign_in()), radius.ACCESS_ACCEPT, (radius.REPLY_MESSAGE, b"hi"), is_signed=False
        )
        answer = received(decision)
        assert answer.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR
        assert radius.has_valid_message_authenticator(answer, CLIENT, AUTHENTICATOR)
        assert radius.has_valid_response_authenticator(answer, CLIENT, AUTHENTICATOR)


def test_e8_a_request_that_signing_makes_too_long_is_not_sent() -> None:
    world = World()
    world.client = type(world.client)("old", CLIENT, requires_message_authenticator=False)
    body = radius.attribute(radius.REPLY_MESSAGE, bytes(253)) * 15 + radius.attribute(radius.REPLY_MESSAGE, bytes(240))
    length = 20 + len(body)
    request = bytes((1, 7, length >> 8, length & 255)) + AUTHENTICATOR + body
    assert world.request(request) == Drop("too_long_when_signed")
    assert not world.exchanges.duplicates.in_flight


def test_e8_an_answer_that_signing_makes_too_long_is_dropped() -> None:
    world = World()
    many = [(radius.REPLY_MESSAGE, bytes(253))] * 15 + [(radius.REPLY_MESSAGE, bytes(240))]
    decision = world.answer(world.begin(sign_in()), radius.ACCESS_ACCEPT, *many, is_signed=False)
    assert decision == Drop("too_long_when_signed")
