"""RADIUS packets in a byte stream (RFC 6613 section 2.1): they follow one another, and each says how long it is.

A packet's first four bytes are Code (1), Identifier (1) and Length (2, of the whole packet). Nothing marks where one
begins: behind a Length that cannot be right nothing can be read any more, and the connection has to be closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mfalb.errors import MalformedMessage
from mfalb.wire.radius import HEADER_BYTES, LIMIT_BYTES

_LENGTH_END: Final = 4  # of the Length field: as soon as so much is there, Length is judged


class PacketStream:
    """One direction of a connection. It holds less than one packet: at most 4095 bytes."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_in_packet(self) -> bool:
        """Whether a packet has begun and is not whole."""
        return bool(self._rest)

    def packets_untrusted(self, data: bytes) -> Iterator[bytes]:
        """The packets that these bytes complete, in order; what is left waits for more.

        Raises MalformedMessage behind the packets that came before a Length under 20 or over 4096 (RFC 6613 section
        2.6.4: close the connection); nothing may be fed after that. Take all packets before feeding more.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position, end = 0, len(data)
        while end - position >= _LENGTH_END:
            length = data[position + 2] << 8 | data[position + 3]
            if length < HEADER_BYTES or length > LIMIT_BYTES:
                raise MalformedMessage("bad_length")
            if end - position < length:
                break
            yield data[position : position + length]
            position += length
        self._rest = data[position:]
