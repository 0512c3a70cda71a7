import hashlib
import hmac
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire import pyrad_peer
from unit.wire import rfc2865_examples as rfc
from unit.wire.outcomes import outcome

from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret, read_untrusted

SECRET = SharedSecret(b"xyzzy5461")
AUTHENTICATOR = bytes(range(16))

kinds = st.integers(0, 255)
unsigned_kinds = kinds.filter(lambda kind: kind != radius.MESSAGE_AUTHENTICATOR)
values = st.binary(max_size=radius.VALUE_LIMIT_BYTES)
attribute_lists = st.lists(st.tuples(unsigned_kinds, values), max_size=12)
secrets = st.binary(min_size=1, max_size=80).map(SharedSecret)
authenticators = st.binary(min_size=16, max_size=16)


def packet(body: bytes, *, code: int = 1, length: int | None = None) -> bytes:
    """A packet around these attributes, right or not; `length` overrides what it claims."""
    claimed = 20 + len(body) if length is None else length
    return bytes((code, 9)) + claimed.to_bytes(2, "big") + AUTHENTICATOR + body


def shown(data: bytes) -> tuple[int, int, list[tuple[int, bytes]]]:
    read = read_untrusted(data)
    assert read.authenticator == data[4:20]
    return read.code, read.identifier, read.attributes()


MA = b"\x50\x12" + bytes(16)

WELL_FORMED: list[tuple[bytes, tuple[int, int, list[tuple[int, bytes]]]]] = [
    (packet(b""), (1, 9, [])),
    (packet(b"\x01\x02"), (1, 9, [(1, b"")])),
    (packet(b"\x01\x05bob\x04\x06\x0a\x00\x00\x01"), (1, 9, [(1, b"bob"), (4, b"\x0a\x00\x00\x01")])),
    (packet(b"\x21\x03a\x01\x03b\x21\x03c"), (1, 9, [(33, b"a"), (1, b"b"), (33, b"c")])),
    (packet(b"\x00\x03x\xff\x03y\xf1\x02", code=200), (200, 9, [(0, b"x"), (255, b"y"), (241, b"")])),
    (packet(MA, code=12), (12, 9, [(80, bytes(16))])),
    (rfc.TELNET_ACCEPT, (2, 0, [(6, b"\0\0\0\1"), (15, b"\0\0\0\0"), (14, b"\xc0\xa8\1\3")])),
    (rfc.CARD_REJECT, (3, 3, [])),
]

MALFORMED: list[tuple[bytes, str]] = [
    (b"", "short_datagram"),
    (packet(b"")[:19], "short_datagram"),
    (packet(b"", length=21), "truncated"),
    (packet(b"", length=65535), "truncated"),
    (packet(b"", length=19), "bad_length"),
    (packet(b"", length=0), "bad_length"),
    (packet(bytes(4077)), "bad_length"),
    (packet(b"\x01\x00"), "bad_attribute_length"),
    (packet(b"\x01\x01"), "bad_attribute_length"),
    (packet(b"\x01\x02\x01\x00\x00"), "bad_attribute_length"),
    (packet(b"\x01"), "attributes_overrun"),
    (packet(b"\x01\x03"), "attributes_overrun"),
    (packet(b"\x01\x02\x01"), "attributes_overrun"),
    (packet(b"\x01\x06bob"), "attributes_overrun"),
    (packet(b"\x01\x05bob", length=24), "attributes_overrun"),
    (packet(b"\x50\x11" + bytes(15)), "bad_message_authenticator_length"),
    (packet(b"\x50\x02"), "bad_message_authenticator_length"),
    (packet(MA + MA), "repeated_message_authenticator"),
    (packet(MA + b"\x01\x02\x50\x02"), "repeated_message_authenticator"),
    (rfc.CARD_ANSWER_MISPRINTED, "attributes_overrun"),
]


@pytest.mark.parametrize(("data", "value"), WELL_FORMED)
def test_a3_a_well_formed_packet_is_read_whole_and_with_a_tail_that_is_ignored(
    data: bytes, value: tuple[int, int, list[tuple[int, bytes]]]
) -> None:
    assert shown(data) == value
    for tail in (b"\0", b"\x01\x05bob", bytes(5000)):
        assert shown(data + tail) == value
        assert read_untrusted(data + tail).data == data


@pytest.mark.parametrize("data", [data for data, _ in WELL_FORMED])
def test_a2_a_packet_cut_at_any_length_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        assert outcome(read_untrusted, data[:length]) == ("short_datagram" if length < 20 else "truncated")


@pytest.mark.parametrize(("data", "reason"), MALFORMED)
def test_a2_a4_a_malformed_packet_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    assert outcome(read_untrusted, data) == reason


def test_the_largest_packet_is_read() -> None:
    filler = (b"\x12\xff" + bytes(253)) * 15 + b"\x12\xfb" + bytes(249)
    assert len(read_untrusted(packet(filler)).data) == 4096


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(packet)))
@settings(max_examples=200)
def test_any_bytes_are_a_packet_or_malformed_and_nothing_else(data: bytes) -> None:
    read = outcome(read_untrusted, data)
    if isinstance(read, str):
        return
    assert read.data == data[: len(read.data)]
    again = b"".join(radius.attribute(*one) for one in read.attributes())
    assert again == read.data[20:]
    for kind in range(256):
        every = [value for found, value in read.attributes() if found == kind]
        assert read.every(kind) == every
        assert read.first(kind) == (every[0] if every else None)


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (rfc.TELNET_REQUEST, rfc.TELNET_ACCEPT),
        (rfc.CHAP_REQUEST, rfc.CHAP_ACCEPT),
        (rfc.CARD_REQUEST, rfc.CARD_CHALLENGE),
        (rfc.CARD_ANSWER, rfc.CARD_REJECT),
    ],
)
def test_the_responses_of_rfc_2865_are_valid_for_their_own_request_only(request_: bytes, response: bytes) -> None:
    authenticator = read_untrusted(request_).authenticator
    answer = read_untrusted(response)
    assert radius.has_valid_response_authenticator(answer, rfc.SECRET, authenticator)
    assert not radius.has_valid_response_authenticator(answer, SharedSecret(b"xyzzy5462"), authenticator)
    assert not radius.has_valid_response_authenticator(answer, rfc.SECRET, AUTHENTICATOR)
    assert not radius.has_valid_message_authenticator(answer, rfc.SECRET, authenticator)  # it has none


def test_the_misprinted_answer_of_rfc_2865_is_read_once_its_state_is_put_right() -> None:
    challenge, answer = read_untrusted(rfc.CARD_CHALLENGE), read_untrusted(rfc.CARD_ANSWER)
    assert challenge.first(radius.STATE) == answer.first(radius.STATE) == b"32769430"


@given(secrets, st.binary(max_size=300))
@settings(max_examples=100)
def test_the_hmac_is_that_of_the_standard_library(secret: SharedSecret, message: bytes) -> None:
    assert secret.hmac(message) == hmac.digest(secret.value, message, "md5")
    assert secret.digest(message) == hashlib.md5(message + secret.value).digest()


def test_a_secret_shows_nothing_of_itself_and_may_not_be_empty() -> None:
    secret = SharedSecret(b"hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret == SharedSecret(b"hunter2") != SharedSecret(b"hunter3")
    assert secret != b"hunter2"
    assert len({secret, SharedSecret(b"hunter2")}) == 1
    with pytest.raises(ValueError, match="empty"):
        SharedSecret(b"")


@given(attribute_lists, secrets, authenticators)
@settings(max_examples=100)
def test_a_signed_request_has_its_message_authenticator_first_and_pyrad_takes_it(
    attributes: list[tuple[int, bytes]], secret: SharedSecret, authenticator: bytes
) -> None:
    body = b"".join(radius.attribute(*one) for one in attributes if one[0] != 26)  # pyrad takes vendors' apart
    data = radius.signed_request(radius.ACCESS_REQUEST, 7, authenticator, body, secret)
    read = read_untrusted(data)
    assert read.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR
    assert (read.identifier, read.authenticator) == (7, authenticator)
    assert radius.body_without_message_authenticator(read) == body
    assert radius.has_valid_message_authenticator(read, secret)
    assert pyrad_peer.accepts_request(data, secret)


@given(attribute_lists, secrets, authenticators, st.sampled_from((2, 3, 11)))
@settings(max_examples=100)
def test_a_signed_response_has_its_message_authenticator_first_and_pyrad_takes_it(
    attributes: list[tuple[int, bytes]], secret: SharedSecret, authenticator: bytes, code: int
) -> None:
    request = radius.signed_request(radius.ACCESS_REQUEST, 7, authenticator, b"", secret)
    # pyrad takes vendors' attributes apart, and refuses a Proxy-State that was not sent
    body = b"".join(radius.attribute(*one) for one in attributes if one[0] not in (26, radius.PROXY_STATE))
    data = radius.signed_response(code, 7, authenticator, body, secret)
    read = read_untrusted(data)
    assert read.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR
    assert radius.has_valid_message_authenticator(read, secret, authenticator)
    assert radius.has_valid_response_authenticator(read, secret, authenticator)
    assert pyrad_peer.accepts_reply(request, data, secret)


def test_each_changed_bit_of_a_signed_message_is_noticed() -> None:
    request = radius.signed_request(1, 7, AUTHENTICATOR, b"\x01\x05bob", SECRET)
    response = radius.signed_response(11, 7, AUTHENTICATOR, b"\x18\x05abc", SECRET)
    for bit in range(len(response) * 8):
        for data, authenticator in ((request, None), (response, AUTHENTICATOR)):
            changed = (int.from_bytes(data, "big") ^ (1 << bit)).to_bytes(len(data), "big")
            read = outcome(read_untrusted, changed)
            if isinstance(read, Packet) and authenticator is None:
                assert not radius.has_valid_message_authenticator(read, SECRET)
            elif isinstance(read, Packet):
                assert not radius.has_valid_response_authenticator(read, SECRET, AUTHENTICATOR)
                if bit not in range((len(data) - 20) * 8, (len(data) - 4) * 8):  # the authenticator's own 16 bytes
                    assert not radius.has_valid_message_authenticator(read, SECRET, AUTHENTICATOR)


@given(attribute_lists, authenticators, st.integers(0, 12))
@settings(max_examples=100)
def test_signing_anew_keeps_every_other_attribute_wherever_the_message_authenticator_stood(
    attributes: list[tuple[int, bytes]], authenticator: bytes, place: int
) -> None:
    parts = [radius.attribute(*one) for one in attributes]
    body = b"".join([*parts[:place], MA, *parts[place:]])
    stripped = radius.body_without_message_authenticator(read_untrusted(packet(body)))
    assert stripped == b"".join(parts)
    other = SharedSecret(b"another")
    first = read_untrusted(radius.signed_request(1, 1, authenticator, stripped, SECRET))
    second = read_untrusted(
        radius.signed_request(1, 2, AUTHENTICATOR, radius.body_without_message_authenticator(first), other)
    )
    assert second.attributes()[1:] == first.attributes()[1:] == attributes
    assert radius.has_valid_message_authenticator(second, other)


def test_a_request_made_by_pyrad_is_valid() -> None:
    read = read_untrusted(pyrad_peer.made_request([(1, b"bob"), (33, b"x")], AUTHENTICATOR, SECRET))
    assert (read.first(1), read.first(33)) == (b"bob", b"x")
    assert radius.has_valid_message_authenticator(read, SECRET)
    assert not radius.has_valid_message_authenticator(read, SharedSecret(b"x"))


@pytest.mark.parametrize("place", range(4))
def test_e5_a_message_authenticator_is_valid_wherever_it_stands(place: int) -> None:
    parts = [b"\x01\x05bob", b"\x21\x03x", b"\x21\x03y"]
    unsigned = packet(b"".join([*parts[:place], MA, *parts[place:]]))
    mac = hmac.digest(SECRET.value, unsigned, "md5")
    data = unsigned.replace(MA, MA[:2] + mac)
    assert radius.has_valid_message_authenticator(read_untrusted(data), SECRET)
    assert pyrad_peer.accepts_request(data, SECRET)


def test_an_accounting_request_is_signed_over_zeros() -> None:
    data = radius.content_signed_request(radius.ACCOUNTING_REQUEST, 3, b"\x28\x06\0\0\0\1", SECRET)
    read = read_untrusted(data)
    assert (read.code, read.first(40)) == (4, b"\0\0\0\1")
    assert data[4:20] == hashlib.md5(data[:4] + bytes(16) + data[20:] + SECRET.value).digest()
    assert radius.has_valid_content_authenticator(read, SECRET)
    assert not radius.has_valid_content_authenticator(read, SharedSecret(b"x"))


def test_e8_what_would_grow_past_4096_bytes_is_not_signed() -> None:
    parts = [radius.attribute(18, bytes(253))] * 15
    room = 4096 - 20 - sum(len(part) for part in parts)
    signers: list[tuple[Callable[[bytes], bytes], int]] = [
        (lambda body: radius.signed_request(1, 1, AUTHENTICATOR, body, SECRET), 18),
        (lambda body: radius.signed_response(2, 1, AUTHENTICATOR, body, SECRET), 18),
        (lambda body: radius.content_signed_request(radius.ACCOUNTING_REQUEST, 1, body, SECRET), 0),
    ]
    for sign, overhead in signers:
        largest = b"".join((*parts, radius.attribute(18, bytes(room - overhead - 2))))
        assert len(read_untrusted(sign(largest)).data) == 4096
        with pytest.raises(MalformedMessage, match="too_long_when_signed"):
            sign(largest + b"\x12\x02")


def test_an_attribute_holds_at_most_253_bytes() -> None:
    assert radius.attribute(1, bytes(253)) == b"\x01\xff" + bytes(253)
    with pytest.raises(ValueError, match="253"):
        radius.attribute(1, bytes(254))


def test_attributes_of_one_type_keep_their_order() -> None:
    body = b"".join(radius.attribute(79, bytes((index,))) for index in range(20))
    read = read_untrusted(radius.signed_request(1, 1, AUTHENTICATOR, body, SECRET))
    assert all(one < two for one, two in pairwise(read.every(79)))
    assert len(read.every(79)) == 20
