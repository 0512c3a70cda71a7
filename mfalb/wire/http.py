"""HTTP/1.1 messages (RFC 9112): bytes to heads and back, one normalised reading.

httptools (llhttp, strict) does the parsing. Of each head only the few fields that a proxy must understand are looked
into ("special"); all others are kept as finished lines and passed on as they came. Every head that goes out is written
by us, so what a backend reads is what we have read: there is no second way to see where a message ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

import httptools

from mfalb.errors import MalformedMessage

HEADER_COUNT_LIMIT: Final = 100
_COUNT_DIGITS_LIMIT: Final = 18  # of a Content-Length: more cannot be meant

_HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_REQUEST_SPECIAL: Final = _HOP_BY_HOP | frozenset(
    (
        b"host",
        b"content-length",
        b"cookie",
        b"content-type",
        b"accept-encoding",
        b"expect",
        b"proxy-authorization",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"forwarded",
    )
)
_RESPONSE_SPECIAL: Final = _HOP_BY_HOP | frozenset((b"content-length", b"content-encoding", b"proxy-authenticate"))
_ONLY_ONCE: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_PLAIN_CONNECTION: Final = frozenset((b"keep-alive", b"close", b""))


class Framing(Enum):
    """How the end of a body is known."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


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
        return _without_port(self.special.get(b"host", b"")).lower()


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


def _without_port(authority: bytes) -> bytes:
    if authority.startswith(b"["):
        return authority[: authority.find(b"]") + 1]
    return authority.partition(b":")[0]


class _Fields:
    """The header lines of one head, sorted into special ones and others."""

    __slots__ = ("lines", "special")

    def __init__(self, headers: list[tuple[bytes, bytes]], special_names: frozenset[bytes]) -> None:
        self.lines: list[bytes] = []
        self.special: dict[bytes, bytes] = {}
        lines, special = self.lines, self.special
        for name, value in headers:
            lower = name.lower()
            if lower not in special_names:
                lines.append(b"%b: %b\r\n" % (name, value))
            elif lower not in special:
                special[lower] = value
            elif lower in _ONLY_ONCE:
                raise MalformedMessage("repeated_" + lower.decode("ascii").replace("-", "_"))
            else:
                special[lower] += (b"; " if lower == b"cookie" else b", ") + value
        connection = special.get(b"connection")
        if connection is not None and connection.lower() not in _PLAIN_CONNECTION:
            self._remove_named_by(connection)

    def _remove_named_by(self, connection: bytes) -> None:
        """Fields that Connection names are for this hop only (RFC 9110 section 7.6.1)."""
        named = tuple(token.strip().lower() + b":" for token in connection.split(b",") if token.strip())
        self.lines[:] = [line for line in self.lines if not line.lower().startswith(named)]

    def framing(self, otherwise: Framing) -> Framing:
        """How this head says that its body ends. Raises MalformedMessage for what could be read in two ways."""
        transfer = self.special.get(b"transfer-encoding")
        length = self.special.get(b"content-length")
        if transfer is not None:
            if length is not None:
                raise MalformedMessage("length_and_chunked")
            if transfer.strip().lower() != b"chunked":
                raise MalformedMessage("transfer_encoding")
            return Framing.CHUNKED
        if length is None:
            return otherwise
        if not length.isdigit() or len(length) > _COUNT_DIGITS_LIMIT:
            raise MalformedMessage("content_length")
        return Framing.LENGTH if int(length) else Framing.NONE

    def is_keep_alive(self, minor_version: int) -> bool:
        connection = self.special.get(b"connection", b"").lower()
        if minor_version:
            return b"close" not in connection
        return b"keep-alive" in connection and b"close" not in connection


class RequestReader:
    """Reads a client's stream. A fault ends it: nothing after it can be trusted."""

    def __init__(self, events: RequestEvents, *, header_bytes: int, header_count: int = HEADER_COUNT_LIMIT) -> None:
        self._events = events
        self._header_bytes = header_bytes
        self._header_count = header_count
        self._fault: MalformedMessage | None = None
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._taken = 0
        self._is_large_read = False
        self.is_in_head = False
        # httptools looks its callbacks up by name when it is made; bodies go straight to whoever listens
        self.on_body = events.request_body
        self._parser = httptools.HttpRequestParser(self)

    def feed_untrusted(self, data: bytes) -> None:
        """Read on. Raises MalformedMessage when this is no HTTP/1.1, is ambiguous or past a limit."""
        was_in_head = self.is_in_head
        self._is_large_read = len(data) > self._header_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade_untrusted(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            raise self._fault or MalformedMessage("http_syntax") from None
        except httptools.HttpParserError:
            raise MalformedMessage("http_syntax") from None
        if self.is_in_head:
            self._taken = (self._taken if was_in_head else 0) + len(data)
            if self._taken > self._header_bytes:
                raise MalformedMessage("header_bytes")

    def _after_upgrade_untrusted(self, rest: bytes) -> None:
        """Upgrade is not offered, so the request was an ordinary one, and an ordinary stream goes on behind it."""
        self._parser = httptools.HttpRequestParser(self)
        if rest:
            self.feed_untrusted(rest)

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
            self._fail(MalformedMessage("header_count"))

    def on_headers_complete(self) -> None:
        self.is_in_head = False
        if self._is_large_read and sum(len(name) + len(value) for name, value in self._headers) > self._header_bytes:
            self._fail(MalformedMessage("header_bytes"))
        try:
            head = self._head_untrusted()
        except MalformedMessage as error:
            self._fault = error  # httptools would hide it
            raise
        self._events.request_head(head)

    def on_message_complete(self) -> None:
        self._events.request_end()

    def _fail(self, fault: MalformedMessage) -> None:
        self._fault = fault
        raise fault

    def _head_untrusted(self) -> RequestHead:
        parser = self._parser
        minor = _minor_version_untrusted(parser.get_http_version())
        fields = _Fields(self._headers, _REQUEST_SPECIAL)
        framing = fields.framing(Framing.NONE)
        if framing is Framing.CHUNKED and not minor:
            raise MalformedMessage("chunked_in_1_0")
        if minor and b"host" not in fields.special:
            raise MalformedMessage("no_host")
        if framing is not Framing.NONE and b"upgrade" in fields.special and parser.should_upgrade():
            raise MalformedMessage("upgrade_with_body")  # llhttp would take the body for the new protocol's bytes
        method: bytes = parser.get_method()
        target = self._target
        if not target.startswith(b"/"):
            target = _origin_form_untrusted(method, target, fields.special)
        keep_alive = fields.is_keep_alive(minor)
        return RequestHead(method, target, minor, fields.lines, fields.special, framing, keep_alive)


def _minor_version_untrusted(version: str) -> int:
    if version not in ("1.1", "1.0"):
        raise MalformedMessage("http_version")
    return 1 if version == "1.1" else 0


def _origin_form_untrusted(method: bytes, target: bytes, special: dict[bytes, bytes]) -> bytes:
    """The path of an absolute-form target, whose authority replaces Host (RFC 9112 section 3.2.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target
    if method == b"CONNECT":
        raise MalformedMessage("connect")
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise MalformedMessage("target")
    authority, slash, path = rest.partition(b"/")
    if not authority or b"@" in authority or b"?" in authority:
        raise MalformedMessage("target")
    special[b"host"] = authority
    return slash + path or b"/"


class ResponseReader:
    """Reads a backend's stream. `expect` says before each response how its request's method frames it."""

    def __init__(self, events: ResponseEvents) -> None:
        self._events = events
        self._fault: MalformedMessage | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._phrase = b""
        self._is_for_head = False
        self._is_interim = False
        self._framing = Framing.NONE
        self.on_body = events.response_body
        self._parser = httptools.HttpResponseParser(self)

    def expect(self, method: bytes) -> None:
        """The next response answers a request with this method. A HEAD's has a length and no body."""
        if self._is_for_head:
            self._parser = httptools.HttpResponseParser(self)  # the old one still waits for a body
        self._is_for_head = method == b"HEAD"

    def feed_untrusted(self, data: bytes) -> None:
        """Read on. Raises MalformedMessage when this is no HTTP/1.1 response or is ambiguous."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise MalformedMessage("unexpected_upgrade") from None
        except httptools.HttpParserCallbackError:
            raise self._fault or MalformedMessage("http_syntax") from None
        except httptools.HttpParserError:
            raise MalformedMessage("http_syntax") from None

    def is_ended_by_close(self) -> bool:
        """Whether the end of the stream is the end of the present body."""
        return self._framing is Framing.CLOSE

    def on_message_begin(self) -> None:
        self._headers = []
        self._phrase = b""
        self._framing = Framing.NONE

    def on_status(self, phrase: bytes) -> None:
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        try:
            head = self._head_untrusted()
        except MalformedMessage as error:
            self._fault = error
            raise
        self._framing = head.framing
        self._is_interim = head.is_interim
        self._events.response_head(head)
        if self._is_for_head and not self._is_interim:
            self._framing = Framing.NONE
            self._events.response_end()

    def on_message_complete(self) -> None:
        if not self._is_for_head and not self._is_interim:
            self._framing = Framing.NONE
            self._events.response_end()

    def _head_untrusted(self) -> ResponseHead:
        parser = self._parser
        status = parser.get_status_code()
        minor = 0 if parser.get_http_version() == "1.0" else 1
        fields = _Fields(self._headers, _RESPONSE_SPECIAL)
        has_body = status >= 200 and status not in (204, 304)  # noqa: PLR2004 - RFC 9112 section 6.3
        framing = fields.framing(Framing.CLOSE) if has_body else Framing.NONE
        keep_alive = fields.is_keep_alive(minor) and framing is not Framing.CLOSE
        return ResponseHead(status, self._phrase, fields.lines, fields.special, framing, keep_alive)


def routing_path_untrusted(target: bytes) -> bytes:
    """The path of a target as routes compare it: decoded, in lower case (as IIS compares), repeated slashes as one.

    Raises MalformedMessage for dot segments, encoded or not: a backend would resolve them to another path than the
    one that was routed.
    """
    path = target.partition(b"?")[0].partition(b"#")[0]
    if b"%" in path:
        path = unquote_to_bytes(path)
    if b"\\" in path:
        path = path.replace(b"\\", b"/")
    if b"/." in path and any(segment in (b".", b"..") for segment in path.split(b"/")):
        raise MalformedMessage("dot_segments")
    while b"//" in path:
        path = path.replace(b"//", b"/")
    return path.lower()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"
