"""What an Access-Request and its answer look like on the other side: requirements B2, B3, E1 to E5, E8, A3."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.exchange.radius_world import (
    AUTHENTICATOR,
    CLIENT,
    ENTROPY,
    SOURCE,
    World,
    access_request,
    received,
    sent,
    server_answer,
    sign_in,
)

from mfalb.balancer.exchange.radius_exchange import Drop, Forward, RadiusExchange, Reply
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret

CODES = (radius.ACCESS_ACCEPT, radius.ACCESS_REJECT, radius.ACCESS_CHALLENGE, radius.PROTOCOL_ERROR)
MAC_BYTES = radius.MESSAGE_AUTHENTICATOR_BYTES
ALICE = (radius.USER_NAME, b"alice")

PROXY_STATES = [
    [],
    [b"one"],
    [b"one", b"two"],
    [b"", b"\0\xff" * 100, b"same", b"same", bytes(253), b"last"],
]


def unsigned_request(*attributes: tuple[int, bytes], identifier: int = 7) -> bytes:
    body = b"".join(radius.attribute(*one) for one in attributes)
    return bytes((radius.ACCESS_REQUEST, identifier, 0, 20 + len(body))) + AUTHENTICATOR + body


def lenient(*, limits_proxy_state: bool = False, is_signed_to: bool = True) -> RadiusPeer:
    """A client that may leave its signature out."""
    return RadiusPeer("old", CLIENT, False, limits_proxy_state, is_signed_to)


def world_of(client: RadiusPeer, *, is_shared_secret: bool = False) -> World:
    world = World(is_shared_secret=is_shared_secret)
    world.client = client
    return world


def signed_last(head: bytes, body: bytes, authenticator: bytes, secret: SharedSecret) -> bytes:
    """A packet whose Message-Authenticator stands behind everything else; `head` is code and identifier."""
    head += (radius.HEADER_BYTES + len(body) + MAC_BYTES).to_bytes(2, "big")
    body += b"\x50\x12"
    return head + authenticator + body + secret.hmac(head + authenticator + body + bytes(16))


def answer_signed_last(exchange: RadiusExchange, code: int, body: bytes) -> bytes:
    secret, authenticator = exchange.upstream.secret, exchange.upstream_authenticator
    made = signed_last(bytes((code, exchange.datagram[1])), body, authenticator, secret)
    return made[:4] + secret.digest(made[:4] + authenticator + made[20:]) + made[20:]


def assert_signed_for_the_client(answer: Packet, identifier: int = 7) -> None:
    """Everything the client checks: its own identifier, both signatures with its secret over its authenticator."""
    assert answer.identifier == identifier
    assert answer.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR
    assert radius.has_valid_response_authenticator(answer, CLIENT, AUTHENTICATOR)
    assert radius.has_valid_message_authenticator(answer, CLIENT, AUTHENTICATOR)


# -------------------------------------------------------------------------------------- Proxy-State (B2, B3)


@pytest.mark.parametrize("is_shared_secret", [True, False])
@pytest.mark.parametrize("values", PROXY_STATES, ids=len)
def test_b3_proxy_states_are_forwarded_unchanged_and_none_is_added(
    values: list[bytes], *, is_shared_secret: bool
) -> None:
    request = access_request(ALICE, *((radius.PROXY_STATE, value) for value in values))
    packet = sent(World(is_shared_secret=is_shared_secret).begin(request))
    assert packet.every(radius.PROXY_STATE) == values


@given(st.lists(st.binary(max_size=253), max_size=10))
@settings(max_examples=50)
def test_b3_nothing_depends_on_what_a_proxy_state_says(values: list[bytes]) -> None:
    world = World()
    states = [(radius.PROXY_STATE, value) for value in values]
    exchange = world.begin(access_request(ALICE, *states))
    assert exchange.backend.name == "b1", "the turn is that of a request without any"
    answer = received(world.answer(exchange, radius.ACCESS_ACCEPT, *states))
    assert sent(exchange).every(radius.PROXY_STATE) == answer.every(radius.PROXY_STATE) == values


@pytest.mark.parametrize("is_shared_secret", [True, False])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("values", PROXY_STATES, ids=len)
def test_b2_an_answer_has_the_client_s_identifier_secret_authenticator_and_proxy_states_in_order(
    values: list[bytes], code: int, *, is_shared_secret: bool
) -> None:
    """No Proxy-State of ours was added on the way, so none is taken out: all of them are the client's."""
    world = World(is_shared_secret=is_shared_secret)
    states = [(radius.PROXY_STATE, value) for value in values]
    exchange = world.begin(access_request(ALICE, *states))
    assert sent(exchange).identifier == 200
    attributes = [(radius.REPLY_MESSAGE, b"before"), *states, (radius.CLASS, b"behind")]
    answer = received(world.answer(exchange, code, *attributes))
    assert answer.code == code
    assert_signed_for_the_client(answer)
    assert answer.attributes()[1:] == attributes


# ------------------------------------------------------------------------ what we send is signed first (E1, E2)


@pytest.mark.parametrize("is_shared_secret", [True, False])
@pytest.mark.parametrize("is_signed", [True, False])
def test_e1_a_request_is_signed_for_its_server_first_attribute_whether_the_client_signed_or_not(
    *, is_signed: bool, is_shared_secret: bool
) -> None:
    world = world_of(lenient(), is_shared_secret=is_shared_secret)
    exchange = world.begin(access_request(ALICE) if is_signed else unsigned_request(ALICE))
    packet = sent(exchange)
    assert [kind for kind, _ in packet.attributes()] == [radius.MESSAGE_AUTHENTICATOR, radius.USER_NAME]
    assert radius.has_valid_message_authenticator(packet, exchange.upstream.secret)


@pytest.mark.parametrize("is_shared_secret", [True, False])
@pytest.mark.parametrize("code", CODES)
def test_e2_every_answer_is_signed_first_attribute_wherever_the_server_signed(
    code: int, *, is_shared_secret: bool
) -> None:
    body = radius.attribute(radius.REPLY_MESSAGE, b"hi")
    for form in ("first", "last", "not at all"):
        world = World(is_shared_secret=is_shared_secret)
        exchange = world.begin(sign_in())
        if form == "last":
            datagram = answer_signed_last(exchange, code, body)
        else:
            datagram = server_answer(exchange, code, (radius.REPLY_MESSAGE, b"hi"), is_signed=form == "first")
        answer = received(world.exchanges.answer(exchange, datagram, 0.0))
        assert answer.code == code
        assert_signed_for_the_client(answer)
        assert answer.attributes()[1:] == [(radius.REPLY_MESSAGE, b"hi")]


@pytest.mark.parametrize("is_shared_secret", [True, False])
def test_only_a_client_that_chokes_on_a_signature_gets_answers_without_one(*, is_shared_secret: bool) -> None:
    world = world_of(lenient(is_signed_to=False), is_shared_secret=is_shared_secret)
    exchange = world.begin(sign_in())
    answer = received(world.answer(exchange, radius.ACCESS_ACCEPT, (radius.REPLY_MESSAGE, b"hi")))
    assert answer.attributes() == [(radius.REPLY_MESSAGE, b"hi")]
    assert radius.has_valid_response_authenticator(answer, CLIENT, AUTHENTICATOR)
    assert radius.has_valid_message_authenticator(sent(exchange), exchange.upstream.secret), "servers do not choke"


def test_a_client_that_chokes_on_a_signature_is_refused_without_one() -> None:
    world = world_of(lenient(is_signed_to=False))
    world.set_up(world.challenge(b"s"), is_up=False)
    answer = received(world.request(sign_in(state=b"s", identifier=8)))
    assert answer.code == radius.ACCESS_REJECT
    assert radius.MESSAGE_AUTHENTICATOR not in answer.offsets
    assert radius.has_valid_response_authenticator(answer, CLIENT, AUTHENTICATOR)


# ---------------------------------------------------------------------------- who must sign (E3, E4), E5


def test_e3_a_missing_signature_is_found_before_anything_else_is_looked_at() -> None:
    world = World()
    first = world.answer(world.begin(sign_in()), radius.ACCESS_ACCEPT)
    assert isinstance(first, Reply)
    for request in (
        unsigned_request(ALICE),  # a retransmit, if identifier and authenticator were all that counts
        unsigned_request((radius.USER_PASSWORD, b"no whole block")),
        unsigned_request((radius.EAP_MESSAGE, b"\2\1\0\5\1"), (radius.PROXY_STATE, b"one")),
        unsigned_request(*[(radius.PROXY_STATE, b"")] * 20),
    ):
        assert world.request(request) == Drop("missing_message_authenticator")
    assert world.request(sign_in()) == Reply(first.datagram, "repeated")


def test_e3_a_server_s_missing_signature_is_found_before_its_response_authenticator_is_looked_at() -> None:
    world = World(requires_message_authenticator=True)
    exchange = world.begin(sign_in())
    right = server_answer(exchange, radius.ACCESS_ACCEPT, is_signed=False)
    for datagram in (right, right[:4] + bytes(16) + right[20:]):
        assert world.exchanges.answer(exchange, datagram, 0.0) == Drop("missing_message_authenticator")
    assert isinstance(world.answer(exchange, radius.ACCESS_ACCEPT), Reply)


def test_e4_an_unsigned_request_with_a_proxy_state_is_dropped_where_that_is_limited() -> None:
    unsigned = unsigned_request(ALICE, (radius.PROXY_STATE, b"one"))
    assert world_of(lenient(limits_proxy_state=True)).request(unsigned) == Drop("unsigned_proxy_state")
    assert isinstance(world_of(lenient(limits_proxy_state=False)).request(unsigned), Forward)


def test_e4_a_limited_client_may_still_send_one_of_the_two() -> None:
    for request in (unsigned_request(ALICE), access_request(ALICE, (radius.PROXY_STATE, b"one"))):
        assert isinstance(world_of(lenient(limits_proxy_state=True)).request(request), Forward)


@pytest.mark.parametrize("is_limited", [True, False])
def test_e4_an_unsigned_answer_with_a_proxy_state_is_dropped_where_that_is_limited(*, is_limited: bool) -> None:
    world = World()
    for upstream in world.upstreams.values():
        upstream.limits_proxy_state = is_limited
    state = (radius.PROXY_STATE, b"one")
    exchange = world.begin(access_request(ALICE, state))
    unsigned = world.answer(exchange, radius.ACCESS_ACCEPT, state, is_signed=False)
    assert isinstance(unsigned, Drop if is_limited else Reply)
    if is_limited:
        assert unsigned == Drop("unsigned_proxy_state")
        assert isinstance(world.answer(exchange, radius.ACCESS_ACCEPT, state), Reply)


@pytest.mark.parametrize("is_shared_secret", [True, False])
def test_e5_a_signature_is_good_wherever_it_stands(*, is_shared_secret: bool) -> None:
    world = World(is_shared_secret=is_shared_secret)
    request = signed_last(bytes((radius.ACCESS_REQUEST, 7)), radius.attribute(*ALICE), AUTHENTICATOR, CLIENT)
    exchange = world.begin(request)
    datagram = answer_signed_last(exchange, radius.ACCESS_ACCEPT, radius.attribute(radius.REPLY_MESSAGE, b"hi"))
    assert isinstance(world.exchanges.answer(exchange, datagram, 0.0), Reply)


@pytest.mark.parametrize("place", range(3))
def test_a6_a_wrong_signature_is_dropped_wherever_it_stands(place: int) -> None:
    parts = [radius.attribute(*ALICE), radius.attribute(radius.CALLING_STATION_ID, b"00-11")]
    body = b"".join([*parts[:place], b"\x50\x12" + bytes(16), *parts[place:]])
    head = bytes((radius.ACCESS_REQUEST, 7, 0, 20 + len(body)))
    assert World().request(head + AUTHENTICATOR + body) == Drop("bad_message_authenticator")


@pytest.mark.parametrize("is_shared_secret", [True, False])
def test_a3_what_stands_behind_a_packet_s_length_is_neither_checked_nor_signed_nor_sent(
    *, is_shared_secret: bool
) -> None:
    tail = radius.attribute(radius.USER_NAME, b"mallory")
    world = World(is_shared_secret=is_shared_secret)
    exchange = world.begin(access_request(ALICE) + tail)
    assert sent(exchange).data == exchange.datagram
    assert sent(exchange).attributes()[1:] == [ALICE]
    answer = server_answer(exchange, radius.ACCESS_ACCEPT, (radius.REPLY_MESSAGE, b"hi")) + tail
    decision = world.exchanges.answer(exchange, answer, 0.0)
    assert received(decision).attributes()[1:] == [(radius.REPLY_MESSAGE, b"hi")]
    assert isinstance(decision, Reply)
    assert decision.datagram == received(decision).data


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


OWN_IDENTIFIER = 200  # under which `World` sends everything: with one secret a datagram may then pass untouched


@pytest.mark.parametrize("form", ["last", "not at all"])
def test_e1_not_even_under_its_own_identifier_does_a_request_pass_whose_signature_does_not_stand_first(
    form: str,
) -> None:
    world = world_of(lenient(), is_shared_secret=True)
    head = bytes((radius.ACCESS_REQUEST, OWN_IDENTIFIER))
    datagram = (
        signed_last(head, radius.attribute(*ALICE), AUTHENTICATOR, CLIENT)
        if form == "last"
        else unsigned_request(ALICE, identifier=OWN_IDENTIFIER)
    )
    packet = sent(world.begin(datagram))
    assert (packet.identifier, packet.authenticator) == (OWN_IDENTIFIER, AUTHENTICATOR)
    assert [kind for kind, _ in packet.attributes()] == [radius.MESSAGE_AUTHENTICATOR, radius.USER_NAME]
    assert radius.has_valid_message_authenticator(packet, CLIENT)


@pytest.mark.parametrize("form", ["last", "not at all"])
def test_e2_not_even_under_its_own_identifier_does_an_answer_pass_whose_signature_does_not_stand_first(
    form: str,
) -> None:
    world = World(is_shared_secret=True)
    exchange = world.begin(sign_in(identifier=OWN_IDENTIFIER))
    if form == "last":
        datagram = answer_signed_last(exchange, radius.ACCESS_ACCEPT, radius.attribute(radius.REPLY_MESSAGE, b"hi"))
    else:
        datagram = server_answer(exchange, radius.ACCESS_ACCEPT, (radius.REPLY_MESSAGE, b"hi"), is_signed=False)
    answer = received(world.exchanges.answer(exchange, datagram, 0.0))
    assert_signed_for_the_client(answer, OWN_IDENTIFIER)
    assert answer.attributes()[1:] == [(radius.REPLY_MESSAGE, b"hi")]


def test_not_even_under_its_own_identifier_does_a_signed_answer_pass_to_a_client_that_chokes_on_one() -> None:
    world = world_of(lenient(is_signed_to=False), is_shared_secret=True)
    exchange = world.begin(sign_in(identifier=OWN_IDENTIFIER))
    answer = received(world.answer(exchange, radius.ACCESS_ACCEPT, (radius.REPLY_MESSAGE, b"hi")))
    assert answer.attributes() == [(radius.REPLY_MESSAGE, b"hi")]


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
