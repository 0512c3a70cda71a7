"""Streams of HTTP fed to a reader in pieces, and what it told, as plain values that do not show the cuts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import strategies as st

from mfalb.errors import MalformedMessage
from mfalb.wire.http import RequestReader, ResponseReader
from mfalb.wire.http_events import RequestEvents, ResponseEvents
from mfalb.wire.http_fields import FieldReader, Framing
from mfalb.wire.http_heads import RequestHead, ResponseHead

AMPLE_BYTES = 65_536


@dataclass(slots=True)
class Told:
    """One message as it was told. `first` is its first line as it was understood: "GET /a 1.1", "200 OK"."""

    first: str
    framing: Framing
    is_keep_alive: bool
    lines: tuple[bytes, ...] = ()
    special: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    is_ended: bool = False
    trailers: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Transcript:
    """All that a reader told. `fault` is the reason of its MalformedMessage, "" for none."""

    messages: list[Told] = field(default_factory=list)
    fault: str = ""

    def body(self, data: bytes) -> None:
        assert not self.messages[-1].is_ended
        self.messages[-1].body += data

    def end(self, trailers: list[bytes]) -> None:
        assert not self.messages[-1].is_ended
        self.messages[-1].is_ended = True
        self.messages[-1].trailers = trailers

    @property
    def firsts(self) -> list[str]:
        return [message.first for message in self.messages]


class RequestScribe(RequestEvents):
    """Writes down what a reader tells of requests."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript

    def request_head(self, head: RequestHead) -> None:
        first = f"{head.method.decode()} {head.target.decode()} 1.{head.minor_version}"
        told = Told(first, head.framing, head.is_keep_alive, tuple(head.lines), head.special)
        self.transcript.messages.append(told)

    def request_body(self, data: bytes) -> None:
        self.transcript.body(data)

    def request_end(self, trailers: list[bytes]) -> None:
        self.transcript.end(trailers)


class ResponseScribe(ResponseEvents):
    """Writes down what a reader tells of responses."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript

    def response_head(self, head: ResponseHead) -> None:
        first = head.line.decode("latin-1").removeprefix("HTTP/1.1 ").removesuffix("\r\n")
        told = Told(first, head.framing, head.is_keep_alive, tuple(head.lines), head.special)
        self.transcript.messages.append(told)

    def response_body(self, data: bytes) -> None:
        self.transcript.body(data)

    def response_end(self, trailers: list[bytes]) -> None:
        self.transcript.end(trailers)


def pieces(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """The data cut at these offsets; no piece is empty."""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        yield data[start:end]


def read_requests(
    data: bytes,
    cuts: Iterable[int] = (),
    *,
    header_bytes: int = AMPLE_BYTES,
    header_count: int = 100,
    fields: FieldReader | None = None,
) -> Transcript:
    """What a client's stream says when it arrives in these pieces."""
    transcript = Transcript()
    reader = RequestReader(
        RequestScribe(transcript), header_bytes=header_bytes, header_count=header_count, fields=fields
    )
    try:
        for piece in pieces(data, cuts):
            reader.feed_untrusted(piece)
            while reader.has_more:
                reader.go_on_untrusted()
    except MalformedMessage as error:
        transcript.fault = error.reason
    return transcript


def read_responses(data: bytes, cuts: Iterable[int] = (), *, methods: Sequence[bytes] = (b"GET",)) -> Transcript:
    """What a backend's stream says. Each further method is expected when the answer before it has ended."""
    transcript = Transcript()
    reader = ResponseReader(ResponseScribe(transcript))
    waiting = list(methods)
    reader.expect(waiting.pop(0))
    try:
        for piece in pieces(data, cuts):
            reader.feed_untrusted(piece)
            if reader.has_rest:
                raise MalformedMessage("unexpected_response")  # noqa: TRY301 - as the reader does a read later
            if waiting and transcript.messages and transcript.messages[-1].is_ended:
                reader.expect(waiting.pop(0))
    except MalformedMessage as error:
        transcript.fault = error.reason
    return transcript


def every_cut(data: bytes) -> Iterator[Iterable[int]]:
    """Whole, in two pieces at every place, and byte by byte."""
    yield ()
    yield from ((cut,) for cut in range(1, len(data)))
    yield range(1, len(data))


def streams(*fragments: bytes) -> st.SearchStrategy[bytes]:
    """Streams that are nearly HTTP: these fragments in any order, with stray bytes among them."""
    return st.lists(st.one_of(st.sampled_from(fragments), st.binary(max_size=3)), max_size=14).map(b"".join)


cut_lists = st.lists(st.integers(1, 300), max_size=8)
