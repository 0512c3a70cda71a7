from __future__ import annotations

import pytest
from unit.balancer.exchange.radius_world import (
    AUTHENTICATOR,
    CLIENT,
    DEADLINE_S,
    ENTROPY,
    World,
    received,
    sent,
    server_answer,
    sign_in,
    status_server,
)

from mfalb.balancer.exchange.radius_authentication import Authentication
from mfalb.balancer.exchange.radius_exchange import Drop, Forward, Reply, Resend
from mfalb.balancer.pools.backend import AdminState
from mfalb.wire import radius

OTHER_AUTHENTICATOR = bytes(range(50, 66))

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
    world.pool.set_admin_state(exchange.backend.name, AdminState.MAINT, 0.0)
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
    assert exchange.deadline == 3.0 + DEADLINE_S, "people need as long to answer the second server's call"


def test_a_silent_server_that_went_down_keeps_the_request_when_there_is_no_other_and_its_answer_passes() -> None:
    world = World(servers=1)
    exchange = world.begin(sign_in())
    world.set_up("b1", is_up=False)
    assert world.request(sign_in(), now=0.9) == Drop("duplicate_in_flight")
    for second in range(1, 100):
        assert world.request(sign_in(), now=float(second)) == Resend(exchange)
    assert exchange.transmissions == 1, "it was not sent as something new"
    assert received(world.answer(exchange, radius.ACCESS_ACCEPT, now=100.0)).code == radius.ACCESS_ACCEPT


def test_a_silent_server_that_stays_down_keeps_the_request_until_its_deadline() -> None:
    world = World(servers=1)
    exchange = world.begin(sign_in())
    world.set_up("b1", is_up=False)
    world.request(sign_in(), now=5.0)
    assert world.exchanges.expire(DEADLINE_S - 0.1) == []
    assert world.exchanges.expire(DEADLINE_S) == [exchange]


def test_a_request_that_waited_with_a_dead_server_goes_to_the_first_one_that_comes_up() -> None:
    world = World()
    exchange = world.begin(sign_in())
    first, second = exchange.backend.name, "b2" if exchange.backend.name == "b1" else "b1"
    for name in (first, second):
        world.set_up(name, is_up=False)
    assert world.request(sign_in(), now=3.0) == Resend(exchange)
    world.set_up(second)
    assert world.request(sign_in(), now=6.0) == Forward(exchange)
    assert exchange.backend.name == second


def test_a_request_that_left_a_dead_server_may_come_back_when_that_is_the_only_one_up() -> None:
    world = World()
    exchange = world.begin(sign_in())
    first = exchange.backend.name
    world.set_up(first, is_up=False)
    world.request(sign_in(), now=3.0)
    world.set_up(first)
    world.set_up(exchange.backend.name, is_up=False)
    assert world.request(sign_in(), now=6.0) == Forward(exchange)
    assert exchange.backend.name == first


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


def test_a_request_that_moved_is_given_up_by_its_new_deadline_and_keeps_nobody_behind_it_waiting() -> None:
    """Expiry walks the table in order and stops at the first that is not due."""
    world = World()
    moved, other = world.begin(sign_in(), now=0.0), world.begin(sign_in(identifier=8), now=1.0)
    world.set_up(moved.backend.name, is_up=False)
    world.request(sign_in(), now=100.0)
    assert world.exchanges.expire(1.0 + DEADLINE_S) == [other]
    assert world.exchanges.expire(100.0 + DEADLINE_S - 0.1) == []
    assert world.exchanges.expire(100.0 + DEADLINE_S) == [moved]


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


def test_d1_servers_that_are_up_and_taken_out_of_service_count_as_none() -> None:
    world = World()
    for name in ("b1", "b2"):
        world.pool.set_admin_state(name, AdminState.MAINT, now=0.0)
    assert world.request(status_server()) == Drop("status_no_backend")


def test_d7_a_full_table_takes_a_state_that_is_known_and_none_that_anybody_could_make_up() -> None:
    world = World(in_flight_limit=1)
    known = world.challenge(b"known")
    world.begin(sign_in(b"bob", identifier=1))
    assert world.request(sign_in(state=b"made up", identifier=2)) == Drop("in_flight_limit")
    assert world.begin(sign_in(state=b"known", identifier=3)).backend.name == known


def test_d1_status_server_must_be_signed_whatever_the_client_may_leave_out() -> None:
    world = World()
    world.client.requires_message_authenticator = False
    assert world.request(status_server(is_signed=False)) == Drop("missing_message_authenticator")


def test_d1_a_port_is_answered_by_its_own_kind_of_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5997 section 4.2: an accounting port says Accounting-Response."""
    monkeypatch.setattr(Authentication, "status_answer_code", radius.ACCOUNTING_RESPONSE)
    decision = World().request(status_server())
    answer = received(decision)
    assert (answer.code, answer.identifier) == (radius.ACCOUNTING_RESPONSE, 3)
    assert radius.has_valid_response_authenticator(answer, CLIENT, AUTHENTICATOR)
    assert radius.has_valid_message_authenticator(answer, CLIENT, AUTHENTICATOR)


def test_d1_a_status_server_that_is_repeated_is_answered_once_each_time_by_the_same_bytes() -> None:
    world = World()
    first, second = world.request(status_server(), now=0.0), world.request(status_server(), now=2.0)
    assert isinstance(first, Reply)
    assert first == second
    assert not world.exchanges.duplicates.in_flight
    assert not world.exchanges.duplicates.answered
