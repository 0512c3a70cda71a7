"""HTTP/1.1 messages (RFC 9112): bytes to heads and back, one normalised reading.

httptools (llhttp, strict) does the parsing. Of each head only the few fields that a proxy must understand are looked
into ("special"); all others are kept as finished lines and passed on as they came. Every head that goes out is written
by us, so what a backend reads is what we have read: there is no second way to see where a message ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import httptools

from mfalb.errors import MalformedMessage
from mfalb.wire.http_fields import REQUEST_SPECIAL, RESPONSE_SPECIAL, Fields, Framing
from mfalb.wire.http_target import host_without_port, origin_form_untrusted, refuse_bad_host

HEADER_COUNT_LIMIT: Final = 100
RESPONSE_HEAD_LIMIT_BYTES: Final = 262_144
_CONTROLS: Final = bytes((*range(32), 127)).replace(b"\t", b"")


@dataclass(slots=True, eq=False)  # not frozen: made once a message on the hot path
class RequestHead:
    """A request without its body. `lines` are finished header lines; `special` maps lower-case names to values."""

    method: bytes
    target: bytes
    minor_version: int
    lines: list[bytes]
    special: dict[bytes, bytes]
    framing: Framing
    is_keep_alive: bool

    @property
    def host(self) -> bytes:
        """The host without its port, in lower case; b"" when a 1.0 client named none."""
        return host_without_port(self.special.get(b"host", b"")).lower()

    def field(self, name: bytes) -> bytes:
        """The value of the first field of that lower-case name, whether we look into it or not; b"" for none."""
        if name in self.special:
            return self.special[name]
        start = name + b":"
        for line in self.lines:
            if line[: len(start)].lower() == start:
                return line[len(start) :].strip()
        return b""


@dataclass(slots=True, eq=False)
class ResponseHead:
    """A response without its body; like RequestHead."""

    status: int
    phrase: bytes
    lines: list[bytes]
    special: dict[bytes, bytes]
    framing: Framing
    is_keep_alive: bool

    @property
    def is_interim(self) -> bool:
        """Whether the real answer is still to come (1xx)."""
        return self.status < 200  # noqa: PLR2004 - RFC 9110 section 15.2


class RequestEvents(Protocol):
    """Who is told what a client sent, in order."""

    def request_head(self, head: RequestHead) -> None: ...

    def request_body(self, data: bytes) -> None: ...

    def request_end(self) -> None: ...


class ResponseEvents(Protocol):
    """Who is told what a backend sent, in order. Interim heads (1xx) come before the real one and have no end."""

    def response_head(self, head: ResponseHead) -> None: ...

    def response_body(self, data: bytes) -> None: ...

    def response_end(self) -> None: ...


def _cause_of(error: httptools.HttpParserError, fault: MalformedMessage | None) -> BaseException:
    """What the parser stumbled over: the fault we noted, bad syntax, or a bug of ours, which may look like neither."""
    if fault is None and isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
        return error.__context__
    return fault or MalformedMessage("http_syntax")


class RequestReader:
    """Reads a client's stream. A fault ends it: nothing after it can be trusted."""

    def __init__(self, events: RequestEvents, *, header_bytes: int, header_count: int = HEADER_COUNT_LIMIT) -> None:
        self._events = events
        self._header_bytes = header_bytes
        self._header_count = header_count
        self._fault: MalformedMessage | None = None
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._read_bytes = 0
        self._head_bytes_limit = 0  # of earlier reads, all bytes that may belong to the present head
        self._fruitless_bytes = 0  # of earlier reads, those since the last that gave a head, body or end
        self._is_fruitful = False
        self.is_in_head = False
        self._parser = httptools.HttpRequestParser(self)

    def feed_untrusted(self, data: bytes) -> None:
        """Read on. Raises MalformedMessage when this is no HTTP/1.1, is ambiguous or past a limit."""
        self._read_bytes = len(data)
        self._is_fruitful = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade_untrusted(memoryview(data)[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            raise _cause_of(error, self._fault) from None
        if self._is_fruitful:
            self._fruitless_bytes = 0
            self._head_bytes_limit = len(data) if self.is_in_head else 0
            return
        # An unfinished head, but a chunk's extension or a trailer too: the parser gathers, and nobody sees how much
        self._fruitless_bytes += len(data)
        self._head_bytes_limit += len(data)
        if self._fruitless_bytes > self._header_bytes:
            raise MalformedMessage("header_bytes")

    def _after_upgrade_untrusted(self, rest: memoryview) -> None:
        """Upgrade is not offered, so the request was an ordinary one, and an ordinary stream goes on behind it."""
        while True:
            self._parser = httptools.HttpRequestParser(self)
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                raise _cause_of(error, self._fault) from None
            else:
                return

    # httptools calls these

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self.is_in_head = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_in_head:
            return  # a trailer: RFC 9110 section 6.5.1 lets an intermediary leave it out
        self._headers.append((name, value))
        if len(self._headers) > self._header_count:
            self._fault = MalformedMessage("header_count")
            raise self._fault

    def on_headers_complete(self) -> None:
        self.is_in_head = False
        self._is_fruitful = True
        try:
            head = self._head_untrusted()
        except MalformedMessage as error:
            self._fault = error  # httptools would hide it
            raise
        self._events.request_head(head)

    def on_body(self, data: bytes) -> None:
        self._is_fruitful = True
        self._events.request_body(data)

    def on_message_complete(self) -> None:
        self._is_fruitful = True
        self._events.request_end()

    def _size(self) -> int:
        """The bytes of the present head, however it was cut into reads, without blanks that it could do without."""
        fields = sum(len(name) + len(value) + len(b":\r\n") for name, value in self._headers)
        return len(self._parser.get_method()) + len(self._target) + len(b"  HTTP/1.1\r\n\r\n") + fields

    def _head_untrusted(self) -> RequestHead:
        if self._head_bytes_limit + self._read_bytes > self._header_bytes and self._size() > self._header_bytes:
            raise MalformedMessage("header_bytes")
        parser = self._parser
        minor = _minor_version_untrusted(parser.get_http_version())
        fields = Fields(self._headers, REQUEST_SPECIAL)
        framing = fields.framing(Framing.NONE)
        if framing is Framing.CHUNKED and not minor:
            raise MalformedMessage("chunked_in_1_0")
        if minor and b"host" not in fields.special:
            raise MalformedMessage("no_host")
        if framing is not Framing.NONE and b"upgrade" in fields.special and parser.should_upgrade():
            raise MalformedMessage("upgrade_with_body")  # llhttp would take the body for the new protocol's bytes
        method: bytes = parser.get_method()
        if method == b"CONNECT":
            raise MalformedMessage("connect")
        target = self._target
        if not target.startswith(b"/"):
            target, authority = origin_form_untrusted(method, target)
            fields.special[b"host"] = authority or fields.special.get(b"host", b"")
        refuse_bad_host(fields.special.get(b"host", b""))
        keep_alive = fields.is_keep_alive(minor)
        return RequestHead(method, target, minor, fields.lines, fields.special, framing, keep_alive)


def _minor_version_untrusted(version: str) -> int:
    if version not in ("1.1", "1.0"):
        raise MalformedMessage("http_version")
    return 1 if version == "1.1" else 0


class ResponseReader:
    """Reads a backend's stream. `expect` says before each response how its request's method frames it."""

    def __init__(self, events: ResponseEvents) -> None:
        self._events = events
        self._fault: MalformedMessage | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._phrase = b""
        self._is_awaited = False
        self._is_for_head = False
        self._is_interim = False
        self._framing = Framing.NONE
        self._fruitless_bytes = 0
        self._is_fruitful = False
        self._parser = httptools.HttpResponseParser(self)

    def expect(self, method: bytes) -> None:
        """The next response answers a request with this method. A HEAD's has a length and no body."""
        if self._is_for_head:
            self._parser = httptools.HttpResponseParser(self)  # the old one still waits for a body
        self._is_awaited = True
        self._is_for_head = method == b"HEAD"

    def feed_untrusted(self, data: bytes) -> None:
        """Read on. Raises MalformedMessage when this is no HTTP/1.1 response, is ambiguous or was not asked for."""
        self._is_fruitful = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise _cause_of(error, self._fault) from None
        self._fruitless_bytes = 0 if self._is_fruitful else self._fruitless_bytes + len(data)
        if self._fruitless_bytes > RESPONSE_HEAD_LIMIT_BYTES:
            raise MalformedMessage("header_bytes")

    def is_ended_by_close(self) -> bool:
        """Whether the end of the stream is the end of the present body."""
        return self._framing is Framing.CLOSE

    def on_message_begin(self) -> None:
        if not self._is_awaited:
            self._refuse_unexpected()
        self._headers = []
        self._phrase = b""
        self._framing = Framing.NONE

    def on_status(self, phrase: bytes) -> None:
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._is_fruitful = True
        try:
            head = self._head_untrusted()
        except MalformedMessage as error:
            self._fault = error
            raise
        self._framing = head.framing
        self._is_interim = head.is_interim
        self._events.response_head(head)
        if self._is_for_head and not self._is_interim:
            self._end()

    def on_body(self, data: bytes) -> None:
        self._is_fruitful = True
        if not self._is_awaited:
            self._refuse_unexpected()
        self._events.response_body(data)

    def on_message_complete(self) -> None:
        if not self._is_for_head and not self._is_interim:
            self._end()

    def _end(self) -> None:
        self._is_fruitful = True
        self._is_awaited = False
        self._framing = Framing.NONE
        self._events.response_end()

    def _refuse_unexpected(self) -> None:
        """What nobody asked for would be taken for the answer to the next request, of another client."""
        self._fault = MalformedMessage("unexpected_response")
        raise self._fault

    def _head_untrusted(self) -> ResponseHead:
        parser = self._parser
        status = parser.get_status_code()
        minor = _minor_version_untrusted(parser.get_http_version())
        phrase = self._phrase
        if status < 100 or (not phrase.isalpha() and phrase.translate(None, _CONTROLS) != phrase):  # noqa: PLR2004
            raise MalformedMessage("status_line")
        if status == 101:  # noqa: PLR2004 - Switching Protocols
            raise MalformedMessage("unexpected_upgrade")
        fields = Fields(self._headers, RESPONSE_SPECIAL)
        has_body = status >= 200 and status not in (204, 304)  # noqa: PLR2004 - RFC 9112 section 6.3
        framing = fields.framing(Framing.CLOSE) if has_body else Framing.NONE
        is_lasting = framing is not Framing.CLOSE and (minor > 0 or framing is not Framing.CHUNKED)
        keep_alive = is_lasting and fields.is_keep_alive(minor)
        return ResponseHead(status, phrase, fields.lines, fields.special, framing, keep_alive)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"
