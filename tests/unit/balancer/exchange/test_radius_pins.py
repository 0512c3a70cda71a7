from __future__ import annotations

import pytest
from unit.balancer.exchange.radius_world import (
    AUTHENTICATOR,
    CLIENT,
    ENTROPY,
    LIFETIME_S,
    World,
    access_request,
    guards,
    received,
    server_answer,
    sign_in,
)

from mfalb.balancer.affinity.radius_state import radius_state_key
from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.config.radius_models import RefusalForm
from mfalb.balancer.exchange.radius_exchange import Drop, Forward, Reply
from mfalb.balancer.exchange.radius_guards import UserLimit
from mfalb.balancer.pools.backend import AdminState
from mfalb.wire import radius

OTHER_AUTHENTICATOR = bytes(range(50, 66))

# ------------------------------------------------------------------------ the State of a challenge (B10, B14)


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


def test_b10_a_state_reaches_its_server_when_no_new_request_is_let_in() -> None:
    world = World(in_flight_limit=1)
    issuer = world.challenge(b"s", identifier=1)
    world.begin(sign_in(identifier=2))
    assert world.request(sign_in(identifier=3)) == Drop("in_flight_limit")
    assert world.begin(sign_in(state=b"s", identifier=4)).backend.name == issuer


def test_b10_a_state_reaches_its_server_however_many_others_wait_there() -> None:
    world = World()
    issuer = world.challenge(b"s", identifier=1)
    world.pool.backends[issuer].active = 10_000
    assert world.begin(sign_in(state=b"s", identifier=4)).backend.name == issuer


def test_b10_the_pin_is_made_by_the_challenge_s_own_decision_so_that_it_stands_before_the_answer_leaves() -> None:
    world = World()
    exchange = world.begin(sign_in())
    decision = world.exchanges.answer(
        exchange, server_answer(exchange, radius.ACCESS_CHALLENGE, (radius.STATE, b"s")), 1.0
    )
    assert isinstance(decision, Reply)
    (pin,) = decision.pins
    assert pin.backend == exchange.backend.name


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
    (pin,) = decision.pins
    assert isinstance(pin, Pin)
    assert (pin.backend, pin.expires_at) == (exchange.backend.name, 5.0 + LIFETIME_S)


# ------------------------------------------------------------------------------------- the ends of sign-ins


def counted(world: World, now: float) -> int:
    """Sign-ins that are pinned and have not ended."""
    return sum(left.count for left in world.pins.by_backend(now).values())


@pytest.mark.parametrize("code", [radius.ACCESS_ACCEPT, radius.ACCESS_REJECT])
def test_a_final_answer_ends_the_sign_in_and_whatever_still_comes_with_its_state_goes_to_its_server(code: int) -> None:
    world = World()
    issuer = world.challenge(b"s")
    exchange = world.begin(sign_in(state=b"s", identifier=8), now=1.0)
    assert counted(world, 1.0) == 1
    reply = world.answer(exchange, code, now=2.0)
    assert counted(world, 2.0) == 0
    assert world.request(sign_in(state=b"s", identifier=8), now=3.0) == Reply(reply.datagram, "repeated")  # type: ignore[union-attr]
    assert world.begin(sign_in(state=b"s", identifier=9), now=200.0).backend.name == issuer


def test_a_conversation_is_one_sign_in_however_many_rounds_it_has() -> None:
    world = World()
    world.challenge(b"round0")
    for number in range(1, 6):
        exchange = world.begin(sign_in(state=b"round%d" % (number - 1), identifier=number), now=float(number))
        world.answer(exchange, radius.ACCESS_CHALLENGE, (radius.STATE, b"round%d" % number), now=float(number))
        assert counted(world, float(number)) == 1
    exchange = world.begin(sign_in(state=b"round5", identifier=50), now=9.0)
    world.answer(exchange, radius.ACCESS_ACCEPT, now=9.0)
    assert counted(world, 9.0) == 0


def test_a_conversation_that_keeps_its_state_is_counted_until_its_final_answer() -> None:
    """As when a code was mistyped and the server lets the user try again, or polls for a push."""
    world = World()
    world.challenge(b"s")
    for number in range(1, 4):
        exchange = world.begin(sign_in(state=b"s", identifier=number), now=float(number))
        world.answer(exchange, radius.ACCESS_CHALLENGE, (radius.STATE, b"s"), now=number + 0.5)
        assert counted(world, number + 0.5) == 1
        assert counted(world, number + LIFETIME_S) == 1, "the pin was made anew"
    world.answer(world.begin(sign_in(state=b"s", identifier=9), now=5.0), radius.ACCESS_ACCEPT, now=5.5)
    assert counted(world, 5.5) == 0


@pytest.mark.parametrize("attributes", [[], [(radius.REPLY_MESSAGE, b"once more")]])
def test_a_challenge_without_a_state_leaves_the_sign_in_open(attributes: list[tuple[int, bytes]]) -> None:
    world = World()
    world.challenge(b"s")
    exchange = world.begin(sign_in(state=b"s", identifier=8), now=1.0)
    world.answer(exchange, radius.ACCESS_CHALLENGE, *attributes, now=1.0)
    assert counted(world, 1.0) == 1


def test_a_protocol_error_is_no_final_answer() -> None:
    world = World()
    world.challenge(b"s")
    world.answer(world.begin(sign_in(state=b"s", identifier=8), now=1.0), radius.PROTOCOL_ERROR, now=1.0)
    assert counted(world, 1.0) == 1


def test_of_two_sign_ins_with_one_constant_state_neither_ends_the_other() -> None:
    world = World(servers=1)
    world.challenge(b"SMS", identifier=1)
    exchange = world.begin(sign_in(state=b"SMS", identifier=2), now=1.0)
    other = world.begin(sign_in(identifier=3), now=1.5)  # the same user at another device
    world.answer(other, radius.ACCESS_CHALLENGE, (radius.STATE, b"SMS"), now=1.6)
    world.answer(exchange, radius.ACCESS_ACCEPT, now=2.0)
    assert counted(world, 2.0) == 1
    world.answer(world.begin(sign_in(state=b"SMS", identifier=4), now=3.0), radius.ACCESS_ACCEPT, now=3.0)
    assert counted(world, 3.0) == 1, "which of the two it was cannot be known: it counts until it expires"
    assert counted(world, 1.6 + LIFETIME_S) == 0


def test_users_one_after_another_with_one_constant_state_each_end_their_own() -> None:
    world = World()
    for number, user in enumerate((b"alice", b"bob", b"alice")):
        now = float(number * 10)
        exchange = world.begin(sign_in(user, identifier=number), now=now)
        world.answer(exchange, radius.ACCESS_CHALLENGE, (radius.STATE, b"SMS"), now=now)
        assert counted(world, now) == 1
        exchange = world.begin(sign_in(user, b"SMS", identifier=100 + number), now=now + 1)
        world.answer(exchange, radius.ACCESS_ACCEPT, now=now + 2)
        assert counted(world, now + 2) == 0


def test_an_answer_to_what_carried_no_known_state_ends_nothing() -> None:
    world = World()
    world.challenge(b"s")
    for number, state in enumerate((None, b"unknown")):
        exchange = world.begin(sign_in(state=state, identifier=20 + number), now=1.0)
        decision = world.answer(exchange, radius.ACCESS_ACCEPT, now=1.0)
        assert isinstance(decision, Reply)
        assert decision.pins == ()
    assert counted(world, 1.0) == 1


# ---------------------------------------------------------- the State of an Access-Accept, or of nobody (B15)

RE_AUTHENTICATES = (radius.TERMINATION_ACTION, (1).to_bytes(4, "big"))
SESSION_S = 86_400.0  # session_lifetime, as pools have it by default


def seconds(timeout_s: int) -> tuple[int, bytes]:
    return radius.SESSION_TIMEOUT, timeout_s.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("attributes", "life_s"),
    [
        ([RE_AUTHENTICATES], SESSION_S),
        ([RE_AUTHENTICATES, seconds(3600)], 3600 + 300),
        ([RE_AUTHENTICATES, seconds(2**32 - 1)], SESSION_S),
        ([RE_AUTHENTICATES, seconds(0)], 300),
        ([RE_AUTHENTICATES, (radius.SESSION_TIMEOUT, b"\xff" * 253)], SESSION_S),  # no 32-bit number: as if not there
        ([RE_AUTHENTICATES, (radius.SESSION_TIMEOUT, b"")], SESSION_S),
    ],
)
def test_b15_the_state_of_an_accept_that_asks_for_re_authentication_is_pinned_for_the_session(
    attributes: list[tuple[int, bytes]], life_s: float
) -> None:
    world = World()
    exchange = world.begin(sign_in())
    decision = world.answer(exchange, radius.ACCESS_ACCEPT, (radius.STATE, b"session"), *attributes, now=5.0)
    assert isinstance(decision, Reply)
    (pin,) = decision.pins
    assert isinstance(pin, Pin)
    assert (pin.backend, pin.expires_at) == (exchange.backend.name, 5.0 + life_s)


def test_b15_a_re_authentication_long_after_the_sign_in_goes_to_the_server_that_let_the_user_in() -> None:
    world = World()
    issuers = {}
    for number in range(8):
        exchange = world.begin(sign_in(identifier=number))
        state = (radius.STATE, b"session%d" % number)
        world.answer(exchange, radius.ACCESS_ACCEPT, state, RE_AUTHENTICATES, seconds(7200), now=0.0)
        issuers[number] = exchange.backend.name
    assert set(issuers.values()) == {"b1", "b2"}
    later = 7200.0
    world.exchanges.expire(later)
    for number in (5, 0, 3, 2, 7, 6, 1, 4):
        exchange = world.begin(sign_in(state=b"session%d" % number, identifier=100 + number), now=later)
        assert exchange.backend.name == issuers[number]


def test_b15_a_re_authentication_ends_the_session_s_former_state_and_pins_its_next() -> None:
    world = World()
    exchange = world.begin(sign_in())
    world.answer(exchange, radius.ACCESS_ACCEPT, (radius.STATE, b"one"), RE_AUTHENTICATES)
    exchange = world.begin(sign_in(state=b"one", identifier=8), now=1.0)
    world.answer(exchange, radius.ACCESS_ACCEPT, (radius.STATE, b"two"), RE_AUTHENTICATES, now=1.0)
    assert counted(world, 1.0) == 1


def test_b15_the_pin_of_a_session_lives_no_longer_than_the_operator_lets_it() -> None:
    state = (radius.STATE, b"session")
    for attributes, life_s in (([], 1000.0), ([seconds(600)], 900.0), ([seconds(7200)], 1000.0)):
        world = World(session_lifetime_s=1000.0)
        exchange = world.begin(sign_in())
        decision = world.answer(exchange, radius.ACCESS_ACCEPT, state, RE_AUTHENTICATES, *attributes)
        assert isinstance(decision, Reply)
        (pin,) = decision.pins
        assert isinstance(pin, Pin)
        assert pin.expires_at == life_s


@pytest.mark.parametrize(
    ("code", "attributes"),
    [
        (radius.ACCESS_ACCEPT, []),
        (radius.ACCESS_ACCEPT, [(radius.TERMINATION_ACTION, bytes(4))]),
        (radius.ACCESS_ACCEPT, [seconds(3600)]),
        (radius.ACCESS_REJECT, [RE_AUTHENTICATES]),
    ],
)
def test_a_state_that_the_client_will_not_bring_back_makes_no_pin(
    code: int, attributes: list[tuple[int, bytes]]
) -> None:
    world = World()
    decision = world.answer(world.begin(sign_in()), code, (radius.STATE, b"s"), *attributes)
    assert isinstance(decision, Reply)
    assert decision.pins == ()


def test_b15_a_state_that_no_answer_brought_goes_by_its_hash_each_time_and_by_the_same_on_every_node() -> None:
    """Such as that of a CoA-Request which did not come through this balancer (RFC 5176 section 3.3)."""
    nodes = [World(servers=3) for _ in range(2)]
    nodes[1].begin(sign_in(identifier=1))  # its turns stand elsewhere
    for number in range(20):
        state = b"of a CoA-Request %d" % number
        names = {
            node.begin(sign_in(state=state, identifier=50 + number, authenticator=bytes((attempt,)) * 16)).backend.name
            for node in nodes
            for attempt in range(3)
        }
        assert len(names) == 1


# -------------------------------------------------------------------------- no State, or an unknown one (B11, B12)


def test_b11_a_request_without_a_state_is_a_new_session_and_goes_where_the_turn_is() -> None:
    world = World()
    for turn in range(6):
        exchange = world.begin(sign_in(identifier=turn))
        assert exchange.backend.name == ("b1", "b2")[turn % 2], "not where this user's last challenge came from"
        assert not exchange.is_bound
        world.answer(exchange, radius.ACCESS_CHALLENGE, (radius.STATE, b"s%d" % turn))


def test_b11_a_new_session_leaves_the_pin_of_the_user_s_older_one_alone() -> None:
    world = World()
    issuer = world.challenge(b"older", identifier=1)
    assert world.challenge(b"newer", identifier=2) != issuer
    assert world.begin(sign_in(state=b"older", identifier=3)).backend.name == issuer


def test_b11_a_new_session_does_not_wait_for_the_server_of_the_user_s_older_one() -> None:
    world = World()
    gone = world.challenge(b"older", identifier=1)
    world.set_up(gone, is_up=False)
    assert world.begin(sign_in(identifier=2)).backend.name != gone


def test_b12_a_state_nobody_knows_goes_to_the_server_that_every_node_would_choose() -> None:
    chosen = set()
    for turns in range(4):  # whatever the round robin's position is
        world = World(servers=3)
        for number in range(turns):
            world.begin(sign_in(identifier=number))
        chosen.add(world.begin(sign_in(state=b"unknown", identifier=99)).backend.name)
    assert len(chosen) == 1


def test_b12_an_unknown_state_does_not_take_anybody_s_turn_and_is_counted() -> None:
    world = World()
    for number in range(5):
        world.begin(sign_in(state=b"unknown", identifier=10 + number))
    assert (world.pins.counters.misses, world.pins.counters.hits) == (5, 0)
    assert world.exchanges.unknown_states == 5
    assert [world.begin(sign_in(identifier=n)).backend.name for n in range(2)] == ["b1", "b2"]


@pytest.mark.parametrize("in_flight_limit", [1, 100], ids=["full table", "room"])
def test_a_state_is_looked_up_once_whatever_limits_there_are(in_flight_limit: int) -> None:
    limits = guards(rates={"vpn": 100}, user_limit=UserLimit(10, 60.0, is_answered=True))
    world = World(in_flight_limit=in_flight_limit, guards=limits)
    world.challenge(b"s")
    if in_flight_limit == 1:
        world.begin(sign_in(b"bob", identifier=1))
    world.begin(sign_in(state=b"s", identifier=8))
    assert (world.pins.counters.hits, world.pins.counters.misses) == (1, 0)
    world.request(sign_in(state=b"made up", identifier=9))
    assert (world.pins.counters.hits, world.pins.counters.misses) == (1, 1)
    assert world.exchanges.unknown_states == 1


def test_a_request_without_a_state_is_no_unknown_state_nor_is_one_in_a_pool_without_pins() -> None:
    world, without = World(), World(has_pins=False)
    world.begin(sign_in())
    without.begin(sign_in(state=b"s"))
    assert (world.exchanges.unknown_states, without.exchanges.unknown_states) == (0, 0)


def test_a_state_that_nobody_knows_and_its_hashed_server_refuses_goes_to_the_next_that_every_node_would_choose() -> (
    None
):
    ways = set()
    for turns in range(4):
        world = World(servers=3)
        for number in range(turns):
            world.begin(sign_in(identifier=number))
        exchange = world.begin(sign_in(state=b"unknown", identifier=99))
        way = [exchange.backend.name]
        for _ in range(2):
            assert world.carry(world.exchanges.refused(exchange, 0.1, ENTROPY), 0.1) == Forward(exchange)
            way.append(exchange.backend.name)
        assert received(world.exchanges.refused(exchange, 0.2, ENTROPY)).code == radius.ACCESS_REJECT
        assert exchange not in world.exchanges.duplicates.in_flight.values()
        ways.add(tuple(way))
    assert [len(set(way)) for way in ways] == [3]


def test_b12_an_expired_state_goes_by_its_hash_like_any_unknown_one() -> None:
    chosen = set()
    for turns in range(4):
        world = World(servers=3)
        for number in range(turns):
            world.begin(sign_in(identifier=number))
        world.challenge(b"s", identifier=50)
        chosen.add(world.begin(sign_in(state=b"s", identifier=99), now=LIFETIME_S + 1).backend.name)
    assert len(chosen) == 1


def test_b12_with_one_server_left_an_unknown_state_goes_there() -> None:
    world = World(servers=3)
    for name in ("b1", "b3"):
        world.set_up(name, is_up=False)
    names = {world.begin(sign_in(state=b"unknown%d" % n, identifier=n)).backend.name for n in range(20)}
    assert names == {"b2"}


def test_d6_running_sessions_keep_their_server_when_others_join_or_leave() -> None:
    """Whoever is not up is no member: b3 joins when it comes up and leaves when it goes down."""
    world = World(servers=3)
    world.set_up("b3", is_up=False)
    issuers = {number: world.challenge(b"state%d" % number, identifier=number) for number in range(20)}
    assert set(issuers.values()) == {"b1", "b2"}
    for is_up, base in ((True, 50), (False, 100)):
        world.set_up("b3", is_up=is_up)
        for number, issuer in issuers.items():
            assert world.begin(sign_in(state=b"state%d" % number, identifier=base + number)).backend.name == issuer


def test_d6_of_the_states_that_go_by_hash_only_those_of_the_lost_server_move() -> None:
    world = World(servers=4)

    def chosen(base: int) -> dict[int, str]:
        asked = {n: sign_in(state=b"unknown%d" % n, identifier=n, authenticator=bytes((base,)) * 16) for n in range(60)}
        return {n: world.begin(request).backend.name for n, request in asked.items()}

    before = chosen(1)
    world.set_up("b2", is_up=False)
    after = chosen(2)
    world.set_up("b2")
    assert {n for n in before if before[n] != after[n]} == {n for n in before if before[n] == "b2"}
    assert "b2" not in after.values()
    assert chosen(3) == before, "back, it has its own again"


def test_b12_states_nobody_knows_spread_over_all_servers() -> None:
    world = World(servers=3)
    names = {world.begin(sign_in(state=b"unknown%d" % n, identifier=n)).backend.name for n in range(60)}
    assert names == {"b1", "b2", "b3"}


def test_b10_a_state_reaches_its_server_while_that_one_drains() -> None:
    world = World()
    issuer = world.challenge(b"s")
    world.pool.set_admin_state(issuer, AdminState.DRAIN, 0.0)
    assert world.begin(sign_in(state=b"s", identifier=8)).backend.name == issuer


@pytest.mark.parametrize("is_maintained", [True, False])
def test_b13_a_state_whose_server_is_gone_is_rejected_at_once_and_goes_to_no_other(*, is_maintained: bool) -> None:
    world = World()
    issuer = world.challenge(b"s")
    if is_maintained:
        world.pool.set_admin_state(issuer, AdminState.MAINT, 0.0)
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


@pytest.mark.parametrize("is_maintained", [True, False])
def test_b13_a_state_whose_server_is_gone_may_meet_silence_instead_and_still_goes_to_no_other(
    *, is_maintained: bool
) -> None:
    world = World(when_pinned_down=RefusalForm.SILENCE)
    issuer = world.challenge(b"s")
    if is_maintained:
        world.pool.set_admin_state(issuer, AdminState.MAINT, 0.0)
    else:
        world.set_up(issuer, is_up=False)
    for now in (0.0, 2.0, 30.0):
        assert world.request(sign_in(state=b"s", identifier=8), now=now) == Drop("pinned_down")
    assert not world.exchanges.duplicates.in_flight
    world.set_up(issuer)
    world.pool.set_admin_state(issuer, AdminState.READY, 0.0)
    assert world.begin(sign_in(state=b"s", identifier=8), now=31.0).backend.name == issuer, "back, and the pin stands"


def test_b13_eap_whose_server_is_gone_is_ended_by_an_eap_failure_and_no_reply_message() -> None:
    """RFC 3579 sections 2.2 and 2.6.5; a supplicant would wait for its own time-out otherwise."""
    world = World()
    world.set_up(world.challenge(b"S"), is_up=False)
    eap = (radius.EAP_MESSAGE, b"\x02\x2a\x00\x06\x0dx")
    attributes = ((radius.USER_NAME, b"alice"), (radius.STATE, b"S"), eap)
    reject = received(world.request(access_request(*attributes, identifier=8)))
    assert reject.code == radius.ACCESS_REJECT
    assert reject.every(radius.EAP_MESSAGE) == [b"\x04\x2a\x00\x04"]
    assert radius.REPLY_MESSAGE not in reject.offsets


def test_b13_what_is_under_way_at_a_server_that_dies_ends_in_silence_where_that_is_wanted() -> None:
    world = World(when_pinned_down=RefusalForm.SILENCE)
    world.challenge(b"s")
    exchange = world.begin(sign_in(state=b"s", identifier=8))
    world.set_up(exchange.backend.name, is_up=False)
    assert world.request(sign_in(state=b"s", identifier=8), now=2.0) == Drop("pinned_down", exchange)
    assert not world.exchanges.duplicates.in_flight


def test_a_refusal_of_a_state_ends_the_older_request_under_its_identifier() -> None:
    world = World()
    issuer = world.challenge(b"s")
    older = world.begin(sign_in(identifier=8))
    world.set_up(issuer, is_up=False)
    decision = world.request(sign_in(state=b"s", identifier=8, authenticator=OTHER_AUTHENTICATOR))
    assert isinstance(decision, Reply)
    assert (decision.superseded, decision.exchange) == (older, None)
    assert not world.exchanges.duplicates.in_flight


def test_without_affinity_a_state_is_balanced_like_anything_else() -> None:
    world = World(has_pins=False)
    names = [world.begin(sign_in(state=b"s", identifier=n)).backend.name for n in range(4)]
    assert names == ["b1", "b2", "b1", "b2"]
