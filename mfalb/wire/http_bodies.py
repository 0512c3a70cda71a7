"""Bodies in chunks (RFC 9112 section 7.1): bytes to data and trailers, and back.

chunk        = size-in-hex [;extension] CRLF data CRLF
last-chunk   = 0 [;extension] CRLF
then           trailer-field CRLF ...  CRLF
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from mfalb.errors import MalformedMessage
from mfalb.wire.http_fields import trailer_untrusted

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t -~\x80-\xff]*)?")
_IN_SIZE: Final = 0
_IN_DATA: Final = 1
_IN_DATA_END: Final = 2
_IN_TRAILERS: Final = 3
_TRAILER_COUNT_LIMIT: Final = 64

LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: list[bytes]) -> bytes:
    """The end of a chunked body. `trailers` are finished lines."""
    return b"0\r\n%b\r\n" % b"".join(trailers) if trailers else LAST_CHUNK


class BodyFault(NamedTuple):
    """What MalformedMessage says, kept as a plain value.

    An exception that is kept keeps its traceback, and with that the frames of all who were reading and what they read.
    When it is kept by what one of them was working on, all of it waits for a full garbage collection: 36 KB for each
    body that broke (tests/scenarios/test_http_chaos.py).
    """

    reason: str
    culprit: bytes
    offset: int


class ChunkedBody:
    """Reads one chunked body.

    What is no data (sizes, extensions, trailers) may not grow past `limit_bytes` more than the data does: extensions
    and one-byte chunks are a cheap way to make a reader work.
    """

    __slots__ = ("_allowance", "_kept", "_left", "_limit_bytes", "_place", "fault", "is_ended", "rest", "trailers")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = self._allowance = limit_bytes
        self._kept = b""
        self._left = 0
        self._place: int = _IN_SIZE
        self.fault: BodyFault | None = None
        self.is_ended = False
        self.rest = b""  # what stands behind the body
        self.trailers: list[bytes] = []

    def feed_untrusted(self, data: bytes) -> bytes:
        """The data in the next piece of the stream. A `fault` behind them ends the body."""
        pieces: list[bytes] = []
        try:
            self._feed_untrusted(data, pieces)
        except MalformedMessage as error:
            self.fault = BodyFault(error.reason, error.culprit, error.offset)
        if not pieces:
            return b""
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _feed_untrusted(self, data: bytes, pieces: list[bytes]) -> None:
        if self._kept:
            data, self._kept = self._kept + data, b""
        at, size = 0, len(data)
        while at < size and not self.is_ended:
            if self._place == _IN_DATA:
                end = min(at + self._left, size)
                pieces.append(data[at:end])
                self._left -= end - at
                self._allowance += end - at
                at = end
                if not self._left:
                    self._place = _IN_DATA_END
            elif self._place == _IN_DATA_END:
                if data[at : at + 2] != b"\r\n":
                    if size - at > 1 or data[at] != ord("\r"):
                        raise MalformedMessage("chunk_end", data[at : at + 2])
                    break
                at += 2
                self._place = _IN_SIZE
            else:
                end = data.find(b"\n", at)
                if end < 0:
                    break
                self._line_untrusted(data[at : end + 1])
                at = end + 1
        if self.is_ended:
            self.rest = data[at:]
        elif at < size:
            self._keep_untrusted(data[at:])

    def _keep_untrusted(self, data: bytes) -> None:
        self._kept = data
        if len(data) > self._allowance:
            raise MalformedMessage("chunk_overhead", data[:16])

    def _line_untrusted(self, line: bytes) -> None:
        self._allowance -= len(line)
        if self._allowance < 0:
            raise MalformedMessage("chunk_overhead", line[:16])
        if not line.endswith(b"\r\n"):
            raise MalformedMessage("bare_lf", line, len(line) - 1)
        line = line[:-2]
        if self._place == _IN_SIZE:
            self._size_untrusted(line)
        elif line:
            self._trailer_untrusted(line)
        else:
            self.is_ended = True

    def _size_untrusted(self, line: bytes) -> None:
        matched = _SIZE.fullmatch(line)
        if matched is None:
            raise MalformedMessage("chunk_size", line + b"\r\n")
        self._left = int(matched.group(1), 16)
        self._place = _IN_DATA if self._left else _IN_TRAILERS

    def _trailer_untrusted(self, line: bytes) -> None:
        if len(self.trailers) >= _TRAILER_COUNT_LIMIT:
            raise MalformedMessage("header_count", line)
        trailer = trailer_untrusted(line)
        if trailer:
            self.trailers.append(trailer)
