from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.wire.hidden_packets import LUCENT, WIMAX, in_vendors_words, packet, placed, vendor_specific
from unit.wire.outcomes import outcome

from mfalb.wire.radius import attribute
from mfalb.wire.radius_hidden_attributes import (
    HIDDEN_ATTRIBUTES,
    Hidden,
    HiddenAttribute,
    Scheme,
    VendorAttribute,
    VendorFormat,
    hidden_values,
    vendor_attributes_untrusted,
)

BY_NAME = {row.name: row for row in HIDDEN_ATTRIBUTES}
WALKED = [row for row in HIDDEN_ATTRIBUTES if row.name != "User-Password"]
MSK = BY_NAME["WiMAX-MSK"]

VENDOR_LAYOUTS: list[tuple[VendorFormat, bytes, list[tuple[int, bytes, bool]]]] = [
    (VendorFormat(1, 1), b"", []),
    (VendorFormat(1, 1), b"\x10\x04ab\x11\x02", [(16, b"ab", False), (17, b"", False)]),
    (VendorFormat(2, 1), b"\x01\x10\x05ab\0\x11\x03", [(272, b"ab", False), (17, b"", False)]),
    (VendorFormat(2, 2), b"\x01\x10\0\x06ab\0\x11\0\x04", [(272, b"ab", False), (17, b"", False)]),
    (VendorFormat(4, 0), b"\0\x01\0\x10ab", [(65552, b"ab", False)]),
    (VendorFormat(4, 2), b"\0\x01\0\x10\0\x08ab", [(65552, b"ab", False)]),
    (VendorFormat(2, 0), b"\x01\x10ab", [(272, b"ab", False)]),
    (VendorFormat(1, 0), b"\x10ab", [(16, b"ab", False)]),
    (VendorFormat(1, 1, has_continuation=True), b"\x10\x05\x80ab\x10\x04\0c", [(16, b"ab", True), (16, b"c", False)]),
]
BROKEN_LAYOUTS: list[tuple[VendorFormat, bytes]] = [
    (VendorFormat(1, 1), b"\x10\x01"),  # shorter than its own header
    (VendorFormat(1, 1), b"\x10\x00"),
    (VendorFormat(1, 1), b"\x10\x05ab"),  # longer than its Vendor-Specific
    (VendorFormat(2, 1), b"\0\x10\x02"),
    (VendorFormat(2, 2), b"\0\x10\x01\x00ab"),
    (VendorFormat(1, 1, has_continuation=True), b"\x10\x02\x00"),
]


def read(form: VendorFormat, data: bytes) -> list[tuple[int, bytes, bool]]:
    """What stands in `data`, which is read from the middle of something longer."""
    around = b"\xff\xff" + data + b"\x10\x04ab"
    attributes: list[VendorAttribute] = vendor_attributes_untrusted(around, 2, 2 + len(data), form)
    return [(kind, around[start:end], has_more) for kind, start, end, has_more in attributes]


@pytest.mark.parametrize(("form", "data", "attributes"), VENDOR_LAYOUTS)
def test_vendors_attributes_are_read_in_the_format_of_their_vendor(
    form: VendorFormat, data: bytes, attributes: list[tuple[int, bytes, bool]]
) -> None:
    assert read(form, data) == attributes


@pytest.mark.parametrize(("form", "data"), BROKEN_LAYOUTS)
def test_vendors_attributes_that_do_not_fill_their_place_are_refused(form: VendorFormat, data: bytes) -> None:
    assert outcome(lambda given: read(form, given), data) == "bad_vendor_attribute"


@pytest.mark.parametrize(("form", "data", "attributes"), [one for one in VENDOR_LAYOUTS if one[0].length_bytes])
def test_vendors_attributes_cut_anywhere_are_refused_unless_the_cut_is_between_two(
    form: VendorFormat, data: bytes, attributes: list[tuple[int, bytes, bool]]
) -> None:
    ends, position = {0: 0}, 0
    for count, (_, value, _) in enumerate(attributes, 1):
        position += form.header_bytes + len(value)
        ends[position] = count
    for length in range(len(data)):
        expected = attributes[: ends[length]] if length in ends else "bad_vendor_attribute"
        assert outcome(lambda given: read(form, given), data[:length]) == expected


@given(
    st.builds(VendorFormat, st.sampled_from([1, 2, 4]), st.sampled_from([0, 1, 2]), has_continuation=st.booleans()),
    st.binary(max_size=249),
)
def test_any_bytes_are_vendors_attributes_that_fill_their_place_or_refused(form: VendorFormat, data: bytes) -> None:
    found = outcome(lambda given: read(form, given), data)
    if isinstance(found, str):
        assert found == "bad_vendor_attribute"
    else:
        assert sum(form.header_bytes + len(value) for _, value, _ in found) == len(data)


# ------------------------------------------------------------------------------------ the table


def test_no_place_and_no_name_stands_in_the_table_twice() -> None:
    assert len({row.path for row in HIDDEN_ATTRIBUTES}) == len(HIDDEN_ATTRIBUTES)
    assert len({row.name for row in HIDDEN_ATTRIBUTES}) == len(HIDDEN_ATTRIBUTES)


@pytest.mark.parametrize("row", WALKED, ids=lambda row: row.name)
def test_every_attribute_of_the_table_is_found_where_it_stands(row: HiddenAttribute) -> None:
    value = b"\x01\x80\x02" + bytes(range(16))
    before, hidden = attribute(1, b"alice") + attribute(2, bytes(16)), placed(row, value)
    start = 20 + len(before) + len(hidden) - len(value)
    found = hidden_values(packet(before, hidden, attribute(18, b"hello")))
    assert found == [Hidden(row.name, row.scheme, start, start + len(value))]


def test_hidden_values_are_found_in_the_order_of_their_packet() -> None:
    rows = [
        BY_NAME[name] for name in ("MS-MPPE-Recv-Key", "Tunnel-Password", "Aruba-MPSK-Passphrase", "Tunnel-Password")
    ]
    found = hidden_values(packet(*(placed(row, bytes(19)) for row in rows)))
    assert [one.name for one in found] == [row.name for row in rows]


def test_all_of_a_vendors_attributes_in_one_vendor_specific_are_found_between_clear_ones() -> None:
    inside = in_vendors_words(311, 16, bytes(18)) + b"\x07\x06\0\0\0\2" + in_vendors_words(311, 17, bytes(34))
    found = hidden_values(packet(vendor_specific(311, inside)))
    assert [(one.name, one.start, one.end) for one in found] == [
        ("MS-MPPE-Send-Key", 28, 46),
        ("MS-MPPE-Recv-Key", 54, 88),
    ]


@pytest.mark.parametrize(
    "attributes",
    [
        attribute(1, b"alice") + attribute(2, bytes(16)),  # where that is `offsets` tells
        vendor_specific(9, b"\x10\x12" + bytes(16)),  # Cisco's 16 is not Microsoft's
        vendor_specific(9, b"\x10\xff not to be read"),
        vendor_specific(311, in_vendors_words(311, 7, bytes(4))),
        vendor_specific(311, b""),
        vendor_specific(24757, in_vendors_words(WIMAX, 86, b"\x01\x06\x0a\0\0\x01")),
        attribute(241, b"\x1a\0\0\x01\x37\x10" + bytes(18)),  # extended: RFC 6929 has types of its own there
        attribute(245, b"\x05\x80" + bytes(34)),
        attribute(26, b"\0\0\x01"),
        attribute(26, b""),
    ],
    ids=lambda value: value.hex()[:24],
)
def test_nothing_hidden_is_found_where_nothing_is_hidden(attributes: bytes) -> None:
    assert hidden_values(packet(attributes)) == []


def test_a_vendor_specific_too_short_for_a_vendor_does_not_borrow_the_next_ones_bytes() -> None:
    # two bytes of a Vendor-Id, then an attribute whose type and length would make it Microsoft's
    assert hidden_values(packet(attribute(26, b"\0\0"), attribute(1, bytes(0x35)))) == []


# -------------------------------------------------------------- known, and not to be handled


@pytest.mark.parametrize("inside", [b"\x10\x01", b"\x10\x30short", b"\x10", b"\x10\x06abcd\x11"], ids=bytes.hex)
def test_an_unreadable_attribute_of_a_vendor_that_hides_is_told_of_by_the_vendors_number(inside: bytes) -> None:
    (found,) = hidden_values(packet(vendor_specific(311, inside)))
    assert (found.name, found.scheme) == ("vendor 311 (unreadable)", None)


def test_nested_attributes_that_cannot_be_read_are_told_of_as_well() -> None:
    inside = in_vendors_words(WIMAX, 86, b"\x03\x40short")
    assert [(one.name, one.scheme) for one in hidden_values(packet(vendor_specific(WIMAX, inside)))] == [
        ("vendor 24757 (unreadable)", None)
    ]


def test_lucents_types_have_two_octets_so_that_another_type_is_not_taken_for_a_secret() -> None:
    assert hidden_values(packet(vendor_specific(LUCENT, b"\x01\xd6\x13" + bytes(16)))) == []  # type 470, not 214


def fragments(*pieces: tuple[int, bool]) -> list[Scheme | None]:
    """The schemes found in WiMAX attributes of these (type, has more), one Vendor-Specific each."""
    words = [in_vendors_words(WIMAX, kind, bytes(18), has_more=has_more) for kind, has_more in pieces]
    return [one.scheme for one in hidden_values(packet(*(vendor_specific(WIMAX, one) for one in words)))]


def test_a_value_in_fragments_is_told_of_and_left_alone_to_its_last_piece() -> None:
    msk = MSK.path[2]
    assert fragments((msk, True), (msk, True), (msk, False), (msk, False)) == [None, None, None, Scheme.SALTED]


def test_a_fragment_of_another_attribute_ends_nothing_and_begins_nothing() -> None:
    msk, clear = MSK.path[2], 1
    assert fragments((clear, True), (msk, False)) == [Scheme.SALTED]
    assert fragments((clear, True), (clear, False), (msk, False)) == [Scheme.SALTED]


def test_other_vendors_between_two_fragments_do_not_end_them() -> None:
    first, last = (in_vendors_words(WIMAX, MSK.path[2], bytes(18), has_more=has_more) for has_more in (True, False))
    between = vendor_specific(9, b"\x01\x04ab") + placed(BY_NAME["MS-MPPE-Send-Key"], bytes(18))
    found = hidden_values(packet(vendor_specific(WIMAX, first), between, vendor_specific(WIMAX, last)))
    assert [(one.name, one.scheme) for one in found] == [
        ("WiMAX-MSK", None),
        ("MS-MPPE-Send-Key", Scheme.SALTED),
        ("WiMAX-MSK", None),
    ]


@given(st.lists(st.tuples(st.sampled_from([1, 2, 26, 69, 214, 245]), st.binary(max_size=60)), max_size=8))
def test_any_packet_can_be_searched_and_what_is_found_lies_within_it(attributes: list[tuple[int, bytes]]) -> None:
    searched = packet(*(attribute(kind, value) for kind, value in attributes))
    position = 20
    for _, _, start, end in hidden_values(searched):
        assert position <= start <= end <= len(searched.data)
        position = end


vendor_ids = st.sampled_from([row.path[1] for row in HIDDEN_ATTRIBUTES if len(row.path) > 1])


@given(st.lists(st.tuples(vendor_ids, st.binary(max_size=80)), min_size=1, max_size=8))
def test_any_bytes_of_a_vendor_that_hides_can_be_searched(inside: list[tuple[int, bytes]]) -> None:
    searched = packet(*(vendor_specific(vendor, value) for vendor, value in inside))
    position = 20
    for _, _, start, end in hidden_values(searched):
        assert position <= start <= end <= len(searched.data)
        position = end
