from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire.client_hellos import (
    GREASE,
    body,
    from_openssl,
    hello_records,
    message,
    name_list,
    records,
    sni,
    vector,
)
from unit.wire.outcomes import outcome

from mfalb.errors import MalformedMessage
from mfalb.wire.tls_client_hello import HELLO_LIMIT_BYTES, ClientHello, ClientHelloReader

NAME = "adfs.contoso.com"
ALPN = (16, vector(vector(b"h2", 1) + vector(b"http/1.1", 1)))
ECH = (0xFE0D, bytes(200))


def padded_to(size: int) -> bytes:
    """A hello whose body has this size."""
    name = sni(NAME.encode())
    return hello_records(name, (21, bytes(size - len(body(name)) - 4)))


def read(data: bytes) -> ClientHello | None:
    return ClientHelloReader().feed_untrusted(data)


def read_in_pieces(pieces: list[bytes]) -> ClientHello | None:
    """What comes of it; nothing may come before the last piece, and everything is kept as it came."""
    reader = ClientHelloReader()
    for number, piece in enumerate(pieces, 1):
        hello = reader.feed_untrusted(piece)
        if hello is not None:
            assert number == len(pieces), "complete before its end"
            assert bytes(reader.raw) == b"".join(pieces)
            return hello
    return None


HELLOS: dict[str, tuple[bytes, ClientHello]] = {
    "openssl": (from_openssl(NAME), ClientHello(NAME)),
    "openssl with ALPN": (from_openssl(NAME, protocols=["h2", "http/1.1"]), ClientHello(NAME, (b"h2", b"http/1.1"))),
    "openssl, TLS 1.2": (from_openssl(NAME, newest="TLSv1_2"), ClientHello(NAME)),
    "openssl without a name": (from_openssl(None), ClientHello("")),
    "openssl towards an address": (from_openssl("10.0.1.11"), ClientHello("")),
    "no extensions at all": (hello_records(), ClientHello("")),
    "GREASE around": (hello_records(GREASE, sni(NAME.encode()), (0xFAFA, b"\0")), ClientHello(NAME)),
    "ECH: the outer name": (hello_records(sni(b"public.example"), ECH), ClientHello("public.example", (), True)),
    "capitals and a dot": (hello_records(sni(b"ADFS.Contoso.com.")), ClientHello(NAME)),
    "a kind of name that nobody knows": (
        hello_records((0, name_list((7, b"\xff"), (0, NAME.encode())))),
        ClientHello(NAME),
    ),
    "records of one byte": (hello_records(ALPN, sni(NAME.encode()), size=1), ClientHello(NAME, (b"h2", b"http/1.1"))),
    "records of 7 bytes": (hello_records(sni(NAME.encode()), size=7), ClientHello(NAME)),
    "as large as may be": (padded_to(HELLO_LIMIT_BYTES), ClientHello(NAME)),
}


@pytest.mark.parametrize("name", HELLOS)
def test_a_hello_is_read_whole(name: str) -> None:
    data, hello = HELLOS[name]
    assert read(data) == hello


@pytest.mark.parametrize("name", [name for name in HELLOS if name != "as large as may be"])
def test_a_hello_is_read_wherever_it_is_cut_in_two_and_byte_by_byte(name: str) -> None:
    data, hello = HELLOS[name]
    for cut in range(1, len(data)):
        assert read_in_pieces([data[:cut], data[cut:]]) == hello
    assert read_in_pieces([data[at : at + 1] for at in range(len(data))]) == hello


@given(name=st.sampled_from(sorted(HELLOS)), cuts=st.lists(st.integers(0, 1 << 15), max_size=12))
@settings(max_examples=150)
def test_a_hello_is_read_in_any_pieces(name: str, cuts: list[int]) -> None:
    data, hello = HELLOS[name]
    at = sorted({0, *(cut % len(data) for cut in cuts)})
    pieces = [data[start:end] for start, end in zip(at, [*at[1:], len(data)], strict=True)]
    assert read_in_pieces(pieces) == hello


def test_what_follows_a_hello_in_the_same_read_is_kept_and_not_looked_at() -> None:
    reader = ClientHelloReader()
    data = hello_records(sni(NAME.encode())) + b"early data" * 20_000
    assert reader.feed_untrusted(data) == ClientHello(NAME)
    assert bytes(reader.raw) == data


BAD: dict[str, tuple[bytes, str]] = {
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", "not_tls"),
    "one byte of something else": (b"S", "not_tls"),
    "SSL 2": (b"\x80\x2e\x01\x00\x02", "not_tls"),
    "an alert": (b"\x15\x03\x01\x00\x02\x02\x28", "not_tls"),
    "a record of a later age": (b"\x16\x04\x00\x00\x05hello", "not_tls"),
    "an empty record": (b"\x16\x03\x01\x00\x00", "not_tls"),
    "a record that is too long": (b"\x16\x03\x01\x40\x01", "not_tls"),
    "another handshake message": (records(b"\x02" + vector(body(), 3)), "tls_hello"),
    "another record in between": (hello_records(sni(b"a"), size=20)[:25] + b"\x17\x03\x03\x00\x01a", "tls_hello"),
    "an empty record in between": (hello_records(sni(b"a"), size=20)[:25] + b"\x16\x03\x03\x00\x00", "tls_hello"),
    "a hello that is too large": (records(b"\x01\x00\x40\x01"), "hello_size"),
    "a byte more than may be": (padded_to(HELLO_LIMIT_BYTES + 1), "hello_size"),
    "a hello of 16 MB": (records(b"\x01\xff\xff\xff"), "hello_size"),
    "a version of a later age": (records(message(body(version=b"\x04\x00"))), "tls_hello"),
    "a name twice": (hello_records(sni(b"a"), sni(b"b")), "tls_hello"),
    "two names in one": (hello_records((0, name_list((0, b"a"), (0, b"b")))), "tls_hello"),
    "an empty name": (hello_records(sni(b"")), "tls_hello"),
    "a name with a zero": (hello_records(sni(b"adfs.contoso.com\0.evil")), "tls_hello"),
    "a name with a line end": (hello_records(sni(b"a\r\nb")), "tls_hello"),
    "a name with a letter beyond ASCII": (hello_records(sni("ä.de".encode())), "tls_hello"),
    "a name that is too long": (hello_records(sni(b"a" * 256)), "tls_hello"),
    "bytes behind the names": (hello_records((0, name_list((0, b"a")) + b"x")), "tls_hello"),
    "bytes behind the extensions": (records(message(body(GREASE) + b"x")), "tls_hello"),
    "an extension beyond the end": (records(message(body() + vector(b"\x00\x00\x00\x09a"))), "tls_hello"),
    "no suites": (records(message(b"\x03\x03" + bytes(32))), "tls_hello"),
    "nothing": (records(message(b"")), "tls_hello"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_hello_is_refused_by_its_reason(name: str) -> None:
    data, reason = BAD[name]
    assert outcome(read, data) == reason


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_hello_is_refused_byte_by_byte_for_the_same_reason(name: str) -> None:
    data, reason = BAD[name]
    assert outcome(lambda whole: read_in_pieces([whole[at : at + 1] for at in range(len(whole))]), data) == reason


@pytest.mark.parametrize("name", HELLOS)
def test_every_shorter_body_is_incomplete_or_refused(name: str) -> None:
    data, _ = HELLOS[name]
    for cut in range(0, len(data), 1 + len(data) // 400):
        assert read(data[:cut]) is None


def feed_all(reader: ClientHelloReader, pieces: list[bytes]) -> None:
    for piece in pieces:
        reader.feed_untrusted(piece)


def test_a_hello_in_records_so_small_that_their_headers_outweigh_it_is_refused_at_a_limit() -> None:
    reader = ClientHelloReader()
    flood = records(message(body((21, bytes(HELLO_LIMIT_BYTES - 200)))), 1)
    with pytest.raises(MalformedMessage, match="hello_size"):
        feed_all(reader, [flood[at : at + 100] for at in range(0, len(flood), 100)])
    assert len(reader.raw) <= 2 * HELLO_LIMIT_BYTES + 100


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=300)
def test_any_bytes_are_a_hello_or_incomplete_or_malformed(data: bytes, is_framed: bool) -> None:
    found = outcome(read, records(message(data)) if is_framed else data)
    assert found is None or isinstance(found, ClientHello | str)


@given(st.sampled_from(sorted(HELLOS)), st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), max_size=6))
@settings(max_examples=300)
def test_a_hello_with_wrong_bytes_gives_a_clean_name_or_is_refused(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(HELLOS[name][0])
    for at, octet in changes:
        data[at % len(data)] = octet
    found = outcome(read, bytes(data))
    if isinstance(found, ClientHello):
        assert found.server_name == found.server_name.lower()
        assert found.server_name.isprintable()
        assert len(found.server_name) <= 255
