"""What TLS connections read passes through one buffer for all of them."""

from __future__ import annotations

import asyncio
from typing import Final

# uvloop would make a block of 256 KiB for each read and cut it to what came: 5 % of the CPU time of a TLS request
_BUFFER: Final = memoryview(bytearray(256 * 1024))


class SharedReads(asyncio.BufferedProtocol):
    """Passes a connection's events on to a plain protocol, and what was read as bytes of its own.

    One event loop a process may use it: the buffer holds something only while `buffer_updated` runs.
    """

    __slots__ = ("_protocol", "_received")

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._received = protocol.data_received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - all there is
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self._received(bytes(_BUFFER[:nbytes]))

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
