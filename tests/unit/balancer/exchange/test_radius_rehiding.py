from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.wire import pyrad_peer
from unit.wire.hidden_packets import WIMAX, in_vendors_words, packet, placed, vendor_specific
from unit.wire.outcomes import outcome
from unit.wire.rfc2868_peer import ascend_secret, salted, unsalted

from mfalb.balancer.exchange.radius_rehiding import rehidden_body_untrusted
from mfalb.wire.radius import HEADER_BYTES, MESSAGE_AUTHENTICATOR, Packet, SharedSecret, attribute
from mfalb.wire.radius_hidden import Keying
from mfalb.wire.radius_hidden_attributes import HIDDEN_ATTRIBUTES, HiddenAttribute, Scheme, hidden_values

OLD = Keying(SharedSecret(b"the backend's"), bytes(range(16)))
NEW = Keying(SharedSecret(b"the client's"), bytes(range(100, 116)))
BY_NAME = {row.name: row for row in HIDDEN_ATTRIBUTES}
HANDLED = [row for row in HIDDEN_ATTRIBUTES if row.scheme is not None]
UNHANDLED = [row for row in HIDDEN_ATTRIBUTES if row.scheme is None]
SALTED = [row for row in HIDDEN_ATTRIBUTES if row.scheme in {Scheme.SALTED, Scheme.TAGGED}]
SEND_KEY, TUNNEL_PASSWORD = BY_NAME["MS-MPPE-Send-Key"], BY_NAME["Tunnel-Password"]
TAG = b"\x1f"


def hide(row: HiddenAttribute, text: bytes, keying: Keying, salt: bytes = b"\x80\x01") -> bytes:
    """A value as a server that follows the table's row makes it, by pyrad or by the RFCs written down again."""
    secret, authenticator = keying.secret.value, keying.authenticator
    match row.scheme:
        case Scheme.USER_PASSWORD:
            return pyrad_peer.hidden_password(text, keying.secret, authenticator)
        case Scheme.TAGGED:
            return TAG + salted(text, secret, authenticator, salt)
        case Scheme.ASCEND_SECRET:
            return ascend_secret(text[:16], secret, authenticator)
        case _:
            return salted(text, secret, authenticator, salt)


def shown(row: HiddenAttribute, value: bytes, keying: Keying) -> bytes:
    """What a client reads out of a value."""
    secret, authenticator = keying.secret.value, keying.authenticator
    match row.scheme:
        case Scheme.USER_PASSWORD:
            return pyrad_peer.revealed_password(value, keying.secret, authenticator).encode()
        case Scheme.TAGGED:
            assert value[:1] == TAG
            return unsalted(value[1:], secret, authenticator)
        case Scheme.ASCEND_SECRET:
            return ascend_secret(value, secret, authenticator)
        case _:
            return unsalted(value, secret, authenticator)


def rehidden(before: Packet, old: Keying = OLD, new: Keying = NEW) -> Packet:
    return packet(rehidden_body_untrusted(before, old, new))


def values(searched: Packet) -> list[bytes]:
    """The hidden values in their order, the salted and Ascend's ones."""
    return [searched.data[start:end] for _, _, start, end in hidden_values(searched)]


def salts(searched: Packet) -> list[bytes]:
    return [
        value[1:3] if one.scheme is Scheme.TAGGED else value[:2]
        for one, value in zip(hidden_values(searched), values(searched), strict=True)
    ]


@pytest.mark.parametrize("row", HANDLED, ids=lambda row: row.name)
@pytest.mark.parametrize("text", [b"sixteen bytes!!!", b"k"], ids=["a block", "a byte"])
def test_b7_every_attribute_of_the_table_reads_the_same_for_a_client_with_another_secret(
    row: HiddenAttribute, text: bytes
) -> None:
    before, after = attribute(1, b"alice"), attribute(18, b"hello")
    start, length = HEADER_BYTES + len(before), len(placed(row, b""))
    value = hide(row, text, OLD)
    body = rehidden(packet(before, placed(row, value), after)).data
    hidden_at = slice(start + length, start + length + len(value))
    assert body[hidden_at] != value
    assert shown(row, body[hidden_at], NEW) == text
    assert body[HEADER_BYTES : hidden_at.start] + body[hidden_at.stop :] == (
        before + placed(row, value)[:length] + after
    ), "nothing but the value changes"


def test_b5_a_password_and_a_vendors_hidden_value_in_one_request_are_both_hidden_anew() -> None:
    password, key = hide(BY_NAME["User-Password"], b"hello", OLD), hide(SEND_KEY, b"a key", OLD)
    hidden, mac = [attribute(2, password), placed(SEND_KEY, key)], attribute(MESSAGE_AUTHENTICATOR, bytes(16))
    for attributes in (hidden, [mac, *hidden], [hidden[0], mac, hidden[1]], [*reversed(hidden), mac]):
        body = rehidden(packet(*attributes))
        assert shown(BY_NAME["User-Password"], body.first(2) or b"", NEW) == b"hello"
        assert shown(SEND_KEY, values(body)[0], NEW) == b"a key"
        assert MESSAGE_AUTHENTICATOR not in body.offsets


def test_b7_the_salts_that_a_server_chose_well_are_kept() -> None:
    chosen = [b"\xff\xff", b"\x80\x00", b"\x9a\x01"]
    before = packet(*(placed(SEND_KEY, hide(SEND_KEY, b"key", OLD, salt)) for salt in chosen))
    assert salts(rehidden(before)) == chosen


@pytest.mark.parametrize(
    ("chosen", "sent"),
    [
        ([b"\x00\x01"], [b"\x80\x01"]),  # the first bit is missing
        ([b"\x80\x01", b"\x80\x01"], [b"\x80\x01", b"\x80\x02"]),  # twice the same
        ([b"\x00\x01", b"\x80\x01", b"\x80\x02"], [b"\x80\x01", b"\x80\x02", b"\x80\x03"]),
        ([b"\xff\xff", b"\xff\xff", b"\x7f\xff"], [b"\xff\xff", b"\x80\x00", b"\x80\x01"]),
    ],
)
def test_b7_salts_leave_with_their_first_bit_set_and_no_two_alike(chosen: list[bytes], sent: list[bytes]) -> None:
    rows = [TUNNEL_PASSWORD, SEND_KEY, BY_NAME["Aruba-MPSK-Passphrase"]][: len(chosen)]
    texts = [b"first", b"second", b"third"][: len(chosen)]
    before = packet(
        *(placed(row, hide(row, text, OLD, salt)) for row, text, salt in zip(rows, texts, chosen, strict=True))
    )
    after = rehidden(before)
    assert salts(after) == sent
    assert [shown(row, value, NEW) for row, value in zip(rows, values(after), strict=True)] == texts


hidden_things = st.lists(
    st.tuples(st.sampled_from(SALTED), st.binary(max_size=60), st.binary(min_size=2, max_size=2)), max_size=12
)
clear_things = st.lists(
    st.tuples(st.sampled_from([1, 4, 18, 24, 25, 33, 79, 241, 255]), st.binary(max_size=40)), max_size=6
)
keyings = st.builds(Keying, st.binary(min_size=1, max_size=40).map(SharedSecret), st.binary(min_size=16, max_size=16))


@given(hidden_things, clear_things, keyings, keyings, st.randoms(use_true_random=False))
def test_b7_any_mixture_of_hidden_values_reads_the_same_and_all_else_is_untouched(
    things: list[tuple[HiddenAttribute, bytes, bytes]],
    clear: list[tuple[int, bytes]],
    old: Keying,
    new: Keying,
    order: Random,
) -> None:
    hidden = [placed(row, hide(row, text, old, salt)) for row, text, salt in things]
    attributes = hidden + [attribute(*one) for one in clear]
    places = list(range(len(attributes)))
    order.shuffle(places)
    before = packet(*(attributes[place] for place in places))
    after = rehidden(before, old, new)
    texts = [things[place] for place in places if place < len(things)]
    assert [shown(row, value, new) for (row, _, _), value in zip(texts, values(after), strict=True)] == [
        text for _, text, _ in texts
    ]
    found = salts(after)
    assert len(set(found)) == len(found)
    assert all(salt[0] & 0x80 for salt in found)
    assert blanked(after) == blanked(before)


def blanked(searched: Packet) -> bytes:
    """A packet's bytes with the hidden ones taken out; a tag is not hidden."""
    data = bytearray(searched.data)
    for _, scheme, start, end in hidden_values(searched):
        first = start + (scheme is Scheme.TAGGED)
        data[first:end] = bytes(end - first)
    return bytes(data)


@given(st.lists(st.tuples(st.sampled_from(HANDLED), st.binary(max_size=40)), max_size=6))
def test_any_bytes_where_hidden_values_stand_are_hidden_anew_and_back_or_refused(
    things: list[tuple[HiddenAttribute, bytes]],
) -> None:
    before = packet(*(placed(row, value) for row, value in things))
    after = outcome(lambda _: rehidden(before), b"")
    if isinstance(after, str):
        assert after in {"bad_salted_length", "bad_user_password_length", "bad_ascend_secret_length"}
    else:
        assert len(after.data) == len(before.data)
        sound = rehidden(after, NEW, OLD)  # what was there, salts put right
        assert rehidden(rehidden(sound), NEW, OLD).data == sound.data
        assert blanked(sound) == blanked(before)


@given(st.lists(st.tuples(st.sampled_from([311, 529, 4846, WIMAX, 41112, 9]), st.binary(max_size=60)), max_size=6))
def test_any_bytes_of_vendors_give_a_body_of_the_same_length_or_are_refused(inside: list[tuple[int, bytes]]) -> None:
    before = packet(*(vendor_specific(vendor, value) for vendor, value in inside))
    after = outcome(lambda _: rehidden(before), b"")
    if isinstance(after, str):
        assert after in {"bad_salted_length", "bad_user_password_length", "bad_ascend_secret_length"}
    else:
        assert blanked(after) == blanked(before)


@pytest.mark.parametrize(
    ("row", "value", "reason"),
    [
        *((SEND_KEY, bytes(length), "bad_salted_length") for length in (0, 1, 2, 3, 17, 19, 33)),
        *((TUNNEL_PASSWORD, bytes(length), "bad_salted_length") for length in (0, 1, 2, 3, 4, 18, 20)),
        *((BY_NAME["MS-CHAP-MPPE-Keys"], bytes(length), "bad_user_password_length") for length in (0, 15, 24, 144)),
        *((BY_NAME["Ascend-Send-Secret"], bytes(length), "bad_ascend_secret_length") for length in (0, 17, 32)),
    ],
)
def test_a_hidden_value_of_a_length_that_its_scheme_cannot_give_is_refused(
    row: HiddenAttribute, value: bytes, reason: str
) -> None:
    assert outcome(lambda _: rehidden(packet(placed(row, value))), b"") == reason


# ------------------------------------------------------------------- what passes as it is


@pytest.mark.parametrize("row", UNHANDLED, ids=lambda row: row.name)
def test_what_is_known_and_not_handled_passes_as_it_is_and_is_counted_by_its_name(row: HiddenAttribute) -> None:
    counted, before = Counter[str](), packet(placed(row, bytes(16)), placed(row, bytes(5)))
    assert rehidden_body_untrusted(before, OLD, NEW, counted) == before.data[HEADER_BYTES:]
    assert counted == {row.name: 2}


def test_fragments_of_a_hidden_value_pass_as_they_are_and_are_counted() -> None:
    row, counted = BY_NAME["WiMAX-MSK"], Counter[str]()
    pieces = [
        vendor_specific(WIMAX, in_vendors_words(WIMAX, row.path[2], value, has_more=has_more))
        for value, has_more in ((bytes(240), True), (bytes(9), False))
    ]
    before = packet(*pieces)
    assert rehidden_body_untrusted(before, OLD, NEW, counted) == before.data[HEADER_BYTES:]
    assert counted == {"WiMAX-MSK": 2}


@pytest.mark.parametrize(
    "attributes",
    [
        vendor_specific(311, b"\x10\x01broken"),  # malformed
        vendor_specific(65000, b"\x10\xff not in any table"),  # an unknown vendor
        attribute(26, b"\0\0\1"),  # no vendor at all
        attribute(241, b"\x01abc") + attribute(245, b"\x01\x80" + bytes(40)) + attribute(245, b"\x01\x00tail"),
        attribute(246, b"") + attribute(245, b"\x01"),  # invalid attributes of RFC 6929
        attribute(200, bytes(16)),
    ],
    ids=lambda value: value.hex()[:24],
)
def test_a9_what_is_unknown_malformed_or_extended_passes_as_it_is(attributes: bytes) -> None:
    around = placed(TUNNEL_PASSWORD, hide(TUNNEL_PASSWORD, b"hidden", OLD))
    for before in (packet(attributes), packet(around, attributes), packet(attributes, around)):
        assert attributes in rehidden(before).data


def test_a10_attributes_of_one_type_keep_their_order_and_stay_together() -> None:
    before = [
        attribute(79, b"EAP one"),
        attribute(79, b"EAP two"),
        placed(TUNNEL_PASSWORD, hide(TUNNEL_PASSWORD, b"first", OLD, b"\x80\x01")),
        attribute(25, b"class one"),
        placed(TUNNEL_PASSWORD, hide(TUNNEL_PASSWORD, b"second", OLD, b"\x80\x02")),
        attribute(25, b"class two"),
    ]
    after = rehidden(packet(*before))
    assert [kind for kind, _ in after.attributes()] == [79, 79, 69, 25, 69, 25]
    assert after.every(79) + after.every(25) == [b"EAP one", b"EAP two", b"class one", b"class two"]
    assert [shown(TUNNEL_PASSWORD, value, NEW) for value in after.every(69)] == [b"first", b"second"]


@pytest.mark.parametrize("code", [1, 2, 11, 43])
def test_b4_state_and_class_are_the_same_bytes_on_the_other_side(code: int) -> None:
    # bytes that would be a hidden value, were they read as one
    state, kind = attribute(24, placed(SEND_KEY, bytes(18))), attribute(25, placed(TUNNEL_PASSWORD, bytes(19)))
    key = placed(SEND_KEY, hide(SEND_KEY, b"key", OLD))
    after = rehidden_body_untrusted(packet(state, key, kind, code=code), OLD, NEW)
    assert after[: len(state)] == state
    assert after[len(state) + len(key) :] == kind


def test_b7_in_a_change_of_authorization_sixteen_zeros_stand_for_the_authenticator() -> None:
    client, server = Keying(OLD.secret, bytes(16)), Keying(NEW.secret, bytes(16))
    row = BY_NAME["ERX-LI-Action"]
    before = packet(placed(row, pyrad_peer.salted(b"\0\0\0\1", client.secret, client.authenticator)), code=43)
    (value,) = values(rehidden(before, client, server))
    assert pyrad_peer.unsalted(value, server.secret, server.authenticator) == b"\0\0\0\1"
