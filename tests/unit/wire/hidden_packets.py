"""Packets with hidden attributes, put together by the layouts of the RFCs and not by the code under test."""

from __future__ import annotations

from mfalb.wire.radius import Packet, attribute, read_untrusted
from mfalb.wire.radius_hidden_attributes import HiddenAttribute

LUCENT, WIMAX = 4846, 24757


def vendor_specific(vendor: int, inside: bytes) -> bytes:
    """A whole Vendor-Specific attribute around a vendor's own attributes."""
    return attribute(26, vendor.to_bytes(4, "big") + inside)


def in_vendors_words(vendor: int, kind: int, value: bytes, *, has_more: bool = False) -> bytes:
    """One attribute in its vendor's format: Lucent's types have two octets, WiMAX's values a continuation octet."""
    if vendor == LUCENT:
        return b"\0" + bytes((kind, len(value) + 3)) + value
    if vendor == WIMAX:
        return bytes((kind, len(value) + 3, has_more << 7)) + value
    return bytes((kind, len(value) + 2)) + value


def placed(row: HiddenAttribute, value: bytes) -> bytes:
    """A whole attribute that holds `value` where the table's row says that it is hidden."""
    match row.path:
        case (kind,):
            return attribute(kind, value)
        case (26, vendor, kind):
            return vendor_specific(vendor, in_vendors_words(vendor, kind, value))
        case (26, vendor, kind, inner):
            nested = bytes((inner, len(value) + 2)) + value
            return vendor_specific(vendor, in_vendors_words(vendor, kind, nested))
        case _:
            raise AssertionError(f"{row.name} stands in a place of a new kind: {row.path}")


def packet(*attributes: bytes, code: int = 2, authenticator: bytes = bytes(16)) -> Packet:
    """A packet of these attributes; nobody signed it."""
    body = b"".join(attributes)
    return read_untrusted(bytes((code, 7)) + (20 + len(body)).to_bytes(2, "big") + authenticator + body)
