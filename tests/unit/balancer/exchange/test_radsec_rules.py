"""Which service a packet on a RadSec connection is for, and what a client gets whose packet is for none."""

from __future__ import annotations

import pytest
from unit.balancer.exchange.radius_world import CLIENT
from unit.wire import pyrad_peer

from mfalb.balancer.config.radius_models import ServiceKind
from mfalb.balancer.exchange.radius_exchange import Drop, Reply
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.exchange.radsec_rules import routes, unsupported
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

AUTHENTICATION, ACCOUNTING, DYNAMIC = ServiceKind
ACCESS, RECORD, DISCONNECT, COA = (
    radius.ACCESS_REQUEST,
    radius.ACCOUNTING_REQUEST,
    radius.DISCONNECT_REQUEST,
    radius.COA_REQUEST,
)
REFUSALS = [
    (RECORD, radius.ACCOUNTING_RESPONSE),
    (DISCONNECT, radius.DISCONNECT_NAK),
    (COA, radius.COA_NAK),
]
STATES = [(radius.PROXY_STATE, b"first"), (radius.PROXY_STATE, b"second")]
SESSION = (44, b"0001")  # Acct-Session-Id
CAUSE_406 = (101, bytes((0, 0, 1, 150)))


def peer(*, is_signed_to: bool = True) -> RadiusPeer:
    return RadiusPeer("vpn", CLIENT, requires_message_authenticator=True, is_signed_to=is_signed_to)


def asked(
    code: int, *attributes: tuple[int, bytes], is_mac_added: bool = False, secret: SharedSecret = CLIENT
) -> bytes:
    body = b"".join(radius.attribute(*one) for one in attributes or (SESSION,))
    return radius.content_signed_request(code, 7, body, secret, is_mac_added=is_mac_added)


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ((AUTHENTICATION,), {ACCESS: AUTHENTICATION, RECORD: None, DISCONNECT: None, COA: None}),
        (
            (AUTHENTICATION, ACCOUNTING),
            {ACCESS: AUTHENTICATION, RECORD: ACCOUNTING, DISCONNECT: None, COA: None},
        ),
        ((ACCOUNTING,), {RECORD: ACCOUNTING, DISCONNECT: None, COA: None}),
        ((DYNAMIC,), {RECORD: None, DISCONNECT: DYNAMIC, COA: DYNAMIC}),
    ],
)
def test_a_packet_s_code_says_which_service_takes_it(
    services: tuple[ServiceKind, ...], expected: dict[int, ServiceKind | None]
) -> None:
    """What is not in the table is the listener's own service's: an Access-Request where there is none, above all."""
    assert routes(services) == expected


@pytest.mark.parametrize("is_mac_added", [False, True])
@pytest.mark.parametrize(("code", "refusal"), REFUSALS)
def test_what_is_not_offered_is_refused_with_406_and_the_proxy_states_in_a_way_that_pyrad_believes(
    code: int, refusal: int, is_mac_added: bool
) -> None:
    request = asked(code, STATES[0], SESSION, STATES[1], is_mac_added=is_mac_added)
    reply = unsupported(request, peer())
    assert isinstance(reply, Reply)
    assert (reply.reason, reply.exchange, reply.pins) == ("unsupported", None, ())
    answer = radius.read_untrusted(reply.datagram)
    assert (answer.code, answer.identifier) == (refusal, 7)
    is_mac_wanted = is_mac_added and refusal != radius.ACCOUNTING_RESPONSE  # peers make one there in several ways
    assert pyrad_peer.accepts_reply(request, reply.datagram, CLIENT, enforce_ma=is_mac_wanted)
    first = [radius.MESSAGE_AUTHENTICATOR] if is_mac_wanted else []
    assert [kind for kind, _ in answer.attributes()] == [*first, CAUSE_406[0], radius.PROXY_STATE, radius.PROXY_STATE]
    assert answer.attributes()[len(first) :] == [CAUSE_406, *STATES]


def test_a_client_that_chokes_on_a_message_authenticator_gets_none() -> None:
    reply = unsupported(asked(COA, is_mac_added=True), peer(is_signed_to=False))
    assert isinstance(reply, Reply)
    assert radius.read_untrusted(reply.datagram).attributes() == [CAUSE_406]


def altered(datagram: bytes) -> bytes:
    return datagram[:-1] + bytes((datagram[-1] ^ 1,))


def with_wrong_mac(code: int) -> bytes:
    """Right by its authenticator, and with a Message-Authenticator that is not."""
    return asked(code, (radius.MESSAGE_AUTHENTICATOR, bytes(16)))


@pytest.mark.parametrize("code", [code for code, _ in REFUSALS])
def test_what_is_not_sound_gets_no_answer(code: int) -> None:
    stranger = asked(code, secret=SharedSecret(b"another"))
    assert unsupported(stranger, peer()) == Drop("bad_request_authenticator")
    assert unsupported(altered(asked(code)), peer()) == Drop("bad_request_authenticator")
    assert unsupported(with_wrong_mac(code), peer()) == Drop("bad_message_authenticator")
    assert unsupported(bytes((code, 7, 0, 22)) + bytes(16) + b"\x2c\x01", peer()) == Drop("bad_attribute_length")


def test_where_proxy_states_leave_no_room_there_is_silence() -> None:
    states = [(radius.PROXY_STATE, bytes(253))] * 15 + [(radius.PROXY_STATE, bytes(249))]
    request = asked(COA, *states)
    assert len(request) == 20 + 15 * 255 + 251
    assert unsupported(request, peer()) == Drop("unsupported")
