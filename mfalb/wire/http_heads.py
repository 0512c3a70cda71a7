"""The heads of HTTP/1.1 messages (RFC 9112 sections 2 to 6): bytes to values, one normalised reading.

Every head that goes out is written by us, so what a backend reads is what we have read: there is no second way to see
where a message ends.

    request-line = method SP request-target SP HTTP-version CRLF
    status-line  = HTTP-version SP status-code [SP reason-phrase] CRLF
    then           field-line CRLF ...  CRLF
"""

from __future__ import annotations

import re
from typing import Final

from mfalb.errors import MalformedMessage
from mfalb.wire.http_fields import Field, FieldReader, Framing
from mfalb.wire.http_target import default_port, host_without_port, origin_form_untrusted, refuse_bad_host

_METHOD: Final = re.compile(rb"[A-Z][A-Z_-]{0,31}")
_COMMON_METHODS: Final = frozenset((b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PATCH"))
_VISIBLE: Final = bytes(range(33, 127)).replace(b"#", b"")
_VERSIONS: Final = {b"HTTP/1.0": 0, b"HTTP/1.1": 1}
_ANY_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_KNOWN_STATUS_LINES_LIMIT: Final = 256
_KNOWN_REQUEST_LINES_LIMIT: Final = 4096  # clients choose them, so when it is full all are forgotten
_KNOWN_REQUEST_LINE_BYTES: Final = 128
_STATUS_LINE: Final = re.compile(rb"(HTTP/[0-9]\.[0-9]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_METHOD_RUN: Final = re.compile(rb"(?:[A-Z][A-Z_-]*)?")
_known_status_lines: Final[dict[bytes, tuple[int, bytes, int]]] = {}  # backends have few of them
_known_request_lines: Final[dict[bytes, tuple[bytes, bytes, bytes, int]]] = {}
SWITCHING_PROTOCOLS: Final = 101
# Members of an Enum are looked up by name wherever they stand: 0.1 us each in compiled code
_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_CLOSE: Final = Framing.CLOSE


class RequestHead:
    """A request without its body. `lines` are finished header lines; `special` maps lower-case names to values.

    `path` is the target without its query; `upgrade` names the protocols it asks to change to, b"" for none; `length`
    is that of its body where it says so.
    """

    __slots__ = (
        "framing",
        "is_keep_alive",
        "length",
        "lines",
        "method",
        "minor_version",
        "path",
        "special",
        "target",
        "upgrade",
    )

    def __init__(
        self, method: bytes, target: bytes, minor_version: int, lines: list[bytes], special: dict[bytes, bytes]
    ) -> None:
        self.method = method
        self.target = self.path = target
        self.minor_version = minor_version
        self.lines = lines
        self.special = special
        self.framing = _NONE
        self.length = 0
        self.is_keep_alive = True
        self.upgrade = b""

    @property
    def host(self) -> bytes:
        """The host without its port, in lower case; b"" when a 1.0 client named none."""
        return host_without_port(self.special.get(b"host", b"")).lower()

    def field(self, name: bytes) -> bytes:
        """The value of the first field of that lower-case name, whether we look into it or not; b"" for none."""
        return self.special[name] if name in self.special else _field_in(self.lines, name)


def _field_in(lines: list[bytes], name: bytes) -> bytes:
    start = name + b":"
    for line in lines:
        if line[: len(start)].lower() == start:
            return line[len(start) :].strip()
    return b""


class ResponseHead:
    """A response without its body; like RequestHead. `line` is its finished status line, in version 1.1."""

    __slots__ = ("framing", "is_keep_alive", "length", "line", "lines", "special", "status")

    def __init__(self, status: int, line: bytes, lines: list[bytes], special: dict[bytes, bytes]) -> None:
        self.status = status
        self.line = line
        self.lines = lines
        self.special = special
        self.framing = _NONE
        self.length = 0
        self.is_keep_alive = True

    def field(self, name: bytes) -> bytes:
        """As RequestHead's."""
        return self.special[name] if name in self.special else _field_in(self.lines, name)

    @property
    def is_interim(self) -> bool:
        """Whether the real answer is still to come (1xx), on the same terms: not after protocols were switched."""
        return self.status < 200 and self.status != SWITCHING_PROTOCOLS  # noqa: PLR2004 - RFC 9110 section 15.2


def request_head_untrusted(lines: list[bytes], fields_reader: FieldReader, own: dict[bytes, Field]) -> RequestHead:
    """The head of which these are the lines, request line first. `own`: see FieldReader. Raises MalformedMessage."""
    method, target, path, minor = check_request_line_untrusted(lines[0])
    fields = fields_reader.read_untrusted(lines[1:], own)
    special = fields.special
    head = RequestHead(method, target, minor, fields.lines, special)
    head.path = path
    head.framing = fields.framing(_NONE)
    if head.framing is _LENGTH:
        head.length = fields.length
    head.is_keep_alive = fields.is_keep_alive(head.minor_version)
    _judge(head)
    if b"upgrade" in special and head.minor_version:
        head.upgrade = fields.upgrade()
        if head.upgrade and head.framing is not _NONE:
            raise MalformedMessage("upgrade_with_body")  # where would the body end and the new protocol begin?
    return head


def _judge(head: RequestHead) -> None:
    """Refuse what a backend could understand in another way."""
    special = head.special
    if head.framing is _CHUNKED and not head.minor_version:
        raise MalformedMessage("chunked_in_1_0")
    host = special.get(b"host")
    if host is None and head.minor_version:
        raise MalformedMessage("no_host")
    if not head.target.startswith(b"/"):
        target, authority = origin_form_untrusted(head.method, head.target)
        if authority:
            refuse_bad_host(authority)
            if host and default_port(host) != default_port(authority):
                raise MalformedMessage("host_mismatch")
            special[b"host"] = authority
        head.target = target
        head.path = target.partition(b"?")[0]


def check_request_line_untrusted(line: bytes) -> tuple[bytes, bytes, bytes, int]:
    """The method, target, path and minor version of a request line. Raises MalformedMessage."""
    known = _known_request_lines.get(line)
    if known is not None:
        return known
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[1] or parts[1].translate(None, _VISIBLE):  # noqa: PLR2004 - the three parts
        raise _bad_request_line(line)
    method, target, version = parts
    if method not in _COMMON_METHODS and _METHOD.fullmatch(method) is None:
        raise _bad_request_line(line)
    if version not in _VERSIONS:
        if _ANY_VERSION.fullmatch(version) is None:
            raise _bad_request_line(line)
        raise MalformedMessage("http_version", line, len(line) - 3)
    if method == b"CONNECT":
        raise MalformedMessage("connect", line)
    path = target.partition(b"?")[0]
    read = (method, target, path, _VERSIONS[version])
    if len(line) <= _KNOWN_REQUEST_LINE_BYTES and len(path) == len(target):  # a query may hold what nobody should keep
        if len(_known_request_lines) >= _KNOWN_REQUEST_LINES_LIMIT:
            _known_request_lines.clear()
        _known_request_lines[line] = read
    return read


def _bad_request_line(line: bytes) -> MalformedMessage:
    method = _METHOD_RUN.match(line)
    end = method.end() if method is not None else 0
    if not end:
        return MalformedMessage("method", line)
    for byte, reason in ((b"\n", "bare_lf"), (b"\r", "bare_cr")):
        if byte in line:
            return MalformedMessage(reason, line, line.index(byte))
    if line[end : end + 1] != b" ":
        return MalformedMessage("method", line, end)
    if line.find(b"#") >= 0:
        return MalformedMessage("fragment", line, line.find(b"#"))
    return MalformedMessage("request_line", line, end)


def check_status_line_untrusted(line: bytes) -> tuple[int, bytes, int]:
    """The status, the line as we write it, and the minor version. Raises MalformedMessage."""
    known = _known_status_lines.get(line)
    if known is not None:
        return known
    matched = _STATUS_LINE.fullmatch(line)
    if matched is None:
        raise MalformedMessage("status_line", line)
    version, code, phrase = matched.groups()
    if version not in _VERSIONS:
        raise MalformedMessage("http_version", line)
    read = (int(code), b"HTTP/1.1 %b %b\r\n" % (code, phrase or b""), _VERSIONS[version])
    if len(_known_status_lines) >= _KNOWN_STATUS_LINES_LIMIT:
        _known_status_lines.clear()
    _known_status_lines[line] = read
    return read


def response_head_untrusted(lines: list[bytes], fields_reader: FieldReader, own: dict[bytes, Field]) -> ResponseHead:
    """The head of which these are the lines, status line first. `own`: see FieldReader. Raises MalformedMessage."""
    status, line, minor_version = check_status_line_untrusted(lines[0])
    fields = fields_reader.read_untrusted(lines[1:], own)
    head = ResponseHead(status, line, fields.lines, fields.special)
    has_body = status >= 200 and status not in (204, 304)  # noqa: PLR2004 - RFC 9112 section 6.3
    framing = fields.framing(_CLOSE)
    head.framing = framing = framing if has_body else _NONE
    if framing is _LENGTH:
        head.length = fields.length
    is_lasting = framing is not _CLOSE and (minor_version > 0 or framing is not _CHUNKED)
    head.is_keep_alive = is_lasting and fields.is_keep_alive(minor_version)
    return head


def ended_lines(data: bytes) -> list[bytes]:
    """The lines that are complete. One that ends in a bare line feed keeps it, and so is a fault."""
    lines = data.split(b"\n")[:-1]
    return [line[:-1] if line.endswith(b"\r") else line + b"\n" for line in lines]
