from __future__ import annotations

from typing import Any

import pytest
from unit.balancer.exchange.radius_world import (
    AUTHENTICATOR,
    CLIENT,
    SOURCE,
    World,
    access_request,
    guards,
    received,
    sign_in,
)

from mfalb.balancer.exchange.radius_exchange import Drop, Forward, Reply
from mfalb.balancer.exchange.radius_guards import STATUS_PER_S, TokenBucket, UserFlood, UserLimit
from mfalb.balancer.exchange.radius_peer import RadiusPeer, RadiusSource
from mfalb.wire import radius

WINDOW_S = 60.0


def new_authenticator(number: int) -> bytes:
    return number.to_bytes(16, "big")


def sign_ins(world: World, count: int, *, user: bytes = b"alice", now: float = 0.0, first: int = 0) -> list[str]:
    """What becomes of each of that many new sign-ins: forwarded, rejected, or the reason of its drop."""
    return [
        outcome(world.request(sign_in(user, identifier=n % 256, authenticator=new_authenticator(n + 1)), now=now))
        for n in range(first, first + count)
    ]


def outcome(decision: object) -> str:
    match decision:
        case Forward():
            return "forwarded"
        case Reply():
            return decision.reason
        case Drop():
            return decision.reason
    raise AssertionError(decision)


def with_proxy_states(count: int, *others: tuple[int, bytes], identifier: int = 7) -> bytes:
    states = [(radius.PROXY_STATE, b"%d" % number) for number in range(count)]
    return access_request((radius.USER_NAME, b"alice"), *others, *states, identifier=identifier)


# ------------------------------------------------------------------------------------- the token bucket


def test_a_bucket_lets_a_second_s_worth_through_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(5)
    assert [bucket.takes(100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [bucket.takes(100.2), bucket.takes(100.2)] == [True, False]
    passed = sum(bucket.takes(100.2 + tick / 1000) for tick in range(1, 4001))
    assert passed == 20, "four seconds at five a second"


def test_a_bucket_gathers_no_more_than_a_second_s_worth_however_long_it_rests() -> None:
    bucket = TokenBucket(3)
    assert bucket.takes(0.0)
    assert [bucket.takes(9000.0) for _ in range(4)] == [True, True, True, False]


# ---------------------------------------------------------------------------------- loops (requirement F2)


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_f2_more_proxy_states_than_the_limit_are_a_loop_and_as_many_are_none(limit: int) -> None:
    world = World(guards=guards(proxy_state_limit=limit))
    assert isinstance(world.request(with_proxy_states(limit, identifier=1)), Forward)
    assert world.request(with_proxy_states(limit + 1, identifier=2)) == Drop("loop")
    assert [one.request.identifier for one in world.exchanges.duplicates.in_flight.values()] == [1]


def test_f2_a_loop_is_one_whatever_state_it_carries() -> None:
    world = World(guards=guards(proxy_state_limit=3))
    world.challenge(b"s", identifier=1)
    looping = with_proxy_states(4, (radius.STATE, b"s"), identifier=2)
    assert world.request(looping) == Drop("loop")


def test_f2_a_loop_takes_nothing_of_the_limits_of_those_whose_names_it_carries() -> None:
    limits = guards(proxy_state_limit=1, rates={"vpn": 1}, user_limit=UserLimit(1, WINDOW_S, is_answered=True))
    world = World(guards=limits)
    assert [outcome(world.request(with_proxy_states(2, identifier=n))) for n in range(5)] == ["loop"] * 5
    assert sign_ins(world, 1) == ["forwarded"]


# ------------------------------------------------------------------------------ what a client may begin


def test_a_client_begins_its_rate_and_what_comes_above_is_dropped() -> None:
    world = World(guards=guards(rates={"vpn": 3}))
    assert sign_ins(world, 5) == ["forwarded"] * 3 + ["rate_limit"] * 2
    assert sign_ins(world, 2, now=1 / 3, first=5) == ["forwarded", "rate_limit"]
    assert len(world.exchanges.duplicates.in_flight) == 4


def test_one_client_s_rate_is_not_another_s() -> None:
    world = World(guards=guards(rates={"vpn": 1}))
    assert sign_ins(world, 2) == ["forwarded", "rate_limit"]
    other = RadiusSource(RadiusPeer("wifi", CLIENT, requires_message_authenticator=True), b"wifi", None, b"")
    decisions = [
        world.exchanges.request(
            sign_in(identifier=n, authenticator=new_authenticator(n + 1)), other, 0.0, AUTHENTICATOR
        )
        for n in range(20)
    ]
    assert all(isinstance(decision, Forward) for decision in decisions)


def test_retransmits_and_the_second_half_of_a_sign_in_count_for_no_limit() -> None:
    limits = guards(rates={"vpn": 1}, user_limit=UserLimit(1, WINDOW_S, is_answered=True))
    world = World(guards=limits)
    issuer = world.challenge(b"s")
    assert isinstance(world.request(sign_in(), now=0.1), Reply), "a retransmit of the first half"
    second = world.begin(sign_in(state=b"s", identifier=8))
    assert second.backend.name == issuer
    assert world.request(sign_in(state=b"s", identifier=8), now=0.1) == Drop("duplicate_in_flight")
    assert sign_ins(world, 1, first=20) == ["rate_limit"], "a new one would have counted"


def test_a_state_that_nobody_issued_does_not_get_a_sign_in_past_the_limits() -> None:
    """To many servers an unknown State is a new sign-in: the phone rings."""
    world = World(guards=guards(user_limit=UserLimit(2, WINDOW_S, is_answered=True)))
    asked = [sign_in(state=b"made up %d" % n, identifier=n, authenticator=new_authenticator(n + 1)) for n in range(4)]
    assert [outcome(world.request(one)) for one in asked] == ["forwarded"] * 2 + ["user_limit"] * 2


# -------------------------------------------------------------------------- what a user is spared (push bombing)


def test_a_user_s_sign_ins_past_the_limit_are_rejected_with_a_word_to_the_user() -> None:
    world = World(guards=guards(user_limit=UserLimit(2, WINDOW_S, is_answered=True)))
    assert sign_ins(world, 2) == ["forwarded"] * 2
    request = access_request(
        (radius.USER_NAME, b"alice"), (radius.PROXY_STATE, b"one"), (radius.PROXY_STATE, b"two"), identifier=9
    )
    decision = world.request(request)
    answer = received(decision)
    assert (answer.code, answer.identifier) == (radius.ACCESS_REJECT, 9)
    assert answer.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR
    assert answer.every(radius.PROXY_STATE) == [b"one", b"two"]
    assert b"wait" in (answer.first(radius.REPLY_MESSAGE) or b"")
    assert radius.has_valid_response_authenticator(answer, CLIENT, AUTHENTICATOR)
    assert radius.has_valid_message_authenticator(answer, CLIENT, AUTHENTICATOR)
    assert isinstance(decision, Reply)
    assert decision.reason == "user_limit"
    assert world.request(request, now=1.0) == Reply(decision.datagram, "repeated")


def test_a_user_s_sign_ins_past_the_limit_may_meet_silence_instead() -> None:
    world = World(guards=guards(user_limit=UserLimit(1, WINDOW_S, is_answered=False)))
    assert sign_ins(world, 3) == ["forwarded", "user_limit", "user_limit"]
    assert world.request(sign_in(identifier=200, authenticator=bytes(16))) == Drop("user_limit")


def test_a_user_may_begin_again_when_the_window_is_over() -> None:
    world = World(guards=guards(user_limit=UserLimit(1, WINDOW_S, is_answered=True)))
    assert sign_ins(world, 1, now=10.0) == ["forwarded"]
    assert sign_ins(world, 1, now=69.9, first=1) == ["user_limit"]
    assert sign_ins(world, 2, now=70.0, first=2) == ["forwarded", "user_limit"]


def test_one_user_s_flood_keeps_no_other_user_out() -> None:
    world = World(guards=guards(user_limit=UserLimit(1, WINDOW_S, is_answered=True)))
    assert sign_ins(world, 10)[1:] == ["user_limit"] * 9
    assert sign_ins(world, 1, user=b"bob", first=20) == ["forwarded"]


def test_a_user_is_the_same_in_capitals_and_through_every_client() -> None:
    world = World(guards=guards(user_limit=UserLimit(2, WINDOW_S, is_answered=True)))
    assert sign_ins(world, 1, user=b"Alice") == ["forwarded"]
    world.client = RadiusPeer("wifi", CLIENT, requires_message_authenticator=True)
    begun = [
        outcome(
            world.request(
                sign_in(b"ALICE", identifier=n, authenticator=new_authenticator(n + 1)), source=b"another gateway"
            )
        )
        for n in range(2)
    ]
    assert begun == ["forwarded", "user_limit"]


def test_a_request_without_a_user_name_is_nobody_s_flood() -> None:
    world = World(guards=guards(user_limit=UserLimit(1, WINDOW_S, is_answered=True)))
    requests = [access_request((radius.CALLING_STATION_ID, b"00-11"), identifier=n) for n in range(5)]
    assert [outcome(world.request(one)) for one in requests] == ["forwarded"] * 5


def test_users_are_forgotten_with_their_window() -> None:
    flood = UserFlood(UserLimit(1, WINDOW_S, is_answered=True))
    assert flood.takes(b"alice", 0.0)
    assert flood.takes(b"bob", 30.0)
    flood.expire(WINDOW_S)
    assert list(flood._begun) == [b"bob"]
    world = World(guards=guards())
    world.guards.expire(WINDOW_S)  # without a user limit there is nothing to forget


def test_made_up_users_do_not_fill_the_memory() -> None:
    flood = UserFlood(UserLimit(1, WINDOW_S, is_answered=True), users_limit=100)
    for number in range(1000):
        assert flood.takes(b"user %d" % number, 0.0)
        assert len(flood._begun) <= 100
    assert not flood.takes(b"user 999", 0.0)


# ---------------------------------------------------------------- Status-Server, and refusals that do not fit


def status_server(identifier: int) -> bytes:
    return radius.signed_request(radius.STATUS_SERVER, identifier, new_authenticator(identifier), b"", CLIENT)


def test_d2_a_client_s_status_servers_are_answered_up_to_a_rate_and_then_dropped() -> None:
    world = World()
    outcomes = [outcome(world.request(status_server(n), now=50.0)) for n in range(STATUS_PER_S + 5)]
    assert outcomes == ["status"] * STATUS_PER_S + ["status_limit"] * 5
    assert outcome(world.request(status_server(99), now=51.0)) == "status"
    assert sign_ins(world, 3, now=50.0, first=100) == ["forwarded"] * 3, "asking costs a client no sign-in"


def test_d2_one_client_s_flood_of_status_servers_costs_no_other_client_its_answer() -> None:
    world = World()
    for number in range(STATUS_PER_S + 5):
        world.request(status_server(number))
    world.client = RadiusPeer("wifi", CLIENT, requires_message_authenticator=True)
    assert outcome(world.request(status_server(99), source=SOURCE)) == "status"


def test_e8_a_refusal_that_the_client_s_proxy_states_leave_no_room_for_is_silence() -> None:
    large = [(radius.PROXY_STATE, bytes(253))] * 15 + [(radius.PROXY_STATE, bytes(220))]
    limits = guards(proxy_state_limit=16, user_limit=UserLimit(1, WINDOW_S, is_answered=True))
    world = World(guards=limits)
    assert sign_ins(world, 1, user=b"a") == ["forwarded"]
    assert world.request(access_request((radius.USER_NAME, b"a"), *large, identifier=9)) == Drop("user_limit")
    world = World(guards=guards(proxy_state_limit=16))
    world.set_up(world.challenge(b"s", b"a"), is_up=False)
    continued = access_request((radius.USER_NAME, b"a"), (radius.STATE, b"s"), *large, identifier=9)
    assert world.request(continued) == Drop("pinned_down")
    assert not world.exchanges.duplicates.in_flight


# --------------------------------------------------------------------------- what is charged, and what is not


@pytest.mark.parametrize(
    "limits", [{"rates": {"vpn": 3.0}}, {"user_limit": UserLimit(3, WINDOW_S, is_answered=True)}], ids=["rate", "user"]
)
def test_an_outage_uses_up_nobody_s_limit(limits: dict[str, Any]) -> None:
    world = World(guards=guards(**limits))
    for name in ("b1", "b2"):
        world.set_up(name, is_up=False)
    assert sign_ins(world, 50) == ["no_backend"] * 50
    world.set_up("b2")
    assert sign_ins(world, 4, first=50)[:3] == ["forwarded"] * 3
    assert sign_ins(world, 1, first=54) != ["forwarded"]


def test_a_made_up_state_meets_its_limit_even_if_it_names_no_pin() -> None:
    world = World(guards=guards(user_limit=UserLimit(1, WINDOW_S, is_answered=False)))
    world.begin(sign_in(state=b"made up", identifier=1))
    assert world.request(sign_in(state=b"made up too", identifier=2)) == Drop("user_limit")
