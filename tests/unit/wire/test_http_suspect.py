from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire.http_streams import RequestScribe, Transcript, cut_lists, pieces

from mfalb.errors import MalformedMessage
from mfalb.wire.http import RequestReader
from mfalb.wire.http_suspect import EXCERPT_BYTES, Suspect

SECRET = b"s3cr3tVALUE"


def suspect_in(data: bytes, cuts: list[int] | None = None) -> Suspect:
    """What a reader shows of a stream that it refuses."""
    reader = RequestReader(RequestScribe(Transcript()), header_bytes=8192)
    with pytest.raises(MalformedMessage):  # noqa: PT012 - the stream may be refused at any piece
        for piece in pieces(data, cuts or []):
            reader.feed_untrusted(piece)
            reader.go_on_untrusted()
    assert reader.suspect is not None
    return reader.suspect


@pytest.mark.parametrize(
    ("data", "reason", "rest"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n", "field_name", b" : y"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", "control_byte", b"\0b"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\nb: c\r\n\r\n", "bare_lf", b"\nb: c"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n", "content_length", b"+5"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n X: y\r\n\r\n", "obs_fold", b" X: y"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX_Y: y\r\n\r\n", "underscore_in_field_name", b"_Y: y"),
        (b"get / HTTP/1.1\r\nHost: h\r\n\r\n", "method", b"get /"),
        (b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", "fragment", b"#b"),
    ],
)
def test_the_position_is_where_the_fault_is(data: bytes, reason: str, rest: bytes) -> None:
    suspect = suspect_in(data)
    assert suspect.reason == reason
    assert suspect.excerpt[suspect.position :].startswith(rest)


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Basic %b", b"authorization:%b", b"PROXY-AUTHORIZATION: %b", b"Cookie: a=%b; b=c", b"cookie %b",
        b"Cookie: a=b\r\n\t%b", b"Set-Cookie: %b", b"X-Api-Key: %b", b"X-Auth-Token: %b", b"X-Otp: %b",
        b"x-user-pin: %b",
        b"Cookie: a\r%b",
    ],
)  # fmt: skip
def test_what_fields_hold_that_are_for_secrets_is_masked_and_no_length_changes(line: bytes) -> None:
    data = b"GET / HTTP/1.1\r\nHost: h\r\n" + line % SECRET + b"\r\nBad Name: x\r\n\r\n"
    suspect = suspect_in(data)
    assert SECRET not in suspect.excerpt
    assert len(suspect.excerpt) == len(data)


def test_the_query_of_a_target_is_masked() -> None:
    assert SECRET not in suspect_in(b"GET /a?pin=" + SECRET + b" HTTP/1.1\r\nHost: h\r\nX\r\n\r\n").excerpt


@given(
    st.sampled_from(
        (b"b\r\n%b\r\n1\n", b"b\r\n%b\r\ng\r\n", b"2\r\n%b\r\n", b"%b\r\n", b"0\r\n%b\r\n", b"1\r\na\r\n%b\n")
    ),
    cut_lists,
)
@settings(max_examples=100)
def test_no_text_of_a_body_is_ever_shown(body: bytes, cuts: list[int]) -> None:
    start = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    shown = suspect_in(start + body % SECRET, cuts).excerpt
    assert not any(SECRET[at : at + 2] in shown for at in range(len(SECRET) - 1))


@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n", b"\r\n\n"])
def test_behind_a_head_that_ends_in_bare_line_feeds_nothing_is_shown(end: bytes) -> None:
    data = b"POST / HTTP/1.1\nHost: h\nContent-Length: 35" + end + SECRET + b"\r\n\r\n"
    assert SECRET not in suspect_in(data).excerpt


def test_a_large_message_is_shown_around_its_fault_only() -> None:
    head = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"X%d: %b\r\n" % (n, b"y" * 50) for n in range(90))
    suspect = suspect_in(head + b"Bad Name: x\r\n\r\n")
    assert len(suspect.excerpt) <= EXCERPT_BYTES
    assert suspect.cut_bytes + suspect.position == len(head) + 3
    assert suspect.excerpt[suspect.position :].startswith(b" Name: x")
