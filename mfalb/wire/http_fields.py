"""The header fields of one message: which ones a proxy must look into, and what they say of its framing."""

from __future__ import annotations

from enum import Enum
from itertools import product
from typing import Final

from mfalb.errors import MalformedMessage

_COUNT_DIGITS_LIMIT: Final = 18  # of a Content-Length: more cannot be meant

_HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
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
        b"proxy-authorization",
        b"proxy",  # CGI shows it as HTTP_PROXY, which programs obey (CVE-2016-5385): never passed on
    )
)
# CGI and its heirs show X_Forwarded_For and X-Forwarded-For as one: a client's field would pass for ours
_DISGUISED: Final = (
    frozenset(
        bytes(octets)
        for name in REQUEST_SPECIAL
        for octets in product(*(b"-_" if octet == ord("-") else (octet,) for octet in name))
    )
    - REQUEST_SPECIAL
)
RESPONSE_SPECIAL: Final = _HOP_BY_HOP | frozenset((b"content-length", b"content-encoding", b"proxy-authenticate"))
_ONLY_ONCE: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_PLAIN_CONNECTION: Final = frozenset((b"keep-alive", b"close", b""))


class Framing(Enum):
    """How the end of a body is known."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Fields:
    """The header lines of one head, sorted into special ones and others."""

    __slots__ = ("lines", "special")

    def __init__(self, headers: list[tuple[bytes, bytes]], special_names: frozenset[bytes]) -> None:
        self.lines: list[bytes] = []
        self.special: dict[bytes, bytes] = {}
        lines, special = self.lines, self.special
        for name, value in headers:
            lower = name.lower()
            if lower not in special_names:
                if lower in _DISGUISED and special_names is REQUEST_SPECIAL:
                    raise MalformedMessage("underscore_in_field_name")
                lines.append(b"%b: %b\r\n" % (name, value))
                continue
            value = value.rstrip()  # noqa: PLW2901 - blanks behind a value are not of it (RFC 9110 section 5.5)
            if lower not in special:
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
