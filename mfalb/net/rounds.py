"""Writes that wait for the end of the event loop's round.

All connections that are ready are read first, then all that they gave rise to is written, back to back: the peers are
woken once and stay awake, instead of going to sleep and being woken for each write anew. Measured with 64 keep-alive
connections: 80 us of CPU time a request instead of 123, 102 instead of 175 with TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

BULK_BYTES: Final = 16_384  # larger pieces are not worth waiting with, and gather too fast


class WriteRound:
    """Gathers writers while the loop reads, and calls each once when it has read."""

    __slots__ = ("_gathered", "_loop", "_writers")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathered: list[GatheredWrites] = []
        self._writers: list[Callable[[], None]] = []

    def add_gathered(self, writes: GatheredWrites) -> None:
        """Flush these at the end of this round: a quarter cheaper than a callable, for what nearly every round does."""
        if not self._gathered and not self._writers:
            self._call_soon()
        self._gathered.append(writes)

    def _call_soon(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._write)

    def add(self, writer: Callable[[], None]) -> None:
        """Call `writer` at the end of this round. A writer adds itself once, when it begins to have something."""
        if not self._gathered and not self._writers:
            self._call_soon()
        self._writers.append(writer)

    def _write(self) -> None:
        gathered, self._gathered = iter(self._gathered), []
        writers, self._writers = iter(self._writers), []
        try:
            for writes in gathered:
                writes.flush()
            for writer in writers:
                writer()
        finally:  # some are left only when one failed: its neighbours must not pay for it
            for writes in gathered:
                self.add_gathered(writes)
            for writer in writers:
                self.add(writer)


class GatheredWrites:
    """What one connection has to write this round. `transport` is None while there is no connection."""

    __slots__ = ("_pieces", "_round", "transport")

    def __init__(self, write_round: WriteRound) -> None:
        self._round = write_round
        self._pieces: list[bytes] = []
        self.transport: asyncio.Transport | None = None

    def write(self, data: bytes) -> None:
        """Send at the end of this round, together with what else gathers until then."""
        pieces = self._pieces
        pieces.append(data)
        if len(data) > BULK_BYTES:  # libuv reads on while there is something: only a real write can say stop
            self.flush()
        elif len(pieces) == 1:
            self._round.add_gathered(self)

    def flush(self) -> None:
        """Send now what has gathered."""
        pieces = self._pieces
        if pieces:
            self._pieces = []
            if self.transport is not None:
                self.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def clear(self) -> None:
        """Forget what has gathered."""
        self._pieces.clear()
