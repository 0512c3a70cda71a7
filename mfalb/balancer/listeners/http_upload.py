"""A request's body on its way to the backend: kept while there is none, framed as it came, and fast enough."""

from __future__ import annotations

from typing import Final

from mfalb.balancer.listeners.http_pace import BodyPace
from mfalb.wire.http_bodies import chunk, last_chunk
from mfalb.wire.http_events import NO_TRAILERS
from mfalb.wire.http_fields import Framing

PENDING_LIMIT: Final = 65_536  # bytes of a body kept while a backend is connected; then the client is not read on
_NO_BODY: Final = Framing.NONE
_CHUNKED: Final = Framing.CHUNKED


class Upload:
    """`is_done`: the client has sent all of it. `collect_limit` is above 0 while the whole body is asked for."""

    __slots__ = ("_is_chunked", "_kept", "_kept_bytes", "_pace", "_trailers", "collect_limit", "is_done", "size")

    def __init__(self, framing: Framing, bytes_per_s: int, now: float) -> None:
        self._is_chunked = framing is _CHUNKED
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._trailers = NO_TRAILERS
        self.is_done = framing is _NO_BODY
        self._pace: BodyPace | None = None if self.is_done else BodyPace(bytes_per_s, now)
        self.collect_limit = 0
        self.size = 0

    def count(self, size: int) -> None:
        """So many bytes came from the client."""
        self.size += size
        if self._pace is not None:
            self._pace.earn(size)

    def is_too_slow(self, now: float, *, is_paused: bool) -> bool:
        """Whether the client sends more slowly than it may."""
        return not self.is_done and self._pace is not None and self._pace.is_too_slow(now, is_paused=is_paused)

    def keep(self, data: bytes) -> None:
        """There is nobody yet to send it to."""
        self._kept.append(data)
        self._kept_bytes += len(data)

    @property
    def is_past_collecting(self) -> bool:
        """Whether it is larger than what is collected."""
        return self._kept_bytes > self.collect_limit

    @property
    def is_full(self) -> bool:
        """Whether no more should be kept."""
        return self._kept_bytes > PENDING_LIMIT

    @property
    def kept(self) -> bytes:
        """All that is kept, as one."""
        return b"".join(self._kept)

    def framed(self, data: bytes) -> bytes:
        """Some of the body as it goes out."""
        return chunk(data) if self._is_chunked else data

    def end(self, trailers: list[bytes]) -> None:
        """The client has sent all of it."""
        self.is_done = True
        self._trailers = trailers

    def take_kept(self) -> bytes:
        """What was kept, as it goes out, and the end if that has come."""
        pieces = [self.framed(piece) for piece in self._kept]
        self._kept.clear()
        self._kept_bytes = 0
        if self.is_done:
            pieces.append(self.ending)
        return b"".join(pieces)

    @property
    def ending(self) -> bytes:
        """What goes out behind the last of the body, once the client has sent that; b"" for nothing."""
        return last_chunk(self._trailers) if self._is_chunked else b""
