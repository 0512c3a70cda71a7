from __future__ import annotations

import pytest
from pyrad.dictionary import Dictionary
from pyrad.packet import AuthPacket
from unit.balancer.exchange.radius_world import (
    AUTHENTICATOR,
    CLIENT,
    World,
    access_request,
    guards,
    received,
    sent,
    sign_in,
)
from unit.wire.rfc2868_peer import salted, unsalted

from mfalb.balancer.exchange.radius_exchange import Drop, Reply
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.exchange.radius_rules import (
    access_request_untrusted,
    has_foreign_proxy_state,
    response_body_untrusted,
)
from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret, md5
from mfalb.wire.radius_hidden import Keying, hide_password, reveal_password_untrusted

MICROSOFT, MS_CHAP_MPPE_KEYS, MS_MPPE_SEND_KEY, MS_MPPE_RECV_KEY = 311, 12, 16, 17


# --------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize("password", [b"a" * length for length in (0, 1, 15, 16, 17, 31, 32, 33, 127, 128)])
def test_b5_a_password_is_hidden_anew_for_a_server_with_another_secret(password: bytes) -> None:
    world = World()
    hidden = hide_password(password, CLIENT, AUTHENTICATOR)
    exchange = world.begin(access_request((radius.USER_NAME, b"alice"), (radius.USER_PASSWORD, hidden)))
    packet = sent(exchange)
    assert packet.authenticator != AUTHENTICATOR, "one authenticator under two secrets would give the key away"
    server = AuthPacket(secret=exchange.upstream.secret.value, packet=exchange.datagram, dict=Dictionary())
    read = server.PwDecrypt(packet.first(radius.USER_PASSWORD))
    assert read.encode() == password
    assert server.verify_message_authenticator()


def test_b6_chap_whose_challenge_was_the_authenticator_gets_it_spelt_out() -> None:
    chap = b"\x09" + md5(b"\x09" + b"arctangent" + AUTHENTICATOR).digest()
    packet = sent(World().begin(access_request((radius.USER_NAME, b"flopsy"), (radius.CHAP_PASSWORD, chap))))
    assert packet.every(radius.CHAP_CHALLENGE) == [AUTHENTICATOR]
    assert packet.first(radius.CHAP_PASSWORD) == chap


def test_b6_chap_with_a_challenge_of_its_own_passes_as_it_is() -> None:
    chap = b"\x09" + bytes(16)
    request = access_request((radius.CHAP_PASSWORD, chap), (radius.CHAP_CHALLENGE, b"the challenge...."))
    packet = sent(World().begin(request))
    assert packet.attributes()[1:] == [(radius.CHAP_PASSWORD, chap), (radius.CHAP_CHALLENGE, b"the challenge....")]


def test_b6_with_one_secret_chap_needs_no_challenge_since_the_authenticator_stays() -> None:
    request = access_request((radius.CHAP_PASSWORD, b"\x09" + bytes(16)))
    packet = sent(World(is_shared_secret=True).begin(request))
    assert packet.authenticator == AUTHENTICATOR
    assert packet.every(radius.CHAP_CHALLENGE) == []


@pytest.mark.parametrize(("last", "is_dropped"), [(194, False), (195, True)])
def test_b6_a_request_that_its_spelt_out_challenge_makes_too_long_is_dropped_and_counted(
    last: int, is_dropped: bool
) -> None:
    chap = (radius.CHAP_PASSWORD, b"\x09" + bytes(16))
    request = access_request(chap, *((radius.PROXY_STATE, bytes(253)),) * 15, (radius.REPLY_MESSAGE, bytes(last)))
    assert len(request) == 4096 - 18 + is_dropped, "a CHAP-Challenge takes 18 bytes"
    decision = World(guards=guards(proxy_state_limit=20)).request(request)
    assert (decision == Drop("too_long_when_signed")) is is_dropped


def test_a9_a10_everything_else_in_a_request_passes_as_it_is_and_in_order() -> None:
    attributes = [
        (radius.USER_NAME, b"alice"),
        (radius.PROXY_STATE, b"first"),
        (245, b"\1\0extended"),
        (radius.VENDOR_SPECIFIC, b"\0\0\1\x37\x10\x01broken"),
        (radius.STATE, bytes(range(32))),
        (radius.EAP_MESSAGE, b"\2\1\0\5\1"),
        (radius.EAP_MESSAGE, b"more"),
        (radius.PROXY_STATE, b"second"),
        (255, b""),
    ]
    packet = sent(World().begin(access_request(*attributes)))
    assert packet.attributes()[1:] == attributes
    assert packet.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR


def test_e1_e5_a_signature_that_stood_last_is_moved_to_the_front() -> None:
    body = radius.attribute(radius.USER_NAME, b"alice")
    head = bytes((1, 7, 0, 20 + len(body) + 18)) + AUTHENTICATOR
    mac = CLIENT.hmac(head + body + b"\x50\x12" + bytes(16))
    for is_shared in (True, False):
        packet = sent(World(is_shared_secret=is_shared).begin(head + body + b"\x50\x12" + mac))
        assert [kind for kind, _ in packet.attributes()] == [radius.MESSAGE_AUTHENTICATOR, radius.USER_NAME]


@pytest.mark.parametrize("length", [0, 1, 15, 17, 31, 127, 129, 144, 253])
def test_b5_a_password_of_an_impossible_length_is_dropped(length: int) -> None:
    request = access_request((radius.USER_NAME, b"alice"), (radius.USER_PASSWORD, bytes(length)))
    assert World().request(request) == Drop("bad_user_password_length")


@pytest.mark.parametrize("code", [2, 3, 4, 5, 11, 13, 40, 43, 0, 255])
def test_a5_other_codes_than_access_request_and_status_server_are_dropped(code: int) -> None:
    datagram = bytes((code, 7, 0, 20)) + AUTHENTICATOR
    assert World().request(datagram) == Drop("unexpected_code")


def unsigned(*attributes: tuple[int, bytes]) -> bytes:
    body = b"".join(radius.attribute(*one) for one in attributes)
    return bytes((1, 7, 0, 20 + len(body))) + AUTHENTICATOR + body


def test_e3_an_unsigned_request_is_dropped_unless_its_client_may_leave_the_signature_out() -> None:
    strict = RadiusPeer("vpn", CLIENT, requires_message_authenticator=True)
    lenient = RadiusPeer("old", CLIENT, requires_message_authenticator=False)
    request = unsigned((radius.USER_NAME, b"alice"))
    with pytest.raises(MalformedMessage, match="missing_message_authenticator"):
        access_request_untrusted(request, strict)
    assert access_request_untrusted(request, lenient).first(radius.USER_NAME) == b"alice"


def test_a7_eap_must_be_signed_even_by_a_client_that_may_leave_signatures_out() -> None:
    lenient = RadiusPeer("old", CLIENT, requires_message_authenticator=False)
    with pytest.raises(MalformedMessage, match="missing_message_authenticator"):
        access_request_untrusted(unsigned((radius.EAP_MESSAGE, b"\2\1\0\5\1")), lenient)


def test_a6_a_wrong_signature_is_dropped_even_where_none_is_needed() -> None:
    lenient = RadiusPeer("old", CLIENT, requires_message_authenticator=False)
    signed_by_another = radius.signed_request(1, 7, AUTHENTICATOR, b"", SharedSecret(b"another"))
    with pytest.raises(MalformedMessage, match="bad_message_authenticator"):
        access_request_untrusted(signed_by_another, lenient)


# ---------------------------------------------------------------------------------------- answers


def mppe(kind: int, value: bytes) -> bytes:
    return MICROSOFT.to_bytes(4, "big") + bytes((kind, len(value) + 2)) + value


def test_b7_mppe_keys_are_hidden_anew_for_the_client() -> None:
    world = World()
    exchange = world.begin(sign_in())
    keys = {MS_MPPE_SEND_KEY: bytes(range(32)), MS_MPPE_RECV_KEY: bytes(range(32, 64))}
    attributes = [
        (
            radius.VENDOR_SPECIFIC,
            mppe(
                kind, salted(key, exchange.upstream.secret.value, exchange.upstream_authenticator, bytes((128, kind)))
            ),
        )
        for kind, key in keys.items()
    ]
    answer = received(world.answer(exchange, radius.ACCESS_ACCEPT, *attributes))
    values = answer.every(radius.VENDOR_SPECIFIC)
    assert {value[4]: unsalted(value[6:], CLIENT.value, AUTHENTICATOR) for value in values} == keys
    salts = {value[6:8] for value in values}
    assert len(salts) == 2, "salts are unique within a packet"
    assert all(salt[0] & 128 for salt in salts)


def test_b7_the_older_mppe_keys_are_hidden_anew_as_passwords_are() -> None:
    world = World()
    exchange = world.begin(sign_in())
    keys = bytes(range(24)) + bytes(8)  # RFC 2548 section 2.4.1: 24 bytes, padded
    hidden = hide_password(keys, exchange.upstream.secret, exchange.upstream_authenticator)
    attribute = (radius.VENDOR_SPECIFIC, mppe(MS_CHAP_MPPE_KEYS, hidden))
    (value,) = received(world.answer(exchange, radius.ACCESS_ACCEPT, attribute)).every(radius.VENDOR_SPECIFIC)
    assert reveal_password_untrusted(value[6:], CLIENT, AUTHENTICATOR) == keys


def test_b7_both_mppe_keys_in_one_vendor_attribute_and_their_neighbours_survive() -> None:
    world = World()
    exchange = world.begin(sign_in())
    secret, authenticator = exchange.upstream.secret.value, exchange.upstream_authenticator
    send = salted(b"send key", secret, authenticator, b"\x80\x01")
    other = b"\x07\x06\0\0\0\2"  # MS-MPPE-Encryption-Policy, in clear
    receive = salted(b"receive key", secret, authenticator, b"\x80\x02")
    value = mppe(MS_MPPE_SEND_KEY, send) + other + bytes((MS_MPPE_RECV_KEY, len(receive) + 2)) + receive
    answer = received(world.answer(exchange, radius.ACCESS_ACCEPT, (radius.VENDOR_SPECIFIC, value)))
    (new,) = answer.every(radius.VENDOR_SPECIFIC)
    assert len(new) == len(value)
    position = 6 + len(send)
    assert unsalted(new[6:position], CLIENT.value, AUTHENTICATOR) == b"send key"
    assert new[position : position + 6] == other
    assert unsalted(new[position + 8 :], CLIENT.value, AUTHENTICATOR) == b"receive key"


def test_b7_every_tunnel_password_is_hidden_anew_and_keeps_its_tag() -> None:
    world = World()
    exchange = world.begin(sign_in())
    secret, authenticator = exchange.upstream.secret.value, exchange.upstream_authenticator
    attributes = [
        (radius.TUNNEL_PASSWORD, bytes((tag,)) + salted(text, secret, authenticator, bytes((128, tag))))
        for tag, text in ((1, b"first tunnel"), (2, b"a second tunnel with a longer password"))
    ]
    answer = received(world.answer(exchange, radius.ACCESS_ACCEPT, *attributes))
    values = answer.every(radius.TUNNEL_PASSWORD)
    assert [value[0] for value in values] == [1, 2]
    assert [unsalted(value[1:], CLIENT.value, AUTHENTICATOR) for value in values] == [
        b"first tunnel",
        b"a second tunnel with a longer password",
    ]


def test_a9_another_vendors_attributes_pass_unread_however_they_look() -> None:
    world = World()
    value = b"\0\0\0\x09\x10\xff" + bytes(10)
    answer = received(world.answer(world.begin(sign_in()), radius.ACCESS_ACCEPT, (radius.VENDOR_SPECIFIC, value)))
    assert answer.every(radius.VENDOR_SPECIFIC) == [value]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (mppe(MS_MPPE_SEND_KEY, b"\x80\x01" + bytes(15)), "bad_salted_length"),
        (mppe(MS_MPPE_SEND_KEY, b"\x80"), "bad_salted_length"),
        (mppe(MS_CHAP_MPPE_KEYS, bytes(24)), "bad_user_password_length"),
    ],
)
def test_b7_keys_of_an_impossible_length_are_dropped_with_their_answer(value: bytes, reason: str) -> None:
    world = World()
    exchange = world.begin(sign_in())
    assert world.answer(exchange, radius.ACCESS_ACCEPT, (radius.VENDOR_SPECIFIC, value)) == Drop(reason)


@pytest.mark.parametrize("inside", [b"\x10\x30short", b"\x10\x01"])
def test_a9_a_vendor_attribute_that_cannot_be_read_passes_as_it_is(inside: bytes) -> None:
    world, value = World(), MICROSOFT.to_bytes(4, "big") + inside
    answer = received(world.answer(world.begin(sign_in()), radius.ACCESS_ACCEPT, (radius.VENDOR_SPECIFIC, value)))
    assert answer.every(radius.VENDOR_SPECIFIC) == [value]


def test_b4_state_class_and_the_clients_proxy_states_come_back_untouched_and_in_order() -> None:
    world = World()
    request = access_request((radius.PROXY_STATE, b"one"), (radius.USER_NAME, b"alice"), (radius.PROXY_STATE, b"two"))
    attributes = [
        (radius.CLASS, bytes(range(40))),
        (radius.STATE, b"\0\xff" * 20),
        (radius.PROXY_STATE, b"one"),
        (radius.PROXY_STATE, b"two"),
        (radius.CLASS, b"second"),
    ]
    answer = received(world.answer(world.begin(request), radius.ACCESS_CHALLENGE, *attributes))
    assert (answer.identifier, answer.attributes()[1:]) == (7, attributes)


def test_a_proxy_state_is_foreign_when_the_request_did_not_carry_it() -> None:
    request = radius.read_untrusted(access_request((radius.PROXY_STATE, b"one")))
    for values, is_foreign in (([], False), ([b"one"], False), ([b"two"], True), ([b"one", b"two"], True)):
        body = b"".join(radius.attribute(radius.PROXY_STATE, value) for value in values)
        response = radius.read_untrusted(radius.signed_response(2, 7, AUTHENTICATOR, body, CLIENT))
        assert has_foreign_proxy_state(response, request) is is_foreign


def test_an_answer_under_equal_keying_only_loses_its_signature() -> None:
    keying = Keying(CLIENT, AUTHENTICATOR)
    body = radius.attribute(radius.TUNNEL_PASSWORD, b"\1\x80\1" + bytes(16))
    packet = radius.read_untrusted(radius.signed_response(2, 7, AUTHENTICATOR, body, CLIENT))
    assert response_body_untrusted(packet, keying, keying) == body


def test_an_independent_client_takes_the_answer_for_its_own() -> None:
    world = World()
    client = AuthPacket(id=9, secret=CLIENT.value, authenticator=AUTHENTICATOR, dict=Dictionary())
    client.add_message_authenticator()
    decision = world.answer(world.begin(client.RequestPacket()), radius.ACCESS_ACCEPT, (radius.REPLY_MESSAGE, b"hi"))
    assert isinstance(decision, Reply)
    reply = client.CreateReply(packet=decision.datagram)
    assert client.VerifyReply(reply, decision.datagram, enforce_ma=True)
