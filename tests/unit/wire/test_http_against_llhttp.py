"""Our reader beside llhttp (strict): what ours takes, llhttp takes with the same meaning.

The other way round it need not hold: ours refuses more. Named exceptions: methods that llhttp does not know, and what
stands behind an upgrade request, which llhttp leaves to its caller.
"""

from __future__ import annotations

from contextlib import suppress

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.wire.http_streams import Transcript, cut_lists, pieces, read_requests, read_responses
from unit.wire.test_http_requests import ACCEPTED

Message = tuple[bytes, bytes, bytes]


class LlhttpRequests:
    """The messages of a stream that ended: method, target and body."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._target = self._body = b""
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.messages.append((self.parser.get_method(), self._target, self._body))


class LlhttpResponse:
    """The bodies of those that ended."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._body = b""
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.bodies.append(self._body)


def ended(transcript: Transcript) -> list[Message]:
    found = [message for message in transcript.messages if message.is_ended]
    parts = [(message.first.encode("latin-1").split(b" "), message.body) for message in found]
    return [(words[0], words[1], body) for words, body in parts]


KNOWN_METHODS = {b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS"}  # to both
LINES = (
    b"Host: h\r\n",
    b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content-Length:3\r\n", b"content-length: 03\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: Chunked\r\n", b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n", b"Connection: close\r\n", b"X: y\r\n",
    b"Connection: keep-alive\r\n", b"X: \xff\r\n", b"X:\r\n", b" folded\r\n", b"X: a\nb\r\n", b"X y\r\n",
)  # fmt: skip
BODIES = (
    b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n", b"0\r\n\r\n",
    b"03\r\nabc\r\n00\r\n\r\n",
    b"3\nabc\r\n0\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabcX\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n\n", b"1\r\na\r\n2\r\nbc\r\n0\r\nA: b\r\nC: d\r\n\r\n",
)  # fmt: skip
STARTS = (
    b"GET / HTTP/1.1\r\n",
    b"POST /a HTTP/1.1\r\n",
    b"GET /b?c HTTP/1.0\r\n",
    b"HEAD / HTTP/1.1\r\n",
    b"PUT /x HTTP/1.1\r\n",
)
messages = st.builds(
    lambda start, lines, body: start + b"".join(lines) + b"\r\n" + body,
    st.sampled_from(STARTS),
    st.lists(st.sampled_from(LINES), max_size=4).map(lambda lines: [b"Host: h\r\n", *lines]),
    st.sampled_from(BODIES),
)


@given(st.lists(messages, min_size=1, max_size=3).map(b"".join), cut_lists)
@settings(max_examples=400)
@example(
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", []
)
@example(
    b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nPOST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
    [],
)
def test_the_requests_that_ours_finds_are_those_that_llhttp_finds(data: bytes, cuts: list[int]) -> None:
    transcript = read_requests(data, cuts)
    ours = ended(transcript)
    if transcript.fault or not {method for method, *_ in ours} <= KNOWN_METHODS:
        return
    theirs = LlhttpRequests()
    behind_the_last = not all(message.is_keep_alive for message in transcript.messages)
    try:
        for piece in pieces(data, cuts):
            theirs.parser.feed_data(piece)
    except httptools.HttpParserInvalidMethodError:
        pass  # llhttp has a list of them; what it refused for that is missing below, unless ours did not find it either
    except httptools.HttpParserError:
        assert behind_the_last, "llhttp refuses what ours takes"
    assert theirs.messages[: len(ours)] == ours
    assert len(theirs.messages) == len(ours)


@pytest.mark.parametrize("data", [data for data, first, *_ in ACCEPTED if first.split()[0].encode() in KNOWN_METHODS])
def test_the_table_of_what_ours_takes_means_the_same_to_llhttp(data: bytes) -> None:
    theirs = LlhttpRequests()
    with suppress(httptools.HttpParserUpgrade):
        theirs.parser.feed_data(data)
    ours = ended(read_requests(data))
    assert [(method, body) for method, _, body in theirs.messages] == [(method, body) for method, _, body in ours]


ANSWER_STARTS = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 404 \r\n",
    b"HTTP/1.1 204 No\r\n",
    b"HTTP/1.1 304 Old\r\n",
)
answers = st.builds(
    lambda start, lines, body: start + b"".join(lines) + b"\r\n" + body,
    st.sampled_from(ANSWER_STARTS),
    st.lists(st.sampled_from(LINES), max_size=3),
    st.sampled_from(BODIES),
)


@given(answers, cut_lists)
@settings(max_examples=400)
def test_the_answer_that_ours_finds_is_the_one_that_llhttp_finds(data: bytes, cuts: list[int]) -> None:
    transcript = read_responses(data, cuts)
    if transcript.fault or not transcript.messages or not transcript.messages[0].is_ended:
        return
    theirs = LlhttpResponse()
    for piece in pieces(data, cuts):
        theirs.parser.feed_data(piece)
    assert theirs.bodies == [transcript.messages[0].body]
