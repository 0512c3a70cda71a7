"""Streams of HTTP/1.1 messages (RFC 9112): bytes in as they come, heads, bodies and ends out.

Both readers are strict: what could be read in two ways is a fault, and nothing behind a fault is read. Our own reading
instead of a library's, because each fault must be told with its place, trailers and upgrades must be handled, and a
head must cost microseconds; the tests hold it against llhttp and h11.
"""

from __future__ import annotations

from typing import Final

from mfalb.errors import MalformedMessage
from mfalb.wire.http_bodies import ChunkedBody
from mfalb.wire.http_events import NO_TRAILERS, NOBODY_ASKED, NOBODY_ASKS, RequestEvents, ResponseEvents
from mfalb.wire.http_fields import REQUEST_SPECIAL, RESPONSE_SPECIAL, Field, FieldReader, Framing
from mfalb.wire.http_heads import (
    SWITCHING_PROTOCOLS,
    RequestHead,
    ResponseHead,
    check_request_line_untrusted,
    check_status_line_untrusted,
    ended_lines,
    request_head_untrusted,
    response_head_untrusted,
)
from mfalb.wire.http_suspect import Suspect, suspect_in_body, suspect_of

HEADER_COUNT_LIMIT: Final = 100
RESPONSE_HEAD_LIMIT_BYTES: Final = 262_144
# Members of an Enum are looked up by name wherever they stand: 0.1 us each in compiled code
_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
# One by one: numbers that are unpacked from a range are looked up by name, too
_IN_HEAD: Final = 0
_IN_LENGTH: Final = 1
_IN_CHUNKED: Final = 2
_IN_CLOSE: Final = 3
_AT_END: Final = 4
_BROKEN: Final = 5
_FIRST_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_END: Final = b"\r\n\r\n"  # of a head


class RequestReader:
    """Reads a client's stream, one request at a time: behind each it waits until it is told to `go_on`.

    A fault ends it: nothing after it can be trusted. `suspect` then is what was found wanting.
    """

    __slots__ = (
        "_body",
        "_empty_bytes",
        "_events",
        "_fields",
        "_header_bytes",
        "_header_count",
        "_is_last",
        "_left",
        "_own",
        "_place",
        "_rest",
        "suspect",
    )

    def __init__(
        self,
        events: RequestEvents,
        *,
        header_bytes: int,
        header_count: int = HEADER_COUNT_LIMIT,
        fields: FieldReader | None = None,
    ) -> None:
        self._events = events
        self._fields = FieldReader(REQUEST_SPECIAL, is_for_requests=True) if fields is None else fields
        self._header_bytes = header_bytes
        self._header_count = header_count
        self._own: dict[bytes, Field] = {}
        self._rest = b""  # an unfinished head, or what stands behind a request that has ended
        self._empty_bytes = 0
        self._left = 0
        self._body: ChunkedBody | None = None
        self._place: int = _IN_HEAD
        self._is_last = False  # RFC 9112 section 9.3: nothing behind a request that closes its connection is one
        self.suspect: Suspect | None = None

    def part(self) -> None:
        """Tell nobody anything more: its connection is gone, and neither need keep the other alive."""
        self._events = NOBODY_ASKS

    @property
    def is_in_head(self) -> bool:
        """Whether a head has begun and is not complete."""
        return self._place == _IN_HEAD and bool(self._rest)

    @property
    def has_more(self) -> bool:
        """Whether another request stands behind the one that has ended, and may."""
        return self._place == _AT_END and bool(self._rest) and not self._is_last

    def feed_untrusted(self, data: bytes) -> None:
        """Read on. Raises MalformedMessage when this is no HTTP/1.1, is ambiguous or past a limit."""
        place = self._place
        if place == _IN_HEAD:
            self._head_untrusted(self._rest + data if self._rest else data)
        elif place == _IN_LENGTH:
            self._length(data)
        elif place == _IN_CHUNKED:
            self._chunks_untrusted(data)
        elif place == _AT_END and not self._is_last:
            self._rest += data

    def go_on_untrusted(self) -> None:
        """The request that ended was dealt with: read what stands behind it. Raises like `feed_untrusted`."""
        if self._place == _AT_END and not self._is_last:
            self._place = _IN_HEAD
            if self._rest:
                data, self._rest = self._rest, b""
                self._head_untrusted(data)

    def take_rest(self) -> bytes:
        """What stands behind the request that ended, which is no HTTP any more: protocols were switched."""
        rest, self._rest = self._rest, b""
        self._place = _BROKEN
        return rest

    def _head_untrusted(self, data: bytes) -> None:
        block, end, rest = data.partition(_END)
        if not end or data[0] == 13:  # noqa: PLR2004 - carriage return: an empty line before the head
            data = self._without_empty_lines_untrusted(data)
            block, end, rest = data.partition(_END)
        if not end or len(block) + 4 > self._header_bytes:
            self._unfinished_untrusted(data)
            return
        lines = block.split(b"\r\n")
        try:
            if len(lines) > self._header_count:
                self._check_lines_untrusted(lines)
            head = request_head_untrusted(lines, self._fields, self._own)
        except MalformedMessage as error:
            self._broken(error, block + end)
            raise
        self._empty_bytes = 0
        self._rest = rest
        self._begin(head)

    def _begin(self, head: RequestHead) -> None:
        framing = head.framing
        self._is_last = not head.is_keep_alive
        if framing is _NONE:
            self._place = _AT_END
            self._events.request_head(head)
            self._events.request_end(NO_TRAILERS)
            return
        if framing is _LENGTH:
            self._place = _IN_LENGTH
            self._left = head.length
        else:
            self._place = _IN_CHUNKED
            self._body = ChunkedBody(self._header_bytes)
        self._events.request_head(head)
        if self._rest:
            rest, self._rest = self._rest, b""
            self.feed_untrusted(rest)

    def _without_empty_lines_untrusted(self, data: bytes) -> bytes:
        """RFC 9112 section 2.2: some clients send an empty line behind a body. They count as a head's bytes do."""
        at = 0
        while data[at : at + 2] == b"\r\n":
            at += 2
        self._empty_bytes += at
        if self._empty_bytes > self._header_bytes:
            self._fail_untrusted("header_bytes", data)
        return data[at:]

    def _unfinished_untrusted(self, data: bytes) -> None:
        """Keep a head that is not complete, unless it is clear already that it can never be one."""
        is_new_line = data.count(b"\n") > self._rest.count(b"\n") or not self._rest
        self._rest = data
        if data and data != b"\r" and data[0] not in _FIRST_BYTES:
            self._fail_untrusted("method", data)
        if is_new_line:
            within = data[: self._header_bytes]
            try:
                self._check_lines_untrusted(ended_lines(within))
            except MalformedMessage as error:
                self._broken(error, within)
                raise
        if len(data) + self._empty_bytes >= self._header_bytes:
            self._fail_untrusted("header_bytes", data)

    def _check_lines_untrusted(self, lines: list[bytes]) -> None:
        """Find the first fault in the lines that there are, in the order in which a whole head is read."""
        if not lines:
            return
        check_request_line_untrusted(lines[0])
        self._fields.read_untrusted(lines[1 : self._header_count + 2], self._own)
        if len(lines) - 1 > self._header_count:
            raise MalformedMessage("header_count", lines[self._header_count + 1])

    def _fail_untrusted(self, reason: str, data: bytes) -> None:
        self._broken(MalformedMessage(reason), data)
        raise MalformedMessage(reason)  # not the same: raised by who has a name for it, it would be in a cycle

    def _broken(self, error: MalformedMessage, data: bytes) -> None:
        self._place = _BROKEN
        self._rest = b""
        self.suspect = suspect_of(error, data)

    def _length(self, data: bytes) -> None:
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            self._events.request_body(data)
            return
        self._place = _AT_END
        self._rest = data[left:] if len(data) > left else b""
        self._events.request_body(data[:left] if self._rest else data)
        self._events.request_end(NO_TRAILERS)

    def _chunks_untrusted(self, data: bytes) -> None:
        body = self._body
        assert body is not None  # noqa: S101 - set where the place is
        found = body.feed_untrusted(data)
        if body.fault is not None:
            self._place = _BROKEN
            self._rest = b""
            self.suspect = suspect_in_body(body.fault)
        elif body.is_ended:
            self._place = _AT_END
            self._rest = body.rest
            self._body = None
        if found:
            self._events.request_body(found)
        if body.fault is not None:
            raise MalformedMessage(*body.fault)
        if body.is_ended:
            self._events.request_end(self._fields.allowed_trailers(body.trailers))


class ResponseReader:
    """Reads a backend's stream. `expect` says before each response how its request's method frames it."""

    __slots__ = (
        "_body",
        "_events",
        "_fields",
        "_head_bytes",
        "_is_for_head",
        "_left",
        "_own",
        "_place",
        "_rest",
        "may_switch",
    )

    def __init__(self, events: ResponseEvents, fields: FieldReader | None = None) -> None:
        self._events = events
        self._fields = FieldReader(RESPONSE_SPECIAL, is_for_requests=False) if fields is None else fields
        self._own: dict[bytes, Field] = {}
        self._rest = b""
        self._left = 0
        self._head_bytes = 0  # of this answer's heads, interim ones included
        self._body: ChunkedBody | None = None
        self._place: int = _AT_END
        self._is_for_head = False
        self.may_switch = False

    def part(self) -> None:
        """As a request's reader parts."""
        self._events = NOBODY_ASKED

    def expect(self, method: bytes, *, may_switch: bool = False) -> None:
        """The next response answers a request with this method. A HEAD's has a length and no body.

        `may_switch`: the request asked for another protocol, so 101 is an answer.
        """
        self._place = _IN_HEAD
        self._head_bytes = 0
        self._is_for_head = method == b"HEAD"
        self.may_switch = may_switch

    @property
    def has_rest(self) -> bool:
        """Whether bytes stand behind the answer that has ended: nobody asked for them."""
        return self._place == _AT_END and bool(self._rest)

    def take_rest(self) -> bytes:
        """What came behind the head that switched protocols."""
        rest, self._rest = self._rest, b""
        return rest

    def is_ended_by_close(self) -> bool:
        """Whether the end of the stream is the end of the present body."""
        return self._place == _IN_CLOSE

    def feed_untrusted(self, data: bytes) -> None:
        """Read on. Raises MalformedMessage when this is no HTTP/1.1 response, is ambiguous or was not asked for."""
        place = self._place
        if place == _IN_HEAD:
            self._heads_untrusted(self._rest + data if self._rest else data)
        elif place == _IN_LENGTH:
            self._length(data)
        elif place == _IN_CHUNKED:
            self._chunks_untrusted(data)
        elif place == _IN_CLOSE:
            self._events.response_body(data)
        elif place == _AT_END:
            self._rest = data
            raise MalformedMessage("unexpected_response")

    def _heads_untrusted(self, data: bytes) -> None:
        while self._place == _IN_HEAD:
            block, end, data = data.partition(_END)
            if not end:
                self._unfinished_untrusted(block)
                return
            self._head_bytes += len(block) + 4
            if self._head_bytes > RESPONSE_HEAD_LIMIT_BYTES:
                raise MalformedMessage("header_bytes")
            head = response_head_untrusted(block.split(b"\r\n"), self._fields, self._own)
            self._begin_untrusted(head, data)
            if not head.is_interim:
                return
            if not data:
                self._rest = b""
                return

    def _begin_untrusted(self, head: ResponseHead, rest: bytes) -> None:
        """Tell a head; `rest` is what stands behind it."""
        if head.is_interim:
            self._events.response_head(head)
            return
        self._rest = b""
        if head.status == SWITCHING_PROTOCOLS:
            if not self.may_switch:
                raise MalformedMessage("unexpected_upgrade")
            self._place = _AT_END
            self._rest = rest
            self._events.response_head(head)
        elif head.framing is _NONE or self._is_for_head:
            self._place = _AT_END
            self._rest = rest
            self._events.response_head(head)
            self._events.response_end(NO_TRAILERS)
        else:
            self._begin_body(head)
            if rest:
                self.feed_untrusted(rest)

    def _begin_body(self, head: ResponseHead) -> None:
        if head.framing is _LENGTH:
            self._place = _IN_LENGTH
            self._left = head.length
        elif head.framing is _CHUNKED:
            self._place = _IN_CHUNKED
            self._body = ChunkedBody(RESPONSE_HEAD_LIMIT_BYTES)
        else:
            self._place = _IN_CLOSE
        self._events.response_head(head)

    def _unfinished_untrusted(self, data: bytes) -> None:
        self._rest = data
        if not data.startswith(b"HTTP/"[: len(data)]):
            raise MalformedMessage("status_line")
        lines = ended_lines(data)
        if lines:
            check_status_line_untrusted(lines[0])
            self._fields.read_untrusted(lines[1:], self._own)
        if self._head_bytes + len(data) > RESPONSE_HEAD_LIMIT_BYTES:
            raise MalformedMessage("header_bytes")

    def _length(self, data: bytes) -> None:
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            self._events.response_body(data)
            return
        self._place = _AT_END
        self._rest = data[left:] if len(data) > left else b""
        self._events.response_body(data[:left] if self._rest else data)
        self._events.response_end(NO_TRAILERS)

    def _chunks_untrusted(self, data: bytes) -> None:
        body = self._body
        assert body is not None  # noqa: S101 - set where the place is
        found = body.feed_untrusted(data)
        if body.is_ended:
            self._place = _AT_END
            self._rest = body.rest
            self._body = None
        if found:
            self._events.response_body(found)
        if body.fault is not None:
            self._place = _BROKEN
            raise MalformedMessage(*body.fault)
        if body.is_ended:
            self._events.response_end(body.trailers)
