"""The table of hidden attributes against FreeRADIUS's own dictionaries, as Debian installs them."""

from __future__ import annotations

import pytest
from programs.freeradius_dictionaries import DICTIONARIES, DictionaryAttribute, radius_attributes

from mfalb.wire.radius_hidden_attributes import HIDDEN_ATTRIBUTES, VENDOR_FORMATS, Scheme, VendorFormat

TABLE = {row.path: row for row in HIDDEN_ATTRIBUTES}
NOT_HANDLED = {"X-Ascend-Send-Secret", "X-Ascend-Receive-Secret"}  # types that anybody may use for anything
NEWER_THAN_DEBIAN = {41112, 50058}  # Ubiquiti and RtBrick came to FreeRADIUS after 3.2.1

Attributes = list[DictionaryAttribute]


@pytest.fixture(scope="module")
def attributes() -> Attributes:
    return radius_attributes()


def scheme_of(attribute: DictionaryAttribute) -> Scheme | None:
    """What dictionary(5) says about `encrypt` and `has_tag`."""
    if attribute.name in NOT_HANDLED:
        return None
    match attribute.encryption, "has_tag" in attribute.flags:
        case "1", False:
            return Scheme.USER_PASSWORD
        case "2", True:
            return Scheme.TAGGED
        case "2", False:
            return Scheme.SALTED
        case "3", False:
            return Scheme.ASCEND_SECRET
    raise AssertionError(f"{attribute} is hidden in a new way")


def test_every_line_that_hides_an_attribute_is_understood(attributes: Attributes) -> None:
    lines = [
        f"{path.name} {line.split()[1]}"
        for path in DICTIONARIES.glob("dictionary.*")
        for line in path.read_text("utf-8").splitlines()
        if "encrypt=" in line.partition("#")[0]
    ]
    understood = [f"{one.file} {one.name}" for one in attributes if one.encryption is not None]
    assert sorted(understood) == sorted(lines)
    assert len(lines) > 70, "the dictionaries of FreeRADIUS 3.2.1 hide 71"


def test_b7_every_attribute_that_the_dictionaries_hide_is_in_the_table_with_its_scheme(attributes: Attributes) -> None:
    theirs = {(one.path, scheme_of(one), one.name) for one in attributes if one.encryption is not None}
    ours = {
        (row.path, row.scheme, row.name)
        for row in HIDDEN_ATTRIBUTES
        if len(row.path) == 1 or row.path[1] not in NEWER_THAN_DEBIAN
    }
    assert ours == theirs


def test_no_dictionary_has_an_attribute_in_clear_where_the_table_has_a_hidden_one(attributes: Attributes) -> None:
    assert [one for one in attributes if one.path in TABLE and one.encryption is None] == []


def test_the_headers_of_vendors_that_hide_have_the_widths_of_the_dictionaries(attributes: Attributes) -> None:
    theirs = {(one.path[1], one.vendor_format) for one in attributes if one.path in TABLE and len(one.path) > 1}
    ours = {(vendor, written(VENDOR_FORMATS.get(vendor, VendorFormat()))) for vendor, _ in theirs}
    assert ours == theirs


def written(form: VendorFormat) -> str:
    """As dictionary(5) writes it: type, length, and c for a continuation octet."""
    return f"{form.type_bytes},{form.length_bytes}" + ",c" * form.has_continuation
