import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire.http_streams import ResponseScribe, Transcript, cut_lists, every_cut, pieces, read_responses, streams

from mfalb.wire.http import ResponseReader
from mfalb.wire.http_bodies import LAST_CHUNK, chunk
from mfalb.wire.http_fields import RESPONSE_SPECIAL, FieldReader, Framing
from mfalb.wire.http_heads import response_head_untrusted


def response(fields: bytes = b"", body: bytes = b"", *, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return line + b"\r\n" + fields + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"
ONE = response(b"Content-Length: 1\r\n", b"1")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# (method asked, bytes, first line as understood, framing, keep-alive, body); all of them end by themselves
ENDED: list[tuple[bytes, bytes, str, Framing, bool, bytes]] = [
    (b"GET", response(b"Content-Length: 2\r\n", b"ab"), "200 OK", Framing.LENGTH, True, b"ab"),
    (b"GET", response(b"Content-Length: 2 \r\n", b"ab"), "200 OK", Framing.LENGTH, True, b"ab"),
    (b"GET", response(b"Content-Length: 0\r\n"), "200 OK", Framing.NONE, True, b""),
    (b"GET", response(CHUNKED, b"2\r\nab\r\n0\r\n\r\n"), "200 OK", Framing.CHUNKED, True, b"ab"),
    (b"GET", response(CHUNKED, b"2\r\nab\r\n0\r\nSet-Cookie: x\r\n\r\n"), "200 OK", Framing.CHUNKED, True, b"ab"),
    (b"GET", response(b"Connection: close\r\n" + CHUNKED, b"0\r\n\r\n"), "200 OK", Framing.CHUNKED, False, b""),
    (b"GET", response(line=b"HTTP/1.1 204 Nothing"), "204 Nothing", Framing.NONE, True, b""),
    (b"GET", response(b"Content-Length: 9\r\n", line=b"HTTP/1.1 304 Old"), "304 Old", Framing.NONE, True, b""),
    (b"GET", response(CHUNKED, line=b"HTTP/1.1 304 Old"), "304 Old", Framing.NONE, True, b""),
    (b"HEAD", response(b"Content-Length: 9\r\n"), "200 OK", Framing.LENGTH, True, b""),
    (b"HEAD", response(CHUNKED), "200 OK", Framing.CHUNKED, True, b""),
    (b"HEAD", response(), "200 OK", Framing.CLOSE, False, b""),
    (b"HEAD", response(b"Content-Length: 0\r\n"), "200 OK", Framing.NONE, True, b""),
    (b"HEAD", response(line=b"HTTP/1.1 304 Old"), "304 Old", Framing.NONE, True, b""),
    (b"GET", response(b"Content-Length: 0\r\n", line=b"HTTP/1.1 404"), "404 ", Framing.NONE, True, b""),
    (b"GET", response(b"Content-Length: 0\r\n", line=b"HTTP/1.1 200 \xe9\t"), "200 é\t", Framing.NONE, True, b""),
    (b"GET", response(b"Content-Length: 0\r\n", line=b"HTTP/1.1 999 So"), "999 So", Framing.NONE, True, b""),
    (b"GET", response(b"Content-Length: 1\r\n", b"a", line=b"HTTP/1.0 200 OK"), "200 OK", Framing.LENGTH, False, b"a"),
    (
        b"GET",
        response(b"Connection: keep-alive\r\nContent-Length: 1\r\n", b"a", line=b"HTTP/1.0 200 OK"),
        "200 OK", Framing.LENGTH, True, b"a",
    ),
    (
        b"GET",
        response(b"Connection: keep-alive\r\n" + CHUNKED, b"0\r\n\r\n", line=b"HTTP/1.0 200 OK"),
        "200 OK", Framing.CHUNKED, False, b"",  # RFC 9112 section 6.1: no HTTP/1.0 server means that
    ),
    (
        b"GET",
        response(b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n", b"a"),
        "200 OK", Framing.LENGTH, True, b"a",
    ),
]  # fmt: skip

REFUSED: list[tuple[bytes, bytes, str]] = [
    (b"GET", response(CHUNKED + b"Content-Length: 1\r\n", b"0\r\n\r\n"), "length_and_chunked"),
    (b"GET", response(b"Content-Length: 1\r\n" + CHUNKED, b"0\r\n\r\n"), "length_and_chunked"),
    (b"GET", response(b"Content-Length: 1\r\nContent-Length: 1\r\n", b"a"), "repeated_content_length"),
    (b"GET", response(b"Content-Length: -1\r\n", b"a"), "content_length"),
    (b"GET", response(b"Content-Length: 0000000000000000001\r\n", b"a"), "content_length"),
    (b"GET", response(CHUNKED + CHUNKED, b"0\r\n\r\n"), "repeated_transfer_encoding"),
    (b"GET", response(b"Transfer-Encoding: gzip\r\n", b"abc"), "transfer_encoding"),
    (b"GET", response(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), "transfer_encoding"),
    (b"GET", response(b"Transfer-Encoding: ,chunked\r\n", b"0\r\n\r\n"), "transfer_encoding"),
    (b"GET", response(b"Transfer-Encoding: identity\r\n", b"abc"), "transfer_encoding"),
    (b"GET", response(CHUNKED, b"0x1\r\na\r\n0\r\n\r\n"), "chunk_size"),
    (b"GET", response(b"Connection: upgrade\r\nUpgrade: websocket\r\n", line=b"HTTP/1.1 101 Go"), "unexpected_upgrade"),
    (b"GET", response(line=b"HTTP/1.1 101 Go"), "unexpected_upgrade"),
    (b"GET", response(line=b"HTTP/1.1 099 Odd"), "status_line"),
    (b"GET", response(line=b"HTTP/1.1 000 Odd"), "status_line"),
    (b"GET", response(line=b"HTTP/1.1 99 Odd"), "status_line"),
    (b"GET", response(line=b"HTTP/1.1 1000 Odd"), "status_line"),
    (b"GET", response(line=b"HTTP/1.1 200 a\0b"), "status_line"),
    (b"GET", response(line=b"HTTP/1.1 200 a\x1bb"), "status_line"),
    (b"GET", response(line=b"HTTP/1.1 200 a\rb"), "status_line"),
    (b"GET", response(line=b"HTTP/2.0 200 OK"), "http_version"),
    (b"GET", response(line=b"HTTP/0.9 200 OK"), "http_version"),
    (b"GET", response(b"X: a\r\n b\r\n"), "obs_fold"),
    (b"GET", response(b"X : a\r\n"), "field_name"),
    (b"GET", response(b"X: a\0\r\n"), "control_byte"),
    (b"GET", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "status_line"),
    (b"GET", b"SSH-2.0-OpenSSH\r\n", "status_line"),
]


@pytest.mark.parametrize(("method", "data", "first", "framing", "is_keep_alive", "body"), ENDED)
def test_a_response_is_understood_however_it_is_cut(  # noqa: PLR0913 - the columns of the table
    method: bytes, data: bytes, first: str, framing: Framing, body: bytes, *, is_keep_alive: bool
) -> None:
    for cuts in every_cut(data):
        read = read_responses(data, cuts, methods=(method,))
        assert read.fault == ""
        (told,) = read.messages
        assert (told.first, told.framing, told.is_keep_alive, told.body) == (first, framing, is_keep_alive, body)
        assert told.is_ended


@pytest.mark.parametrize(
    ("method", "data"), [(method, data) for method, data, _, _, is_keep_alive, _ in ENDED if is_keep_alive]
)
def test_the_next_response_on_the_connection_is_read_for_the_next_request(method: bytes, data: bytes) -> None:
    read = read_responses(data + ONE, (len(data),), methods=(method, b"GET"))
    assert (read.firsts[1:], read.messages[1].body, read.fault) == (["200 OK"], b"1", "")


@pytest.mark.parametrize(("method", "data"), [(method, data) for method, data, *_ in ENDED])
def test_what_nobody_asked_for_is_refused(method: bytes, data: bytes) -> None:
    for extra in (ONE, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"2\r\nab\r\n", b"x"):
        read = read_responses(data + extra, methods=(method,))
        assert read.fault in ("unexpected_response", "http_syntax")
        assert len(read.messages) == 1


@pytest.mark.parametrize(("method", "data", "reason"), REFUSED)
def test_what_is_no_plain_response_is_refused_however_it_is_cut(method: bytes, data: bytes, reason: str) -> None:
    for cuts in every_cut(data):
        read = read_responses(data, cuts, methods=(method,))
        assert read.fault == reason
        assert not any(told.is_ended for told in read.messages)


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"])
def test_a_body_without_length_lasts_until_the_connection_is_closed(line: bytes) -> None:
    data = response(b"Connection: keep-alive\r\n", b"HTTP/1.1 200 OK\r\n\r\n", line=line)
    for cuts in every_cut(data):
        (told,) = read_responses(data, cuts).messages
        assert (told.framing, told.is_keep_alive, told.is_ended) == (Framing.CLOSE, False, False)
        assert told.body == b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "is_by_close"),
    [
        (response(), True),
        (response(b"", b"abc"), True),
        (b"", False),
        (b"HTTP/1.1 200 OK\r\n", False),
        (CONTINUE, False),
        (response(b"Content-Length: 2\r\n", b"a"), False),
        (response(CHUNKED, b"1\r\na\r\n"), False),
        (ONE, False),
    ],
)
def test_only_a_body_without_length_is_ended_by_closing(data: bytes, *, is_by_close: bool) -> None:
    reader = ResponseReader(ResponseScribe(Transcript()))
    reader.expect(b"GET")
    for piece in pieces(data, ()):
        reader.feed_untrusted(piece)
    assert reader.is_ended_by_close() is is_by_close


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_interim_responses_come_before_the_real_one_and_have_no_end(method: bytes) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 5\r\n\r\n"
    final = response(b"Content-Length: 1\r\n", b"1" if method == b"GET" else b"")
    data = CONTINUE + early + final
    for cuts in ((), range(1, len(data)), (len(CONTINUE),), (len(CONTINUE) + len(early),)):
        read = read_responses(data, cuts, methods=(method,))
        assert read.firsts == ["100 Continue", "103 Early Hints", "200 OK"]
        assert [told.is_ended for told in read.messages] == [False, False, True]
        assert [told.framing for told in read.messages] == [Framing.NONE, Framing.NONE, Framing.LENGTH]


def test_fields_for_the_next_hop_only_stay_behind() -> None:
    fields = (
        b"Connection: X-A\r\nKeep-Alive: 5\r\nX-A: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX_Any: c\r\nUpgrade: h2\r\n"
    )
    (told,) = read_responses(response(fields + b"Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n")).messages
    assert told.lines == (b"Set-Cookie: a\r\n", b"Set-Cookie: b\r\n", b"X_Any: c\r\n")


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), cut_lists)
@settings(max_examples=100)
def test_a_body_that_is_sent_in_chunks_is_read_as_it_was(parts: list[bytes], cuts: list[int]) -> None:
    data = response(CHUNKED, b"".join(chunk(part) for part in parts) + LAST_CHUNK)
    (told,) = read_responses(data, cuts).messages
    assert (told.body, told.is_ended) == (b"".join(parts), True)


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        (b"X: y\r\nContent-Type: application/json\r\n", b"application/json"),
        (b"content-type:\tapplication/json \r\nContent-Type: text/html\r\n", b"application/json"),
        (b"Content-Type-Hint: text/html\r\n", b""),
    ],
)
def test_a_field_that_only_passes_through_can_be_asked_for(fields: bytes, value: bytes) -> None:
    lines = (b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Encoding: br").split(b"\r\n")
    head = response_head_untrusted(lines, FieldReader(RESPONSE_SPECIAL, is_for_requests=False), {})
    assert (head.field(b"content-type"), head.field(b"content-encoding")) == (value, b"br")


FRAGMENTS = (
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 No\r\n", CONTINUE, b"Content-Length: 3\r\n", CHUNKED,
    b"Connection: close\r\n", b"X: y\r\n", b"\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", ONE,
    response(b"Content-Length: 3\r\n"), response(CHUNKED),
)  # fmt: skip


@given(streams(*FRAGMENTS), cut_lists, st.sampled_from((b"GET", b"HEAD")))
@settings(max_examples=200)
def test_what_is_told_does_not_depend_on_the_cuts(data: bytes, cuts: list[int], method: bytes) -> None:
    assert read_responses(data, cuts, methods=(method,)) == read_responses(data, methods=(method,))


@given(st.binary(max_size=300), cut_lists)
@settings(max_examples=100)
def test_any_bytes_are_read_or_malformed_and_nothing_else(data: bytes, cuts: list[int]) -> None:
    assert read_responses(data, cuts) == read_responses(data)
