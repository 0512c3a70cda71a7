"""Which attributes are hidden with the shared secret, in which way, and where they stand in a packet.

    Vendor-Specific (RFC 2865 section 5.26):
    | 26 | Length | Vendor-Id (4) | type (1, 2, 4) | length (0, 1, 2) | continuation (0, 1) | value ... | repeated

The length counts its own attribute's header. Most vendors use one octet each for type and length, as the RFC suggests.
WiMAX has a continuation octet, whose first bit says that the value goes on in the next Vendor-Specific; some of its
values are attributes again (type, length, value).

The table was derived from the `encrypt=`, `has_tag` and `format=` of FreeRADIUS's dictionaries, which no other place
collects; tests/scenarios/test_radius_dictionaries.py holds it against Debian's copy of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from mfalb.errors import MalformedMessage
from mfalb.wire.radius import USER_PASSWORD, VENDOR_SPECIFIC, Packet

_VENDOR_ID_BYTES: Final = 4
_HAS_MORE: Final = 0x80  # of a continuation octet


class Scheme(Enum):
    """How a value is hidden; `radius_hidden` does it."""

    USER_PASSWORD = "User-Password"  # noqa: S105 - the name of a scheme
    SALTED = "salted"
    TAGGED = "a tag, then salted"  # RFC 2868 section 3.5: the tag octet is in clear
    ASCEND_SECRET = "Ascend-Secret"  # noqa: S105


@dataclass(frozen=True, slots=True)
class VendorFormat:
    """How many octets a vendor writes its attributes' type and length in; no length means up to the end."""

    type_bytes: int = 1
    length_bytes: int = 1
    has_continuation: bool = False

    @property
    def header_bytes(self) -> int:
        return self.type_bytes + self.length_bytes + self.has_continuation


@dataclass(frozen=True, slots=True)
class HiddenAttribute:
    """One row of the table. `path` is type, or 26, vendor, vendor's type, and the type within that where it nests.

    `scheme` is None for what is known to be hidden and not handled here.
    """

    path: tuple[int, ...]
    scheme: Scheme | None
    name: str


class Hidden(NamedTuple):
    """A hidden value found in a packet: data[start:end]. Its name is the table's; scheme None means: leave it alone."""

    name: str
    scheme: Scheme | None
    start: int
    end: int


def _rows(scheme: Scheme | None, *lines: str) -> Iterator[HiddenAttribute]:
    for path, name in (line.split() for line in lines):
        yield HiddenAttribute(tuple(int(number) for number in path.split(".")), scheme, name)


HIDDEN_ATTRIBUTES: Final[tuple[HiddenAttribute, ...]] = (
    *_rows(
        Scheme.USER_PASSWORD,
        "2                 User-Password",  # RFC 2865 section 5.2
        "26.311.12         MS-CHAP-MPPE-Keys",  # RFC 2548 section 2.4.1
    ),
    *_rows(
        Scheme.TAGGED,
        "69                Tunnel-Password",  # RFC 2868 section 3.5
        "26.2356.19        LCS-IKEv2-Local-Password",
        "26.2356.20        LCS-IKEv2-Remote-Password",
    ),
    *_rows(
        Scheme.SALTED,
        "26.161.11         Motorola-WiMAX-MIP-KEY",
        "26.311.16         MS-MPPE-Send-Key",  # RFC 2548 section 2.4.2
        "26.311.17         MS-MPPE-Recv-Key",
        "26.831.116        ALU-AAA-Key-0",
        "26.831.117        ALU-AAA-Key-1",
        "26.831.118        ALU-AAA-Key-2",
        "26.831.119        ALU-AAA-Key-3",
        "26.4874.58        ERX-LI-Action",
        "26.4874.59        ERX-Med-Dev-Handle",
        "26.4874.60        ERX-Med-Ip-Address",
        "26.4874.61        ERX-Med-Port-Number",
        "26.5535.58        3GPP2-MN-HA-Shared-Key",
        "26.6527.122       Alc-LI-Action",
        "26.6527.123       Alc-LI-Destination",
        "26.6527.124       Alc-LI-FC",
        "26.6527.125       Alc-LI-Direction",
        "26.6527.138       Alc-LI-Intercept-Id",
        "26.6527.139       Alc-LI-Session-Id",
        "26.6527.142       Alc-APN-Password",
        "26.14823.44       Aruba-MPSK-Passphrase",
        "26.24757.5        WiMAX-MSK",
        "26.24757.10       WiMAX-MN-hHA-MIP4-Key",
        "26.24757.12       WiMAX-MN-hHA-MIP6-Key",
        "26.24757.14       WiMAX-FA-RK-Key",
        "26.24757.15       WiMAX-HA-RK-Key",
        "26.24757.19       WiMAX-RRQ-MN-HA-Key",
        "26.24757.40       WiMAX-DHCP-RK",
        "26.24757.66       WiMAX-vHA-MIP4-Key",
        "26.24757.67       WiMAX-vHA-RK-Key",
        "26.24757.70       WiMAX-MN-vHA-MIP6-Key",
        "26.24757.75       WiMAX-vDHCP-RK",
        "26.24757.86.3     WiMAX-hDHCP-DHCP-RK",
        "26.24757.87.3     WiMAX-vDHCP-DHCP-RK",
        "26.24757.131      WiMAX-PMIP6-RK-Key",
        "26.26928.3        Extreme-Libsip-Patron-Info",
        # Newer than Debian 12's dictionaries: Ubiquiti's private keys per station, RtBrick's lawful interception
        "26.41112.5.2      UBNT-Tunnel-Password",
        "26.41112.5.3      UBNT-Tunnel-Password-Keyid",
        "26.41112.6        UBNT-Station-Keyid",
        "26.50058.140      RtBrick-LI-Action",
        "26.50058.141      RtBrick-LI-Identifier",
        "26.50058.142      RtBrick-LI-Direction",
        "26.50058.143      RtBrick-LI-MED-Instance",
        "26.50058.144      RtBrick-LI-MED-IP",
        "26.50058.145      RtBrick-LI-MED-Port",
    ),
    *_rows(
        Scheme.ASCEND_SECRET,
        "26.529.214        Ascend-Send-Secret",
        "26.529.215        Ascend-Receive-Secret",
        "26.4846.214       Lucent-Send-Secret",
        "26.4846.215       Lucent-Receive-Secret",
    ),
    # Old Ascend devices used these types without a right to them; others may use them for anything (RFC 2865 section
    # 5: 192 to 240 are experimental and implementation-specific), and what is not surely hidden passes untouched.
    *_rows(
        None,
        "214               X-Ascend-Send-Secret",
        "215               X-Ascend-Receive-Secret",
    ),
)

VENDOR_FORMATS: Final[Mapping[int, VendorFormat]] = {
    4846: VendorFormat(type_bytes=2),  # Lucent
    24757: VendorFormat(has_continuation=True),  # WiMAX Forum
}
"""Of the vendors in the table, those whose attributes do not have one octet of type and one of length."""

Rows = dict[int, HiddenAttribute]


@dataclass(frozen=True, slots=True, eq=False)  # one object a vendor
class Vendor:
    """A vendor that hides values: its attributes by type, and its nested ones by type within type."""

    number: int
    form: VendorFormat
    attributes: Rows = field(default_factory=dict)
    nested: dict[int, Rows] = field(default_factory=dict)

    @property
    def unreadable(self) -> str:
        """What an attribute of this vendor is called when it cannot be told whether it holds anything hidden."""
        return f"vendor {self.number} (unreadable)"


def _types(rows: Iterable[HiddenAttribute]) -> Rows:
    return {row.path[0]: row for row in rows if len(row.path) == 1}


def _vendors(rows: Iterable[HiddenAttribute]) -> dict[bytes, Vendor]:
    vendors: dict[int, Vendor] = {}
    for row in rows:
        match row.path:
            case (_, number, kind):
                _vendor(vendors, number).attributes[kind] = row
            case (_, number, kind, inner):
                _vendor(vendors, number).nested.setdefault(kind, {})[inner] = row
    return {number.to_bytes(_VENDOR_ID_BYTES, "big"): vendor for number, vendor in vendors.items()}


def _vendor(vendors: dict[int, Vendor], number: int) -> Vendor:
    return vendors.setdefault(number, Vendor(number, VENDOR_FORMATS.get(number, VendorFormat())))


_TYPES: Final = _types(row for row in HIDDEN_ATTRIBUTES if row.path != (USER_PASSWORD,))
_VENDORS: Final = _vendors(HIDDEN_ATTRIBUTES)
_WALKED: Final = frozenset((*_TYPES, VENDOR_SPECIFIC))
_IS_WALKED: Final = bytes(kind in _WALKED for kind in range(256))  # an index costs a third of asking a set

VendorAttribute = tuple[int, int, int, bool]
"""Type, start and end of the value, and whether it goes on in the next Vendor-Specific."""


def vendor_attributes_untrusted(data: bytes, start: int, end: int, form: VendorFormat) -> list[VendorAttribute]:
    """The attributes in data[start:end], what follows the Vendor-Id.

    Raises MalformedMessage when they do not fill it exactly. Vendors may write anything there (RFC 2865 section 5.26),
    so that is no reason to discard a packet.
    """
    found, position = [], start
    header, type_bytes, length_bytes = form.header_bytes, form.type_bytes, form.length_bytes
    while position < end:
        value = position + header
        if value > end:
            raise MalformedMessage("bad_vendor_attribute")
        kind = int.from_bytes(data[position : position + type_bytes], "big")
        length_at = position + type_bytes
        length = int.from_bytes(data[length_at : length_at + length_bytes], "big") if length_bytes else end - position
        if length < header or position + length > end:
            raise MalformedMessage("bad_vendor_attribute")
        position += length
        found.append((kind, value, position, form.has_continuation and data[value - 1] >= _HAS_MORE))
    return found


def hidden_values(packet: Packet) -> list[Hidden]:
    """Every hidden value in the packet, in its order, but for the User-Password: `offsets` tells where that is.

    Never raises: what cannot be read is not touched, since a proxy passes invalid attributes on (RFC 6929 section 5.2).
    """
    offsets = packet.offsets
    for kind in offsets:
        if _IS_WALKED[kind]:
            break
    else:
        return []
    data, found = packet.data, list[Hidden]()
    position = min([offsets[kind] for kind in offsets.keys() & _WALKED])
    unfinished: tuple[Vendor, int] | None = None  # the attribute whose value goes on in the next Vendor-Specific
    while position < len(data):
        kind, end = data[position], position + data[position + 1]
        if kind == VENDOR_SPECIFIC:
            start = position + 2 + _VENDOR_ID_BYTES
            vendor = _VENDORS.get(data[position + 2 : start])
            if vendor is not None and start <= end:
                unfinished = _add_vendors(found, packet, (vendor, start, end), unfinished)
        elif kind in _TYPES:
            row = _TYPES[kind]
            found.append(Hidden(row.name, row.scheme, position + 2, end))
        position = end
    return found


def _add_vendors(
    found: list[Hidden], packet: Packet, where: tuple[Vendor, int, int], unfinished: tuple[Vendor, int] | None
) -> tuple[Vendor, int] | None:
    """Adds what one Vendor-Specific hides; returns its last attribute when that goes on in the next one.

    A value in several fragments is longer than any key known to be sent (240 bytes): told of, and left alone.
    """
    vendor, start, end = where
    try:
        attributes = vendor_attributes_untrusted(packet.data, start, end, vendor.form)
    except MalformedMessage:
        found.append(Hidden(vendor.unreadable, None, start, end))
        return unfinished
    for kind, value, value_end, has_more in attributes:
        is_fragment = has_more or unfinished == (vendor, kind)
        if vendor.form.has_continuation:
            unfinished = (vendor, kind) if has_more else None
        row, inner = vendor.attributes.get(kind), vendor.nested.get(kind)
        if row is not None:
            found.append(Hidden(row.name, None if is_fragment else row.scheme, value, value_end))
        elif inner is not None:
            found += _nested(packet.data, (vendor, value, value_end), inner, is_fragment=is_fragment)
    return unfinished


def _nested(data: bytes, where: tuple[Vendor, int, int], rows: Rows, *, is_fragment: bool) -> list[Hidden]:
    vendor, start, end = where
    try:
        attributes = [] if is_fragment else vendor_attributes_untrusted(data, start, end, VendorFormat())
    except MalformedMessage:
        is_fragment = True
    if is_fragment:
        return [Hidden(vendor.unreadable, None, start, end)]
    found = []
    for kind, value, value_end, _ in attributes:
        row = rows.get(kind)
        if row is not None:
            found.append(Hidden(row.name, row.scheme, value, value_end))
    return found
