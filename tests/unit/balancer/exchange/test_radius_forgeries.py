from __future__ import annotations

import pytest
from programs.radius_mutations import forged_by_a_bit
from unit.balancer.exchange.radius_world import (
    ENTROPY,
    World,
    access_request,
    received,
    server_answer,
    sign_in,
)

from mfalb.balancer.exchange.radius_exchange import Drop, Reply
from mfalb.wire import radius

# ------------------------------------------------------------------------------ answers to discard (B1)


def forged(kind: str, world: World) -> tuple[bytes, str]:
    """A datagram under the exchange's identifier that must not be believed, and why."""
    exchange = next(iter(world.exchanges.duplicates.in_flight.values()))
    genuine = server_answer(exchange, radius.ACCESS_ACCEPT, (radius.REPLY_MESSAGE, b"hi"))
    wrong_secret = radius.SharedSecret(b"guessed")
    made: dict[str, tuple[bytes, str]] = {
        "noise": (b"\0" * 30, "bad_length"),
        "short": (genuine[:19], "short_datagram"),
        "cut": (genuine[:-1], "truncated"),
        "a request": (radius.signed_request(1, 200, ENTROPY, b"", exchange.upstream.secret), "unexpected_answer_code"),
        "an accounting answer": (server_answer(exchange, radius.ACCOUNTING_RESPONSE), "unexpected_answer_code"),
        "another secret": (
            radius.signed_response(2, 200, exchange.upstream_authenticator, b"", wrong_secret),
            "bad_response_authenticator",
        ),
        "another request": (
            radius.signed_response(2, 200, bytes(16), b"", exchange.upstream.secret),
            "bad_response_authenticator",
        ),
        "a changed byte": (forged_by_a_bit(genuine), "bad_response_authenticator"),
        "an accept made of a reject": (b"\2" + server_answer(exchange, 3)[1:], "bad_response_authenticator"),
        "a wrong signature": (wrongly_signed(exchange.upstream.secret, exchange.upstream_authenticator),
            "bad_message_authenticator"),
        "EAP without a signature": (
            server_answer(exchange, 11, (radius.EAP_MESSAGE, b"\1\1\0\4"), is_signed=False),
            "missing_message_authenticator",
        ),
        "a foreign Proxy-State": (
            server_answer(exchange, 2, (radius.PROXY_STATE, b"prefix of a collision")),
            "foreign_proxy_state",
        ),
    }  # fmt: skip
    return made[kind]


def wrongly_signed(secret: radius.SharedSecret, authenticator: bytes) -> bytes:
    """An answer whose Response Authenticator is right and whose Message-Authenticator is not."""
    attributes = b"\x50\x12" + bytes(16)
    head = bytes((2, 200, 0, 38))
    return head + secret.digest(head + authenticator + attributes) + attributes


FORGERIES = (
    "noise", "short", "cut", "a request", "an accounting answer", "another secret", "another request",
    "a changed byte", "an accept made of a reject", "a wrong signature", "EAP without a signature",
    "a foreign Proxy-State",
)  # fmt: skip


@pytest.mark.parametrize("kind", FORGERIES)
def test_b1_a_forged_answer_is_dropped_and_the_genuine_one_is_still_taken(kind: str) -> None:
    world = World()
    exchange = world.begin(sign_in())
    before = (exchange.datagram, exchange.sent_at, exchange.deadline, exchange.backend, exchange.transmissions)
    datagram, reason = forged(kind, world)
    assert world.exchanges.answer(exchange, datagram, 1.0) == Drop(reason)
    assert before == (
        exchange.datagram, exchange.sent_at, exchange.deadline, exchange.backend, exchange.transmissions,
    )  # fmt: skip
    assert len(world.pins) == 0
    assert received(world.answer(exchange, radius.ACCESS_REJECT)).code == radius.ACCESS_REJECT


def test_b1_a_forged_answer_says_nothing_of_its_server_s_health() -> None:
    world = World()
    exchange = world.begin(sign_in())
    backend = exchange.backend
    before = (backend.is_up, backend.last_reply_at, backend.failures, backend.active)
    for kind in FORGERIES:
        datagram, _ = forged(kind, world)
        world.exchanges.answer(exchange, datagram, 1.0)
    assert (backend.is_up, backend.last_reply_at, backend.failures, backend.active) == before


def test_a7_eap_in_an_answer_must_be_signed_even_by_a_server_that_may_leave_signatures_out() -> None:
    for is_signed, expected in ((False, Drop), (True, Reply)):
        world = World(requires_message_authenticator=False)
        eap = (radius.EAP_MESSAGE, b"\3\1\0\4")
        decision = world.answer(world.begin(sign_in()), radius.ACCESS_ACCEPT, eap, is_signed=is_signed)
        assert isinstance(decision, expected)


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("values", [[b"other"], [b"one", b"other"], [b"other", b"one"], [b""]])
def test_e7_an_answer_with_a_proxy_state_that_was_not_sent_is_dropped_however_well_it_is_signed(
    values: list[bytes], *, is_signed: bool
) -> None:
    world = World()
    exchange = world.begin(access_request((radius.USER_NAME, b"alice"), (radius.PROXY_STATE, b"one")))
    states = [(radius.PROXY_STATE, value) for value in values]
    assert world.answer(exchange, radius.ACCESS_ACCEPT, *states, is_signed=is_signed) == Drop("foreign_proxy_state")
    assert list(world.exchanges.duplicates.in_flight.values()) == [exchange]
    own = (radius.PROXY_STATE, b"one")
    assert isinstance(world.answer(exchange, radius.ACCESS_ACCEPT, own, is_signed=is_signed), Reply)


def test_e3_an_unsigned_answer_is_dropped_when_the_server_must_sign_and_taken_when_it_need_not() -> None:
    strict, lenient = World(requires_message_authenticator=True), World()
    for world, expected in ((strict, Drop), (lenient, Reply)):
        decision = world.answer(world.begin(sign_in()), radius.ACCESS_ACCEPT, is_signed=False)
        assert isinstance(decision, expected)
