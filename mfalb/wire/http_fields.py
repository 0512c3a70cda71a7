"""The header fields of one message: which ones a proxy must look into, and what they say of its framing.

Of each head only the few fields that a proxy must understand are looked into ("special"); all others are kept as
finished lines and passed on as they came. Header lines repeat themselves without end (User-Agent, Accept, Server), so a
line that was read once is known afterwards: 0.1 us instead of 1 us for each (measured).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from mfalb.errors import MalformedMessage
from mfalb.wire.http_target import refuse_bad_host

_COUNT_DIGITS_LIMIT: Final = 18  # of a Content-Length: more cannot be meant
_KNOWN_LIMIT: Final = 4096  # lines; when it is full all are forgotten, since peers choose what fills it
_KNOWN_LINE_BYTES: Final = 256  # longer ones seldom come again

_OWN_LIMIT: Final = 2
_OWN_LINE_BYTES: Final = 1024

_HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
_FORWARDING: Final = frozenset(
    (
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"forwarded",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-real-ip",
        b"x-original-url",  # IIS' rewriting obeys these two: a stranger could name another path than was routed
        b"x-rewrite-url",
    )
)
REQUEST_SPECIAL: Final = (_HOP_BY_HOP | _FORWARDING).union(
    (
        b"host",
        b"content-length",
        b"content-type",
        b"accept-encoding",
        b"cookie",
        b"expect",
        b"via",
        b"proxy-authorization",
        b"proxy",  # CGI shows it as HTTP_PROXY, which programs obey (CVE-2016-5385): never passed on
    )
)
RESPONSE_SPECIAL: Final = _HOP_BY_HOP | frozenset(
    (b"content-length", b"content-encoding", b"via", b"proxy-authenticate")
)
_ONLY_ONCE: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_PLAIN_CONNECTION: Final = frozenset((b"keep-alive", b"close", b""))
_SECRET: Final = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"))  # not remembered
# RFC 9110 section 6.5.1: what frames, routes or judges a message may not come behind it
_NOT_IN_TRAILERS: Final = (REQUEST_SPECIAL | RESPONSE_SPECIAL | _SECRET).union(
    (b"trailer", b"cache-control", b"content-range", b"max-forwards", b"range", b"www-authenticate", b"age", b"date")
)
_NEVER_BEHIND_US: Final = (b"h2c", b"http/", b"tls/")
_FRAMING_NAMES: Final = frozenset((b"content-length", b"transfer-encoding", b"host", b"connection", b"upgrade"))

# field-name ":" OWS field-value OWS (RFC 9112 section 5; RFC 9110 section 5.5): no control byte but the tab.
# Deleting all that may be there and looking for a rest costs a tenth of a regular expression.
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUE: Final = b"\t" + bytes(range(32, 127)) + bytes(range(128, 256))
_TOKEN_RUN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_VALUE_RUN: Final = re.compile(rb"[\t -~\x80-\xff]*")


class Framing(Enum):
    """How the end of a body is known."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


# Members of an Enum are looked up by name wherever they stand: 0.1 us each in compiled code
_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED


class Field:
    """One header line as it was understood. `name` is lower case and b"" where a proxy need not look into it.

    `length` is what a Content-Length says; -1 for all other fields.
    """

    __slots__ = ("length", "line", "name", "value")

    def __init__(self, name: bytes, value: bytes, line: bytes, length: int = -1) -> None:
        self.name = name
        self.value = value
        self.line = line
        self.length = length


class Fields:
    """The header lines of one head, sorted into special ones and others. `length`: the Content-Length, -1 for none."""

    __slots__ = ("length", "lines", "special")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.special: dict[bytes, bytes] = {}
        self.length = -1

    def framing(self, otherwise: Framing) -> Framing:
        """How this head says that its body ends. Raises MalformedMessage for what could be read in two ways."""
        special = self.special
        if b"transfer-encoding" in special:
            if self.length >= 0:
                raise MalformedMessage("length_and_chunked")
            if special[b"transfer-encoding"].lower() != b"chunked":
                raise MalformedMessage("transfer_encoding")
            return _CHUNKED
        if self.length < 0:
            return otherwise
        return _LENGTH if self.length else _NONE

    def is_keep_alive(self, minor_version: int) -> bool:
        connection = self.special.get(b"connection")
        if connection is None:
            return minor_version > 0
        if connection == b"keep-alive":
            return True
        # `find`, since `in` first tries bytes as a number and throws that failure away: 0.4 us
        is_closing = connection.find(b"close") >= 0
        return not is_closing and (minor_version > 0 or connection.find(b"keep-alive") >= 0)

    def upgrade(self) -> bytes:
        """The protocols that an Upgrade which Connection names asks for; b"" for none (RFC 9110 section 7.8).

        HTTP/2 and TLS are left out (RFC 9113 section 3.1 has withdrawn h2c): requests in them would pass unread.
        """
        special = self.special
        if b"upgrade" not in special or b"connection" not in special:
            return b""
        named = special[b"connection"].split(b",")
        if not any(token.strip() == b"upgrade" for token in named):
            return b""
        wanted = [token.strip() for token in special[b"upgrade"].split(b",")]
        return b", ".join([token for token in wanted if token and not token.lower().startswith(_NEVER_BEHIND_US)])


class FieldReader:
    """Reads the header lines of all messages of one side, and remembers those that it has met.

    `special_names` are looked into. `twins` says whether underscores are refused only where the name would pass for a
    special one (None: they are no concern here).
    """

    __slots__ = ("_known", "_refuses_underscores", "_special_names", "_twins")

    def __init__(
        self, special_names: frozenset[bytes], *, is_for_requests: bool, refuses_underscores: bool = True
    ) -> None:
        self._special_names = special_names
        self._twins = frozenset(_plain(name) for name in special_names) if is_for_requests else frozenset()
        self._refuses_underscores = refuses_underscores and is_for_requests
        self._known: dict[bytes, Field] = {}

    def read_untrusted(self, lines: list[bytes], own: dict[bytes, Field]) -> Fields:
        """The fields of one head, in whose lines no CRLF is left. Raises MalformedMessage.

        `own` is what the connection itself remembers, and nobody beside or after it: its lines with secrets.
        """
        fields = Fields()
        plain, special, known = fields.lines, fields.special, self._known
        for line in lines:
            field = known.get(line)
            if field is None:
                field = own.get(line)
                if field is None:
                    field = self._learn_untrusted(line, own)
            name = field.name
            if not name:
                plain.append(field.line)
            elif name not in special:
                special[name] = field.value
                if field.length >= 0:
                    fields.length = field.length
            elif name in _ONLY_ONCE:
                raise MalformedMessage("repeated_" + name.decode("ascii").replace("-", "_"), line)
            else:
                special[name] += (b"; " if name == b"cookie" else b", ") + field.value
        if b"connection" in special:
            connection = special[b"connection"]
            if connection not in _PLAIN_CONNECTION:
                _remove_named_by(connection, plain)
        return fields

    def allowed_trailers(self, lines: list[bytes]) -> list[bytes]:
        """Those finished trailer lines whose names are not looked into: behind a body they would slip past."""
        if not lines or not self._twins:
            return lines
        return [line for line in lines if _plain(line.partition(b":")[0].lower()) not in self._twins]

    def _learn_untrusted(self, line: bytes, own: dict[bytes, Field]) -> Field:
        given, value = _split_untrusted(line)
        name = given.lower()
        if name not in self._special_names:
            if b"_" in name and (self._refuses_underscores or _plain(name) in self._twins):
                raise MalformedMessage("underscore_in_field_name", line, name.index(b"_"))
            field = Field(b"", value, b"%b: %b\r\n" % (given, value))
        elif name == b"content-length":
            if not value.isdigit() or len(value) > _COUNT_DIGITS_LIMIT:
                raise MalformedMessage("content_length", line, len(line) - len(value))
            field = Field(name, value, b"", int(value))
        elif name == b"host":
            refuse_bad_host(value)
            field = Field(name, value, b"")
        else:
            field = Field(name, value.lower() if name == b"connection" else value, b"")
        if name in _SECRET:
            if len(own) >= _OWN_LIMIT:
                own.clear()
            if len(line) <= _OWN_LINE_BYTES:
                own[line] = field
        elif len(line) <= _KNOWN_LINE_BYTES:
            if len(self._known) >= _KNOWN_LIMIT:
                self._known.clear()
            self._known[line] = field
        return field


def _split_untrusted(line: bytes) -> tuple[bytes, bytes]:
    """The name and the value of a line. Raises MalformedMessage."""
    name, colon, value = line.partition(b":")
    if not colon or not name or name.translate(None, _TOKEN) or value.translate(None, _VALUE):
        raise _fault(line)
    return name, value.strip(b" \t")


def _plain(name: bytes) -> bytes:
    """A name as CGI and its heirs show it, to whom X_Forwarded_For and X-Forwarded-For are one."""
    return name.replace(b"_", b"-")


def _remove_named_by(connection: bytes, lines: list[bytes]) -> None:
    """Fields that Connection names are for this hop only (RFC 9110 section 7.6.1)."""
    named = tuple([token.strip() + b":" for token in connection.split(b",") if token.strip()])
    lines[:] = [line for line in lines if not line.lower().startswith(named)]


def trailer_untrusted(line: bytes) -> bytes:
    """A trailer field as a finished line; b"" for one that is left out. Raises MalformedMessage."""
    given, value = _split_untrusted(line)
    name = given.lower()
    if _plain(name) in _FRAMING_NAMES:
        raise MalformedMessage("trailer", line)
    if _plain(name) in _NOT_IN_TRAILERS:
        return b""
    return b"%b: %b\r\n" % (given, value)


def _fault(line: bytes) -> MalformedMessage:
    """What is wrong with a line that is no field, and where."""
    for byte, reason in ((b"\n", "bare_lf"), (b"\r", "bare_cr")):
        if byte in line:
            return MalformedMessage(reason, line, line.index(byte))
    if line[:1] in (b" ", b"\t"):
        return MalformedMessage("obs_fold", line)
    named = _TOKEN_RUN.match(line)
    end = named.end() if named is not None else 0
    if b":" not in line:
        return MalformedMessage("no_colon", line, len(line))
    if not end or line[end : end + 1] != b":":
        return MalformedMessage("field_name", line, end)
    value = _VALUE_RUN.match(line, end + 1)
    return MalformedMessage("control_byte", line, value.end() if value is not None else end)
