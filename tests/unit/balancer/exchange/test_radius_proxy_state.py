"""The Proxy-State that a listener adds, so that it knows what comes back to it (RFC 2865 sections 2.3 and 5.33)."""

from __future__ import annotations

import pytest
from unit.balancer.exchange.radius_world import CLIENT, World, access_request, guards, received, sent, server_answer
from unit.balancer.exchange.test_radius_accounting import AccountingWorld, record

from mfalb.balancer.exchange.radius_exchange import Drop, Forward, Reply
from mfalb.balancer.exchange.radius_guards import RadiusGuards
from mfalb.wire import radius

OWN = b"8 bytes."
ADDED = (radius.PROXY_STATE, OWN)
USER = (radius.USER_NAME, b"alice")
STATES = [(radius.PROXY_STATE, b"one"), (radius.PROXY_STATE, b"two")]


def world(*, is_shared_secret: bool = False) -> World:
    """Its first server gets a Proxy-State, its second one none."""
    made = World(is_shared_secret=is_shared_secret, guards=RadiusGuards(10, {}, None, OWN))
    made.upstreams["b1"].proxy_state = radius.attribute(*ADDED)
    return made


@pytest.mark.parametrize("is_shared_secret", [False, True])
def test_it_stands_behind_those_of_others_and_the_client_never_sees_it(*, is_shared_secret: bool) -> None:
    made = world(is_shared_secret=is_shared_secret)
    exchange = made.begin(access_request(USER, *STATES))
    assert sent(exchange).every(radius.PROXY_STATE) == [b"one", b"two", OWN]
    assert radius.has_valid_message_authenticator(sent(exchange), made.upstreams["b1"].secret)
    reply = received(made.answer(exchange, radius.ACCESS_ACCEPT, *STATES, ADDED, (radius.CLASS, b"c")))
    assert [one for one in reply.attributes() if one[0] != radius.MESSAGE_AUTHENTICATOR] == [
        *STATES,
        (radius.CLASS, b"c"),
    ]
    assert radius.has_valid_message_authenticator(reply, CLIENT, exchange.request.authenticator)


@pytest.mark.parametrize("is_shared_secret", [False, True])
def test_an_answer_without_it_is_as_good(*, is_shared_secret: bool) -> None:
    made = world(is_shared_secret=is_shared_secret)
    reply = received(made.answer(made.begin(access_request(USER)), radius.ACCESS_ACCEPT, (radius.CLASS, b"c")))
    assert reply.first(radius.CLASS) == b"c"


def test_with_one_secret_neither_the_request_nor_the_answer_passes_untouched() -> None:
    """Under the client's own identifier they would; `carry` sends under 200."""
    made = world(is_shared_secret=True)
    exchange = made.begin(access_request(USER, identifier=200))
    assert sent(exchange).every(radius.PROXY_STATE) == [OWN]
    reply = received(made.answer(exchange, radius.ACCESS_ACCEPT, ADDED))
    assert reply.every(radius.PROXY_STATE) == []


def test_a_backend_that_gets_none_may_return_none() -> None:
    made = world()
    made.begin(access_request(USER))
    exchange = made.begin(access_request(USER, identifier=8))
    assert exchange.backend.name == "b2"
    assert sent(exchange).every(radius.PROXY_STATE) == []
    assert made.answer(exchange, radius.ACCESS_ACCEPT, ADDED) == Drop("foreign_proxy_state")


def test_any_other_one_in_an_answer_is_still_the_mark_of_a_forgery() -> None:
    made = world()
    exchange = made.begin(access_request(USER))
    assert made.answer(exchange, radius.ACCESS_ACCEPT, ADDED, (radius.PROXY_STATE, b"collision")) == Drop(
        "foreign_proxy_state"
    )


def test_an_unsigned_answer_may_carry_it_where_proxy_states_are_limited_and_no_other() -> None:
    made = world()
    made.upstreams["b1"].limits_proxy_state = True
    exchange = made.begin(access_request(USER, STATES[0]))
    both = made.answer(exchange, radius.ACCESS_ACCEPT, STATES[0], ADDED, is_signed=False)
    assert both == Drop("unsigned_proxy_state")
    assert isinstance(made.answer(exchange, radius.ACCESS_ACCEPT, ADDED, is_signed=False), Reply)


def test_f2_a_request_that_comes_back_with_it_is_a_loop_whatever_is_added_to_it_on_the_way() -> None:
    made = world()
    first = made.begin(access_request(USER, STATES[0]))
    back = access_request(*sent(first).attributes()[1:], (radius.PROXY_STATE, b"of the other node"), identifier=9)
    assert made.request(back, source=b"the other node") == Drop("loop")
    assert list(made.exchanges.duplicates.in_flight.values()) == [first]


def test_f2_an_empty_proxy_state_is_no_loop_where_none_is_added() -> None:
    made = World(guards=guards())
    assert isinstance(made.request(access_request(USER, (radius.PROXY_STATE, b""))), Forward)


def test_a_record_gets_it_and_its_answer_loses_it() -> None:
    made = AccountingWorld()
    made.upstreams["b1"].proxy_state = radius.attribute(*ADDED)
    exchange = made.begin(record(USER, *STATES))
    assert sent(exchange).every(radius.PROXY_STATE) == [b"one", b"two", OWN]
    assert radius.has_valid_content_authenticator(sent(exchange), made.upstreams["b1"].secret)
    for is_signed in (False, True):
        datagram = server_answer(exchange, radius.ACCOUNTING_RESPONSE, *STATES, ADDED, is_signed=is_signed)
        reply = received(made.exchanges.answer(exchange, datagram, 1.0))
        assert reply.every(radius.PROXY_STATE) == [b"one", b"two"]
        assert radius.has_valid_response_authenticator(reply, CLIENT, exchange.request.authenticator)


@pytest.mark.parametrize("body", [[], [ADDED], [USER, ADDED], [ADDED, USER, ADDED], [(radius.CLASS, bytes(3) + OWN)]])
def test_an_attribute_is_taken_out_of_a_row_and_no_bytes_inside_another(body: list[tuple[int, bytes]]) -> None:
    made = b"".join(radius.attribute(*one) for one in body)
    hidden = radius.attribute(radius.CLASS, radius.attribute(*ADDED))
    kept = b"".join(radius.attribute(*one) for one in body if one != ADDED)
    assert radius.without_attribute(made + hidden, radius.attribute(*ADDED)) == kept + hidden
