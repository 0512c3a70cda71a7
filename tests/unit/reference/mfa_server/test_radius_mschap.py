from __future__ import annotations

import pytest

from mfalb.errors import MalformedMessage
from mfalb.reference.directory import nt_hash
from mfalb.reference.mfa_server.radius_mschap import Exchange, exchange_untrusted
from mfalb.wire import radius

# RFC 2759 section 9.2 and RFC 3079 section 3.5.3
USER, PASSWORD = b"User", "clientPass"
AUTHENTICATOR_CHALLENGE = bytes.fromhex("5B5D7C7D7B3F2F3E3C2C602132262628")
PEER_CHALLENGE = bytes.fromhex("21402324255E262A28295F2B3A337C7E")
RESPONSE = bytes.fromhex("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF")
HASH = bytes.fromhex("44EBBA8D5312B8D611474411F56989AE")
EXCHANGE = Exchange(USER, 7, AUTHENTICATOR_CHALLENGE, PEER_CHALLENGE, RESPONSE)


def test_the_rfcs_numbers_come_out() -> None:
    assert nt_hash(PASSWORD) == HASH
    assert EXCHANGE.challenge_hash() == bytes.fromhex("D02E4386BCE91226")
    assert EXCHANGE.expected(HASH) == RESPONSE
    assert EXCHANGE.proof(HASH) == "S=407A5589115FD0D6209F510FE9C04566932CDA56"
    send, _ = EXCHANGE.keys(HASH)
    assert send == bytes.fromhex("8B7CDC149B993A1BA118CB153F56DCCB")


def test_a_domain_before_the_name_changes_nothing() -> None:
    inside = Exchange(b"CONTOSO\\User", 7, AUTHENTICATOR_CHALLENGE, PEER_CHALLENGE, RESPONSE)
    assert inside.is_right(HASH)


def test_another_password_or_a_changed_bit_is_wrong() -> None:
    assert EXCHANGE.is_right(HASH)
    assert not EXCHANGE.is_right(nt_hash("clientpass"))
    for place in range(24):
        changed = bytearray(RESPONSE)
        changed[place] ^= 1
        assert not Exchange(USER, 7, AUTHENTICATOR_CHALLENGE, PEER_CHALLENGE, bytes(changed)).is_right(HASH)


def vendor(kind: int, value: bytes) -> bytes:
    return radius.attribute(26, b"\x00\x00\x01\x37" + bytes((kind, len(value) + 2)) + value)


def packet_of(*attributes: bytes) -> radius.Packet:
    secret = radius.SharedSecret(b"secret")
    return radius.read_untrusted(radius.signed_request(1, 1, b"1" * 16, b"".join(attributes), secret))


ATTRIBUTE = b"\x07\x00" + PEER_CHALLENGE + bytes(8) + RESPONSE
CHALLENGE = vendor(11, AUTHENTICATOR_CHALLENGE)


def test_an_exchange_is_read_from_its_two_attributes_in_any_order_among_others() -> None:
    other = radius.attribute(26, b"\x00\x00\x00\x09\x01\x03x")
    assert exchange_untrusted(packet_of(other, CHALLENGE, vendor(25, ATTRIBUTE)), USER) == EXCHANGE
    assert exchange_untrusted(packet_of(vendor(25, ATTRIBUTE), CHALLENGE), USER) == EXCHANGE
    assert exchange_untrusted(packet_of(CHALLENGE), USER) is None
    assert exchange_untrusted(packet_of(), USER) is None


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ([vendor(25, ATTRIBUTE)], "bad_mschapv2"),
        ([CHALLENGE, vendor(25, ATTRIBUTE[:-1])], "bad_mschapv2"),
        ([CHALLENGE, vendor(25, ATTRIBUTE + b"x")], "bad_mschapv2"),
        ([vendor(11, b"short"), vendor(25, ATTRIBUTE)], "bad_mschapv2"),
        ([radius.attribute(26, b"\x00\x00\x01\x37\x19\x01")], "bad_vendor_attribute"),
        ([radius.attribute(26, b"\x00\x00\x01\x37\x19\x09x")], "bad_vendor_attribute"),
        ([radius.attribute(26, b"\x00\x00\x01\x37\x19")], "bad_vendor_attribute"),
    ],
)
def test_half_an_exchange_is_malformed(attributes: list[bytes], reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        exchange_untrusted(packet_of(*attributes), USER)


def test_an_exchange_does_not_show_itself() -> None:
    assert "User" not in repr(EXCHANGE)
    assert RESPONSE.hex() not in repr(EXCHANGE)
