from __future__ import annotations

import pytest
from unit.balancer.exchange.radius_world import (
    AUTHENTICATOR,
    CLIENT,
    LIFETIME_S,
    World,
    access_request,
    received,
    sign_in,
)

from mfalb.balancer.affinity.radius_state import radius_state_key
from mfalb.balancer.exchange.radius_exchange import Reply
from mfalb.balancer.pools.backend import AdminState
from mfalb.wire import radius

OTHER_AUTHENTICATOR = bytes(range(50, 66))

# ------------------------------------------------------------------------------- State and pins (B10-B14)


def test_b10_a_state_goes_to_the_server_that_issued_it_whoever_is_next_in_turn() -> None:
    world = World()
    issuers = {number: world.challenge(b"state%d" % number, identifier=number) for number in range(10)}
    assert set(issuers.values()) == {"b1", "b2"}
    for number in (3, 0, 9, 1, 8, 2, 5, 4, 7, 6):
        exchange = world.begin(sign_in(state=b"state%d" % number, identifier=100 + number))
        assert exchange.backend.name == issuers[number]


def test_b14_the_same_state_bytes_of_two_servers_lead_each_user_back_to_the_right_one() -> None:
    world = World()
    issuers = {user: world.challenge(b"SMS", user, identifier=n) for n, user in enumerate((b"alice", b"bob"))}
    assert set(issuers.values()) == {"b1", "b2"}
    for number, (user, issuer) in enumerate(issuers.items()):
        assert world.begin(sign_in(user, b"SMS", identifier=50 + number)).backend.name == issuer


def test_b14_the_same_state_and_user_from_another_client_is_not_the_same_pin() -> None:
    keys = {radius_state_key("mfa", client, b"alice", b"SMS") for client in ("vpn", "wifi")}
    assert len(keys) == 2


def test_b10_a_second_challenge_of_a_conversation_is_pinned_as_well() -> None:
    world = World()
    issuer = world.challenge(b"one")
    middle = world.begin(sign_in(state=b"one", identifier=8))
    world.answer(middle, radius.ACCESS_CHALLENGE, (radius.STATE, b"two"))
    assert world.begin(sign_in(state=b"two", identifier=9)).backend.name == issuer


def test_the_pin_of_a_challenge_lives_as_long_as_configured() -> None:
    world = World()
    exchange = world.begin(sign_in())
    decision = world.answer(exchange, radius.ACCESS_CHALLENGE, (radius.STATE, b"s"), now=5.0)
    assert isinstance(decision, Reply)
    assert decision.pin is not None
    assert (decision.pin.backend, decision.pin.expires_at) == (exchange.backend.name, 5.0 + LIFETIME_S)


@pytest.mark.parametrize("code", [radius.ACCESS_ACCEPT, radius.ACCESS_REJECT])
def test_only_a_challenge_makes_a_pin(code: int) -> None:
    world = World()
    decision = world.answer(world.begin(sign_in()), code, (radius.STATE, b"s"))
    assert isinstance(decision, Reply)
    assert decision.pin is None


def test_b12_a_state_nobody_knows_goes_to_the_server_that_every_node_would_choose() -> None:
    chosen = set()
    for turns in range(4):  # whatever the round robin's position is
        world = World(servers=3)
        for number in range(turns):
            world.begin(sign_in(identifier=number))
        chosen.add(world.begin(sign_in(state=b"unknown", identifier=99)).backend.name)
    assert len(chosen) == 1


def test_b12_states_nobody_knows_spread_over_all_servers() -> None:
    world = World(servers=3)
    names = {world.begin(sign_in(state=b"unknown%d" % n, identifier=n)).backend.name for n in range(60)}
    assert names == {"b1", "b2", "b3"}


def test_b10_a_state_reaches_its_server_while_that_one_drains() -> None:
    world = World()
    issuer = world.challenge(b"s")
    world.pool.set_admin_state(issuer, AdminState.DRAIN)
    assert world.begin(sign_in(state=b"s", identifier=8)).backend.name == issuer


@pytest.mark.parametrize("is_maintained", [True, False])
def test_b13_a_state_whose_server_is_gone_is_rejected_at_once_and_goes_to_no_other(*, is_maintained: bool) -> None:
    world = World()
    issuer = world.challenge(b"s")
    if is_maintained:
        world.pool.set_admin_state(issuer, AdminState.MAINT)
    else:
        world.set_up(issuer, is_up=False)
    request = access_request(
        (radius.PROXY_STATE, b"one"), (radius.USER_NAME, b"alice"), (radius.STATE, b"s"), (radius.PROXY_STATE, b"two"),
        identifier=8,
    )  # fmt: skip
    decision = world.request(request)
    assert isinstance(decision, Reply)
    assert decision.reason == "pinned_down"
    answer = received(decision)
    assert (answer.code, answer.identifier) == (radius.ACCESS_REJECT, 8)
    assert answer.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR
    assert answer.every(radius.PROXY_STATE) == [b"one", b"two"]
    assert answer.first(radius.REPLY_MESSAGE)
    assert radius.has_valid_message_authenticator(answer, CLIENT, AUTHENTICATOR)
    assert radius.has_valid_response_authenticator(answer, CLIENT, AUTHENTICATOR)
    assert not world.exchanges.duplicates.in_flight
    assert world.request(request, now=1.0) == Reply(decision.datagram, "repeated")


def test_a_refusal_of_a_state_ends_the_older_request_under_its_identifier() -> None:
    world = World()
    issuer = world.challenge(b"s")
    older = world.begin(sign_in(identifier=8))
    world.set_up(issuer, is_up=False)
    decision = world.request(sign_in(state=b"s", identifier=8, authenticator=OTHER_AUTHENTICATOR))
    assert isinstance(decision, Reply)
    assert decision.exchange is older
    assert not world.exchanges.duplicates.in_flight


def test_without_affinity_a_state_is_balanced_like_anything_else() -> None:
    world = World(has_pins=False)
    names = [world.begin(sign_in(state=b"s", identifier=n)).backend.name for n in range(4)]
    assert names == ["b1", "b2", "b1", "b2"]
