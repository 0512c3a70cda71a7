"""CoA- and Disconnect-Requests: which NAS gets them, what it gets, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

import pytest
from unit.balancer.exchange.radius_world import (
    CLIENT,
    ENTROPY,
    World,
    guards,
    received,
    sent,
    server_answer,
    sign_in,
)
from unit.wire import pyrad_peer

from mfalb.balancer.config.models import Affinity, Backend, NoAffinity
from mfalb.balancer.config.radius_models import Nas
from mfalb.balancer.config.values import Address, Secret
from mfalb.balancer.exchange.radius_dynamic_authorization import DynamicAuthorization
from mfalb.balancer.exchange.radius_exchange import Drop, Forward, RadiusExchange, Reply, Resend
from mfalb.balancer.exchange.radius_service import RadiusService
from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.pool import Pool
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

Attributes = Sequence[tuple[int, bytes]]
COA, DISCONNECT = radius.COA_REQUEST, radius.DISCONNECT_REQUEST
SESSION = 44  # Acct-Session-Id
GATES: dict[str, Nas | None] = {
    "b1": Nas(identifiers=("gate1",), addresses=(ip_address("10.0.5.1"), ip_address("2001:db8::1"))),
    "b2": Nas(identifiers=("gate2", "shared"), addresses=(ip_address("10.0.5.2"),)),
    "b3": Nas(identifiers=("shared",), addresses=(ip_address("10.0.5.3"),)),
    "b4": None,
}


@dataclass
class NasWorld(World):
    """One listener for dynamic authorization before four NASes; its client is one of the servers that ask."""

    servers: int = 4
    follows: Pool | None = None
    nases: dict[str, Nas | None] = field(default_factory=lambda: GATES)

    def make_service(self) -> RadiusService:
        return DynamicAuthorization(self.pool, self.upstreams, self.follows)

    def backend(self, name: str) -> Backend:
        return Backend(
            name=name, address=Address("192.0.2.4", 3799), secret=Secret(b"unused"), nas=self.nases.get(name)
        )

    def affinity(self) -> Affinity:
        return NoAffinity()


def asked(
    *attributes: tuple[int, bytes],
    code: int = COA,
    identifier: int = 7,
    is_mac_added: bool = False,
    secret: SharedSecret = CLIENT,
) -> bytes:
    body = b"".join(radius.attribute(*one) for one in attributes)
    return radius.content_signed_request(code, identifier, body, secret, is_mac_added=is_mac_added)


def ipv4(text: str) -> tuple[int, bytes]:
    return radius.NAS_IP_ADDRESS, ip_address(text).packed


def ipv6(text: str) -> tuple[int, bytes]:
    return radius.NAS_IPV6_ADDRESS, IPv6Address(text).packed


def called(name: bytes) -> tuple[int, bytes]:
    return radius.NAS_IDENTIFIER, name


GATE1 = called(b"gate1")

# ----------------------------------------------------------------------------------- which NAS (F1)


@pytest.mark.parametrize(
    ("named", "nas"),
    [
        ([ipv4("10.0.5.1")], "b1"),
        ([ipv6("2001:db8::1")], "b1"),
        ([GATE1], "b1"),
        ([ipv4("10.0.5.1"), ipv6("2001:db8::1"), GATE1], "b1"),
        ([ipv4("10.0.5.2")], "b2"),
        ([called(b"gate2")], "b2"),
        ([ipv4("10.0.5.3"), called(b"shared")], "b3"),
        ([called(b"shared"), ipv4("10.0.5.2")], "b2"),
        ([ipv4("192.0.2.4")], "b4"),
        # Nothing is known of b2's IPv6 addresses and b4's identifiers: the NAS itself will say
        ([ipv4("10.0.5.2"), ipv6("2001:db8::77")], "b2"),
        ([ipv4("192.0.2.4"), called(b"whatever")], "b4"),
    ],
)
@pytest.mark.parametrize("code", [COA, DISCONNECT])
def test_f1_a_request_goes_to_the_nas_that_all_of_its_attributes_name(
    code: int, named: list[tuple[int, bytes]], nas: str
) -> None:
    exchange = NasWorld().begin(asked((SESSION, b"0001"), *named, code=code))
    assert exchange.backend.name == nas
    assert sent(exchange).code == code


@pytest.mark.parametrize(
    ("named", "cause"),
    [
        ([], 402),
        ([(radius.USER_NAME, b"alice"), (SESSION, b"0001")], 402),
        ([GATE1, ipv4("10.0.5.2")], 403),
        ([GATE1, ipv4("10.0.5.99")], 403),
        ([ipv4("10.0.5.1"), called(b"gate9")], 403),
        ([GATE1, called(b"gate2")], 403),
        ([ipv4("192.0.2.4"), GATE1], 403),
        ([ipv4("10.0.5.1"), ipv6("2001:db8::2")], 403),
        ([called(b"gate9")], 502),
        ([ipv4("10.0.5.99"), called(b"gate9")], 502),
        ([(radius.NAS_IP_ADDRESS, b"\x0a\0\5")], 502),
        ([called(b"shared")], 502),
    ],
)
@pytest.mark.parametrize(("code", "nak"), [(COA, radius.COA_NAK), (DISCONNECT, radius.DISCONNECT_NAK)])
def test_f1_a_request_that_names_no_nas_is_refused_at_once_and_told_why(
    code: int, nak: int, named: list[tuple[int, bytes]], cause: int
) -> None:
    """RFC 5176 section 3.5: 402 nobody is named, 403 the names contradict each other, 502 nobody is called that."""
    request = asked(*named, code=code)
    decision = NasWorld().request(request)
    assert isinstance(decision, Reply)
    assert decision.reason == "not_routed"
    answer = received(decision)
    assert (answer.code, answer.identifier) == (nak, 7)
    assert answer.attributes() == [(radius.ERROR_CAUSE, cause.to_bytes(4, "big"))]
    assert radius.has_valid_response_authenticator(answer, CLIENT, request[4:20])


def cause(decision: object) -> int:
    """The Error-Cause of a NAK of ours."""
    assert isinstance(decision, Reply)
    return int.from_bytes(received(decision).first(radius.ERROR_CAUSE) or b"", "big")


def test_f1_a_nas_that_is_down_or_out_of_service_is_not_replaced_by_another() -> None:
    world = NasWorld()
    world.set_up("b1", is_up=False)
    assert cause(world.request(asked(GATE1))) == 505
    world.set_up("b1")
    world.pool.set_admin_state("b1", AdminState.MAINT, 0.0)
    assert cause(world.request(asked(GATE1, identifier=8))) == 505
    world.pool.set_admin_state("b1", AdminState.DRAIN, 0.0)
    assert isinstance(world.request(asked(GATE1, identifier=9)), Forward)


def test_f1_a_nas_whose_port_is_closed_is_not_replaced_by_another() -> None:
    world = NasWorld()
    exchange = world.begin(asked(GATE1))
    decision = world.exchanges.refused(exchange, 0.1, ENTROPY)
    assert cause(decision) == 505
    assert isinstance(decision, Reply)
    assert decision.exchange is exchange
    assert not world.exchanges.duplicates.in_flight


def test_f1_a_nas_that_went_down_before_it_answered_is_told_of_with_the_next_retransmit() -> None:
    world = NasWorld()
    world.begin(asked(GATE1))
    world.set_up("b1", is_up=False)
    assert cause(world.request(asked(GATE1), now=3.0)) == 505


def test_f1_a_refusal_carries_the_proxy_states_in_order_and_nothing_else_of_the_request() -> None:
    states = [(radius.PROXY_STATE, b"one"), (radius.PROXY_STATE, b""), (radius.PROXY_STATE, b"two")]
    named = [states[0], called(b"gate9"), states[1], (radius.STATE, b"s"), (radius.CLASS, b"c"), states[2]]
    answer = received(NasWorld().request(asked(*named)))
    assert answer.attributes()[1:] == states


@pytest.mark.parametrize("is_mac_added", [False, True])
def test_f1_a_refusal_is_signed_as_the_request_was(*, is_mac_added: bool) -> None:
    request = asked(called(b"gate9"), is_mac_added=is_mac_added)
    answer = received(NasWorld().request(request))
    assert (radius.MESSAGE_AUTHENTICATOR in answer.offsets) is is_mac_added
    if is_mac_added:
        assert radius.has_valid_message_authenticator(answer, CLIENT, request[4:20])


def test_f1_a_refusal_that_the_proxy_states_leave_no_room_for_is_silence() -> None:
    filling = [(radius.PROXY_STATE, bytes(252))] * 16
    world = NasWorld(guards=guards(proxy_state_limit=255))
    fits, does_not = (asked(*filling, (radius.PROXY_STATE, bytes(size)), identifier=size) for size in (4, 5))
    assert len(fits) == 4096 - 6  # an Error-Cause takes 6 bytes
    assert isinstance(world.request(fits), Reply)
    assert world.request(does_not) == Drop("not_routed")


def test_c2_a_refusal_is_repeated_for_a_retransmit() -> None:
    world = NasWorld()
    first = world.request(asked())
    assert isinstance(first, Reply)
    assert world.request(asked(), now=2.0) == Reply(first.datagram, "repeated")


def test_f2_a_request_that_goes_round_is_dropped() -> None:
    states = [(radius.PROXY_STATE, bytes((number,))) for number in range(11)]
    assert NasWorld().request(asked(GATE1, *states)) == Drop("loop")


# ------------------------------------------------------------------- what it gets, and what comes back (F1, A8, E6)


@pytest.mark.parametrize("is_mac_added", [False, True])
@pytest.mark.parametrize("is_shared_secret", [False, True])
@pytest.mark.parametrize("code", [COA, DISCONNECT])
def test_f1_a_request_is_signed_anew_for_its_nas_as_pyrad_would_have_it(
    code: int, *, is_shared_secret: bool, is_mac_added: bool
) -> None:
    world = NasWorld(is_shared_secret=is_shared_secret)
    exchange = world.begin(asked(GATE1, code=code, is_mac_added=is_mac_added))
    assert pyrad_peer.accepts_dynamic_authorization(exchange.datagram, exchange.upstream.secret)
    assert (radius.MESSAGE_AUTHENTICATOR in sent(exchange).offsets) is is_mac_added


def test_f1_state_class_proxy_states_and_all_else_pass_untouched_in_order_and_none_is_added() -> None:
    passing: Attributes = (
        (radius.PROXY_STATE, b"first"),
        (radius.STATE, b"\0state"),
        (radius.CLASS, b"class"),
        GATE1,
        (26, b"\0\0\0\x09\xff\x00not a sub-attribute"),
        (radius.CLASS, b"another"),
        (55, b"\0\0\0\1"),
        (radius.PROXY_STATE, b"second"),
    )
    assert sent(NasWorld().begin(asked(*passing))).attributes() == list(passing)


@pytest.mark.parametrize(
    ("code", "answer_code"),
    [
        (COA, radius.COA_ACK),
        (COA, radius.COA_NAK),
        (DISCONNECT, radius.DISCONNECT_ACK),
        (DISCONNECT, radius.DISCONNECT_NAK),
    ],
)
@pytest.mark.parametrize("is_signed", [False, True])
def test_f1_the_answer_of_the_nas_is_checked_and_signed_anew(code: int, answer_code: int, *, is_signed: bool) -> None:
    world = NasWorld()
    state = (radius.PROXY_STATE, b"mine")
    exchange = world.begin(asked(GATE1, state, code=code))
    error = (radius.ERROR_CAUSE, (503).to_bytes(4, "big"))
    answer = received(world.answer(exchange, answer_code, error, state, is_signed=is_signed))
    assert (answer.code, answer.identifier) == (answer_code, 7)
    assert answer.attributes()[is_signed:] == [error, state]
    assert radius.has_valid_response_authenticator(answer, CLIENT, exchange.request.authenticator)
    if is_signed:
        assert radius.has_valid_message_authenticator(answer, CLIENT, exchange.request.authenticator)


@pytest.mark.parametrize(
    ("code", "answer_code"),
    [(COA, 41), (COA, 42), (DISCONNECT, 44), (DISCONNECT, 45), (COA, 2), (COA, 5), (COA, 43)],
)
def test_b1_an_answer_of_another_kind_is_dropped_and_the_exchange_goes_on(code: int, answer_code: int) -> None:
    world = NasWorld()
    exchange = world.begin(asked(GATE1, code=code))
    assert world.answer(exchange, answer_code) == Drop("unexpected_answer_code")
    assert list(world.exchanges.duplicates.in_flight.values()) == [exchange]


def test_b1_a_forged_answer_is_dropped_and_the_exchange_goes_on() -> None:
    world = NasWorld()
    exchange = world.begin(asked(GATE1))
    forged = bytearray(server_answer(exchange, radius.COA_ACK, is_signed=False))
    forged[0] = radius.COA_NAK
    assert world.exchanges.answer(exchange, bytes(forged), 0.0) == Drop("bad_response_authenticator")
    assert world.answer(exchange, radius.COA_ACK, (radius.PROXY_STATE, b"x")) == Drop("foreign_proxy_state")
    assert isinstance(world.answer(exchange, radius.COA_ACK), Reply)


@pytest.mark.parametrize("code", [COA, DISCONNECT])
def test_a8_a_request_with_a_wrong_authenticator_is_dropped_and_not_even_refused(code: int) -> None:
    wrong = asked(called(b"gate9"), code=code, secret=SharedSecret(b"another"))
    assert NasWorld().request(wrong) == Drop("bad_request_authenticator")


def test_e6_a_wrong_message_authenticator_is_dropped_though_the_authenticator_is_right() -> None:
    wrong = asked((radius.MESSAGE_AUTHENTICATOR, b"w" * 16), GATE1)
    assert NasWorld().request(wrong) == Drop("bad_message_authenticator")


def test_e6_a_message_authenticator_is_not_asked_for_and_no_proxy_state_has_to_be_signed() -> None:
    world = NasWorld()
    world.client.limits_proxy_state = True
    assert isinstance(world.request(asked(GATE1, (radius.PROXY_STATE, b"p"))), Forward)


@pytest.mark.parametrize("code", [1, 2, 4, 12, 41, 42, 44, 45])
def test_a5_other_codes_are_dropped_status_server_among_them(code: int) -> None:
    """RFC 5997 gives Status-Server no meaning on this port."""
    datagram = radius.content_signed_request(code, 7, radius.attribute(*GATE1), CLIENT)
    assert NasWorld().request(datagram) == Drop("unexpected_code")


def test_c1_a_retransmit_goes_to_the_same_nas_with_the_same_bytes() -> None:
    world = NasWorld()
    exchange = world.begin(asked(GATE1))
    assert world.request(asked(GATE1), now=0.5) == Drop("duplicate_in_flight")
    again = world.request(asked(GATE1), now=1.5)
    assert isinstance(again, Resend)
    assert again.exchange is exchange


def test_the_codes_of_disconnect_and_coa_do_not_meet_under_one_identifier() -> None:
    world = NasWorld()
    assert isinstance(world.request(asked(GATE1, code=COA)), Forward)
    assert isinstance(world.request(asked(GATE1, code=DISCONNECT)), Forward)
    assert len(world.exchanges.duplicates.in_flight) == 2


# ------------------------------------------------------------------------------------- hidden attributes


def salted_by_pyrad(value: bytes, secret: SharedSecret) -> bytes:
    """A Tunnel-Password's salt and text as pyrad hides them in a CoA-Request."""
    return pyrad_peer.salted(value, secret, bytes(16))


def test_b7_a_tunnel_password_is_hidden_anew_for_a_nas_with_another_secret() -> None:
    """The authenticator covers the hidden text, so that is hidden with zeros in its place."""
    for is_shared_secret in (False, True):
        hidden = b"\1" + salted_by_pyrad(b"open sesame", CLIENT)
        world = NasWorld(is_shared_secret=is_shared_secret)
        exchange = world.begin(asked(GATE1, (radius.TUNNEL_PASSWORD, hidden), (radius.CLASS, b"c"), is_mac_added=True))
        found = sent(exchange).first(radius.TUNNEL_PASSWORD) or b""
        assert found[:1] == b"\1"
        assert pyrad_peer.unsalted(found[1:], exchange.upstream.secret, bytes(16)) == b"open sesame"
        assert pyrad_peer.accepts_dynamic_authorization(exchange.datagram, exchange.upstream.secret)
        assert sent(exchange).attributes()[-1] == (radius.CLASS, b"c")


# ----------------------------------------------------------------------- a State that a server gave (B15)


@dataclass
class Site:
    """Servers b1 and b2 behind an authentication listener, whose client is a NAS; they ask of it what `asks` does."""

    auth: World
    asks: NasWorld

    def ask(self, server: str, *attributes: tuple[int, bytes]) -> RadiusExchange:
        self.asks.client.name = server
        exchange = self.asks.begin(asked((radius.USER_NAME, b"alice"), (radius.STATE, b"again"), *attributes))
        self.asks.answer(exchange, radius.COA_NAK, (radius.ERROR_CAUSE, (507).to_bytes(4, "big")), now=1.0)
        return exchange

    def comes_back_to(self, nas: str) -> str:
        self.auth.client.name = nas
        return self.auth.begin(sign_in(state=b"again"), now=2.0).backend.name


def site() -> Site:
    auth = World()
    return Site(auth, NasWorld(follows=auth.pool, pins=auth.pins))


@pytest.mark.parametrize("server", ["b1", "b2"])
def test_b15_a_state_that_a_server_gave_in_a_coa_request_brings_the_nas_back_to_it(server: str) -> None:
    one = site()
    one.ask(server, GATE1)
    assert one.comes_back_to("b1") == server


def test_b15_a_state_of_nobody_in_the_followed_pool_is_left_to_what_every_node_would_choose() -> None:
    chosen = site().comes_back_to("b1")
    one = site()
    one.ask("somebody", GATE1)
    assert one.comes_back_to("b1") == chosen


def test_b15_nothing_is_remembered_without_a_state_or_a_pool_to_follow() -> None:
    one = site()
    one.asks.client.name = "b1"
    stateless = one.asks.answer(one.asks.begin(asked(GATE1)), radius.COA_ACK)
    assert isinstance(stateless, Reply)
    assert stateless.pins == ()
    alone = NasWorld()
    alone.client.name = "b1"
    answer = alone.answer(alone.begin(asked(GATE1, (radius.STATE, b"s"))), radius.COA_ACK)
    assert isinstance(answer, Reply)
    assert answer.pins == ()


def test_b15_a_followed_pool_that_pins_no_states_has_none_pinned() -> None:
    auth = World(has_pins=False)
    world = NasWorld(follows=auth.pool)
    world.client.name = "b1"
    answer = world.answer(world.begin(asked(GATE1, (radius.STATE, b"s"))), radius.COA_ACK)
    assert isinstance(answer, Reply)
    assert answer.pins == ()
