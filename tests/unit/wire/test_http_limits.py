"""Limits hold however a head is cut, and however long the stream is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire.http_streams import RequestScribe, ResponseScribe, Transcript, read_requests, read_responses

from mfalb.errors import MalformedMessage
from mfalb.wire.http import RESPONSE_HEAD_LIMIT_BYTES, RequestReader, ResponseReader

LIMIT_BYTES = 500
SMALL = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def head_of(size: int, *, in_target: bool) -> bytes:
    """A request head of exactly this many bytes, filled up in its target or in a field."""
    before, after = (
        (b"GET /", b" HTTP/1.1\r\nHost:h\r\n\r\n") if in_target else (b"GET / HTTP/1.1\r\nHost:h\r\nX:", b"\r\n\r\n")
    )
    return before + b"a" * (size - len(before) - len(after)) + after


def many_fields(count: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"X%d: y\r\n" % index for index in range(count - 1)) + b"\r\n"


def cut_in(data: bytes, step: int) -> range:
    return range(step, len(data), step)


@pytest.mark.parametrize("in_target", [True, False])
@pytest.mark.parametrize("step", [1, 7, 250, 499, 500, 501, 10_000])
@pytest.mark.parametrize(("excess", "fault"), [(0, ""), (1, "header_bytes"), (400, "header_bytes")])
def test_a_head_may_be_as_large_as_the_limit_and_no_larger(
    step: int, excess: int, fault: str, *, in_target: bool
) -> None:
    data = head_of(LIMIT_BYTES + excess, in_target=in_target)
    read = read_requests(data, cut_in(data, step), header_bytes=LIMIT_BYTES)
    assert (read.fault, len(read.messages)) == (fault, 0 if fault else 1)


@given(
    st.integers(0, 3000), st.integers(LIMIT_BYTES - 40, LIMIT_BYTES + 40), st.lists(st.integers(1, 4000), max_size=6)
)
@settings(max_examples=150)
def test_what_stands_before_a_head_does_not_count_against_it(body: int, size: int, cuts: list[int]) -> None:
    before = b"POST / HTTP/1.1\r\nHost:h\r\nContent-Length:%d\r\n\r\n" % body + b"b" * body
    read = read_requests(before + head_of(size, in_target=True), cuts, header_bytes=LIMIT_BYTES)
    assert read.fault == ("header_bytes" if size > LIMIT_BYTES else "")
    assert len(read.messages) == (1 if size > LIMIT_BYTES else 2)


@pytest.mark.parametrize("step", [1, 100, 10_000])
@pytest.mark.parametrize(("count", "fault"), [(10, ""), (11, "header_count")])
def test_a_head_may_have_as_many_fields_as_the_limit_and_no_more(step: int, count: int, fault: str) -> None:
    data = many_fields(count)
    assert read_requests(data, cut_in(data, step), header_count=10).fault == fault


def test_many_small_heads_in_one_read_are_each_within_the_limit() -> None:
    read = read_requests(SMALL * 200, header_bytes=100)
    assert (read.fault, len(read.messages)) == ("", 200)


def test_a_large_body_has_no_limit_here() -> None:
    size = 100 * LIMIT_BYTES
    for framing, body in (
        (b"Content-Length: %d" % size, b"b" * size),
        (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"b" * size)),
    ):
        data = b"POST / HTTP/1.1\r\nHost: h\r\n" + framing + b"\r\n\r\n" + body
        for step in (50, 3000, len(data)):
            read = read_requests(data + SMALL, cut_in(data, step), header_bytes=LIMIT_BYTES)
            assert (read.fault, len(read.messages), len(read.messages[0].body)) == ("", 2, size)


def fed_until_refused(reader: RequestReader | ResponseReader, piece: bytes) -> int:
    """How many bytes the reader took of an endless stream of this piece."""
    for count in range(1000):
        try:
            reader.feed_untrusted(piece)
        except MalformedMessage as error:
            assert error.reason in ("header_bytes", "chunk_overhead", "header_count")  # noqa: PT017 - the count is what is asked for
            return count * len(piece)
    raise AssertionError("the reader takes an endless stream")


START = b"POST / HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize(
    ("start", "endless"),
    [
        (START, b"X: y\r\n"),
        (START + b"X: ", b"yyyyyy"),
        (b"GET /", b"a" * 6),
        (START + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
        (START + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"yyyyyy"),
        (START + b"Transfer-Encoding: chunked\r\n\r\n1;x=", b"yyyyyy"),
        (b"", b"\r\n\r\n\r\n"),
    ],
)
def test_an_endless_head_trailer_or_extension_is_given_up(start: bytes, endless: bytes) -> None:
    reader = RequestReader(RequestScribe(Transcript()), header_bytes=LIMIT_BYTES, header_count=1000)
    reader.feed_untrusted(start)
    assert fed_until_refused(reader, endless) <= LIMIT_BYTES


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
)
def test_a_backend_with_an_endless_head_or_trailer_is_given_up(start: bytes) -> None:
    reader = ResponseReader(ResponseScribe(Transcript()))
    reader.expect(b"GET")
    reader.feed_untrusted(start)
    assert fed_until_refused(reader, b"y" * 65_536) <= RESPONSE_HEAD_LIMIT_BYTES


def test_a_backend_may_send_a_large_head_and_a_larger_body() -> None:
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: %b\r\n" % (index, b"y" * 1000) for index in range(200))
    size = 3 * RESPONSE_HEAD_LIMIT_BYTES
    data = head + b"Content-Length: %d\r\n\r\n" % size + b"b" * size
    (told,) = read_responses(data, cut_in(data, 65_536)).messages
    assert (len(told.lines), len(told.body), told.is_ended) == (200, size, True)
