from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire.outcomes import outcome

from mfalb.wire.proxy_protocol import SIGNATURE, Endpoints, ProxyHeaderReader, ProxyVersion, own_header, proxy_header

NOBODY = None
FOUR = Endpoints(("192.0.2.1", 56_324), ("198.51.100.7", 443))
SIX = Endpoints(("2001:db8::1", 1), ("2001:db8::2", 65_535))
ADDRESSES_4 = bytes((192, 0, 2, 1, 198, 51, 100, 7)) + (56_324).to_bytes(2) + (443).to_bytes(2)
ADDRESSES_6 = bytes.fromhex("20010db8" + "00" * 11 + "01" + "20010db8" + "00" * 11 + "02") + b"\0\1\xff\xff"


def v2(command: int, kind: int, payload: bytes = b"") -> bytes:
    return SIGNATURE + bytes((command, kind)) + len(payload).to_bytes(2) + payload


GOOD: dict[str, tuple[bytes, Endpoints | None]] = {
    "v1 IPv4": (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", FOUR),
    "v1 IPv6": (b"PROXY TCP6 2001:db8::1 2001:DB8:0::2 1 65535\r\n", SIX),
    "v1 mapped": (
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6407 56324 443\r\n",
        FOUR,
    ),
    "v1 port 0": (b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n", Endpoints(("1.2.3.4", 0), ("5.6.7.8", 0))),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", NOBODY),
    "v1 unknown, the longest": (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", NOBODY),
    "v2 IPv4": (v2(0x21, 0x11, ADDRESSES_4), FOUR),
    "v2 IPv6": (v2(0x21, 0x21, ADDRESSES_6), SIX),
    "v2 with TLVs": (v2(0x21, 0x11, ADDRESSES_4 + b"\x02\x00\x03abc\x04\x00\x00"), FOUR),
    "v2 with very many TLVs": (v2(0x21, 0x11, ADDRESSES_4 + bytes(65_535 - 12)), FOUR),
    "v2 local": (v2(0x20, 0x00), NOBODY),
    "v2 local with addresses": (v2(0x20, 0x11, ADDRESSES_4), NOBODY),
    "v2 unspecified": (v2(0x21, 0x00, b"whatever"), NOBODY),
    "v2 datagrams": (v2(0x21, 0x12, ADDRESSES_4), NOBODY),
    "v2 Unix": (v2(0x21, 0x31, bytes(216)), NOBODY),
}


def read(data: bytes) -> tuple[Endpoints | None, int] | str:
    """Who is named and how many bytes were taken; "more" when it is not complete."""
    reader = ProxyHeaderReader()
    taken = reader.take_untrusted(data)
    return (reader.endpoints, taken) if reader.is_complete else "more"


def read_in_pieces(pieces: list[bytes]) -> tuple[Endpoints | None, int] | str:
    reader, taken = ProxyHeaderReader(), 0
    for number, piece in enumerate(pieces, 1):
        taken += reader.take_untrusted(piece)
        if reader.is_complete:
            assert number == len(pieces), "complete before its end"
            return reader.endpoints, taken
    return "more"


@pytest.mark.parametrize("name", GOOD)
def test_a_header_is_read_and_nothing_behind_it_is_taken(name: str) -> None:
    data, endpoints = GOOD[name]
    assert read(data) == (endpoints, len(data))
    assert read(data + b"\x16\x03\x01") == (endpoints, len(data))
    assert read(data + data) == (endpoints, len(data))


@pytest.mark.parametrize("name", [name for name in GOOD if "very many" not in name])
def test_a_header_is_read_wherever_it_is_cut_and_byte_by_byte(name: str) -> None:
    data, endpoints = GOOD[name]
    for cut in range(1, len(data)):
        assert read(data[:cut]) == "more"
        assert read_in_pieces([data[:cut], data[cut:]]) == (endpoints, len(data))
    assert read_in_pieces([data[at : at + 1] for at in range(len(data))]) == (endpoints, len(data))


BAD = {
    "TLS": b"\x16\x03\x01\x02\x00",
    "HTTP": b"GET / HTTP/1.1\r\n",
    "one wrong byte": b"X",
    "a wrong byte in the signature": b"\r\n\r\n\0\r\nQUIT\r",
    "small letters": b"proxy TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
    "a line end alone": b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n",
    "two blanks": b"PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n",
    "a blank at the end": b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n",
    "no ports": b"PROXY TCP4 192.0.2.1 198.51.100.7\r\n",
    "a port too large": b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
    "a port with a leading zero": b"PROXY TCP4 192.0.2.1 198.51.100.7 0443 443\r\n",
    "a negative port": b"PROXY TCP4 192.0.2.1 198.51.100.7 -1 443\r\n",
    "an address with leading zeros": b"PROXY TCP4 192.0.02.1 198.51.100.7 1 443\r\n",
    "IPv6 as TCP4": b"PROXY TCP4 2001:db8::1 2001:db8::2 1 443\r\n",
    "IPv4 as TCP6": b"PROXY TCP6 192.0.2.1 198.51.100.7 1 443\r\n",
    "two families": b"PROXY TCP4 192.0.2.1 2001:db8::2 1 443\r\n",
    "a scope": b"PROXY TCP6 fe80::1%eth0 fe80::2 1 443\r\n",
    "a name": b"PROXY TCP4 localhost 198.51.100.7 1 443\r\n",
    "UDP": b"PROXY UDP4 192.0.2.1 198.51.100.7 1 443\r\n",
    "unknown and more": b"PROXY UNKNOWNS\r\n",
    "a byte too long": b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    "no end": b"PROXY UNKNOWN " + b"f" * 200,
    "version 1 in binary": v2(0x11, 0x11, ADDRESSES_4),
    "version 3": v2(0x31, 0x11, ADDRESSES_4),
    "a command that nobody knows": v2(0x22, 0x11, ADDRESSES_4),
    "a family that nobody knows": v2(0x21, 0x41, ADDRESSES_4),
    "a transport that nobody knows": v2(0x21, 0x13, ADDRESSES_4),
    "too short for IPv4": v2(0x21, 0x11, ADDRESSES_4[:-1]),
    "too short for IPv6": v2(0x21, 0x21, ADDRESSES_6[:-1]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused_at_once_and_byte_by_byte(name: str) -> None:
    data = BAD[name]
    assert outcome(read, data) == "proxy_header"
    assert outcome(lambda whole: read_in_pieces([whole[at : at + 1] for at in range(len(whole))]), data) == (
        "proxy_header"
    )


def is_mapped(address: IPv4Address | IPv6Address) -> bool:
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


ENDS = st.tuples(
    st.ip_addresses().filter(lambda address: not is_mapped(address)).map(str),
    st.integers(0, 65_535),
)


@given(ENDS, ENDS, st.sampled_from(ProxyVersion), st.binary(max_size=8))
@settings(max_examples=300)
def test_what_is_written_is_read_as_the_same(
    client: tuple[str, int], server: tuple[str, int], version: ProxyVersion, rest: bytes
) -> None:
    endpoints = Endpoints(client, server)
    header = proxy_header(version, endpoints)
    assert len(header) <= 107
    assert read(header + rest) == (endpoints, len(header))


def test_headers_are_written_as_the_specification_shows_them() -> None:
    assert proxy_header(ProxyVersion.V1, FOUR) == GOOD["v1 IPv4"][0]
    assert proxy_header(ProxyVersion.V2, FOUR) == GOOD["v2 IPv4"][0]
    assert proxy_header(ProxyVersion.V2, SIX) == GOOD["v2 IPv6"][0]


def test_addresses_of_two_families_are_both_written_as_ipv6() -> None:
    mixed = Endpoints(("192.0.2.1", 5), ("2001:db8::2", 443))
    assert proxy_header(ProxyVersion.V1, mixed) == b"PROXY TCP6 ::ffff:c000:201 2001:db8::2 5 443\r\n"
    assert read(proxy_header(ProxyVersion.V2, mixed)) == (mixed, 52)


def test_the_scope_of_an_address_stays_at_home() -> None:
    local = Endpoints(("fe80::1%eth0", 5), ("fe80::2%eth0", 443))
    assert proxy_header(ProxyVersion.V1, local) == b"PROXY TCP6 fe80::1 fe80::2 5 443\r\n"
    assert len(proxy_header(ProxyVersion.V2, local)) == 52


@given(st.sampled_from(sorted(GOOD)), st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4))
@settings(max_examples=300)
def test_a_header_with_wrong_bytes_is_read_or_refused(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD[name][0])
    for at, octet in changes:
        data[at % len(data)] = octet
    found = outcome(read, bytes(data))
    assert found in ("more", "proxy_header") or isinstance(found, tuple)


@pytest.mark.parametrize("version", ProxyVersion)
def test_a_header_of_the_proxy_s_own_names_nobody(version: ProxyVersion) -> None:
    header, reader = own_header(version), ProxyHeaderReader()
    for index in range(len(header)):
        assert not reader.is_complete
        assert reader.take_untrusted(header[index : index + 1]) == 1
    assert reader.is_complete
    assert reader.endpoints is None
