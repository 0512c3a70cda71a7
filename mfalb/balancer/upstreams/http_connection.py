"""One TCP connection to an HTTP backend: used by one exchange at a time, and where it waits in between."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Final, cast

from mfalb.balancer.pools.backend import Backend
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.net.clock import Clock
from mfalb.net.rounds import GatheredWrites, WriteRound
from mfalb.wire.http import ResponseReader
from mfalb.wire.http_events import NO_TRAILERS, ResponseEvents
from mfalb.wire.http_fields import RESPONSE_SPECIAL, FieldReader
from mfalb.wire.http_heads import ResponseHead

IDLE_LIMIT: Final = 256  # idle connections kept per backend; one more is closed


class UpstreamUser(ABC):
    """Who uses a connection for one exchange, and is told what comes back."""

    __slots__ = ()

    @abstractmethod
    def response_head(self, head: ResponseHead) -> None: ...

    @abstractmethod
    def response_body(self, data: bytes) -> None: ...

    @abstractmethod
    def response_end(self, trailers: list[bytes]) -> None: ...

    @abstractmethod
    def upstream_connected(self, connection: UpstreamConnection) -> None: ...

    @abstractmethod
    def upstream_failed(self, failure: BackendFailure) -> None: ...

    @abstractmethod
    def upstream_eof(self) -> None:
        """Of a tunnel: the backend sends nothing more."""

    @abstractmethod
    def upstream_pause(self) -> None: ...

    @abstractmethod
    def upstream_resume(self) -> None: ...


class Shared:
    """What all connections of a pool share."""

    __slots__ = ("clock", "fields", "writes")

    def __init__(self, writes: WriteRound, clock: Clock) -> None:
        self.writes = writes
        self.clock = clock
        self.fields = FieldReader(RESPONSE_SPECIAL, is_for_requests=False)


class UpstreamConnection(ResponseEvents):
    """One connection. Idle, or used by one exchange from `begin` to `release` or `abort`.

    An `asyncio.Protocol` in all but its ancestry, which compiled classes cannot have.
    """

    __slots__ = (
        "_backend",
        "_clock",
        "_fields",
        "_has_ended",
        "_has_received",
        "_home",
        "_is_paused",
        "_is_spoilt",
        "_is_tunnel",
        "_out",
        "_reader",
        "_trailers",
        "_transport",
        "_user",
        "idle_since",
        "is_reused",
        "opening",
    )

    def __init__(self, backend: Backend, home: HomePort, shared: Shared) -> None:
        self._backend = backend
        self._out = GatheredWrites(shared.writes)
        self._home = home
        self._fields = shared.fields
        self._clock = shared.clock
        self._transport: asyncio.Transport | None = None
        self._user: UpstreamUser | None = None
        self._has_received = False
        self._has_ended = False
        self._is_spoilt = False
        self._is_paused = False
        self._is_tunnel = False
        self._trailers: list[bytes] = NO_TRAILERS
        self.is_reused = False
        self.idle_since = 0.0
        self.opening = b""

    # ------------------------------------------------------------------------------ used by an exchange

    def begin(self, user: UpstreamUser, method: bytes, may_switch: bool) -> None:
        """The connection is this user's now; its request's head comes next by `write`."""
        self._user = user
        self._has_received = self._has_ended = False
        self._reader.expect(method, may_switch=may_switch)
        self._backend.requests += 1

    def write(self, data: bytes) -> None:
        self._out.write(data)

    def write_eof(self) -> None:
        """Of a tunnel: the client sends nothing more."""
        self._out.flush()
        if self._transport is None:
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def begin_tunnel(self) -> bytes:
        """Protocols were switched: from now on every byte passes. Returns what came behind the head."""
        self._is_tunnel = True
        return self._reader.take_rest()

    def pause(self) -> None:
        if self._transport is not None and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def release(self, *, is_reusable: bool) -> None:
        """The exchange is complete. Only a connection on which both messages ended may be used again."""
        self._user = None
        if is_reusable and self.is_usable:
            self.resume()  # an idle connection must be able to say that it ended
            self.is_reused = True
            self.idle_since = self._clock.now
            self._home.take_back(self)
        else:
            self.abort()

    def leave(self) -> None:
        """Close, but let what was written reach the backend."""
        self._user = None
        self._out.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._is_spoilt = True
        self._user = None
        self._out.clear()
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_usable(self) -> bool:
        return self._transport is not None and not self._is_spoilt

    # ------------------------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._out.transport = cast(asyncio.Transport, transport)  # uvloop's do not register as one
        # Not made before: who is never connected is never lost either, and nothing would part the two
        self._reader = ResponseReader(self, self._fields)

    def data_received(self, data: bytes) -> None:
        self._clock.read()
        user = self._user
        if user is None:  # nothing was asked: what comes now could be taken for the next answer
            self.abort()
            return
        self._has_received = True
        if self._is_tunnel:
            user.response_body(data)
            return
        try:
            self._reader.feed_untrusted(data)
        except MalformedMessage as error:
            self._is_spoilt = True
            if not self._has_ended:
                self._fail(error.reason)
        if self._has_ended:
            # Only now, when all of this read was looked at: bytes behind the answer would be taken for the next one
            self._is_spoilt = self._is_spoilt or self._reader.has_rest
            self._has_ended = False
            user.response_end(self._trailers)

    def eof_received(self) -> bool:
        """Whether our half stays open: only that of a tunnel, and not under TLS."""
        self._clock.read()
        self._is_spoilt = not self._is_tunnel
        user = self._user
        if user is None or not self._is_tunnel or self._transport is None or not self._transport.can_write_eof():
            return False
        user.upstream_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._clock.read()
        self._transport = self._out.transport = None
        self._reader.part()
        user = self._user
        if user is None:
            return
        if error is None and self._reader.is_ended_by_close():
            user.response_end(NO_TRAILERS)
        else:
            self._fail("reset" if error is not None else "closed_early")

    def pause_writing(self) -> None:
        if self._user is not None:
            self._user.upstream_pause()

    def resume_writing(self) -> None:
        if self._user is not None:
            self._user.upstream_resume()

    def _fail(self, reason: str) -> None:
        user, is_answered = self._user, self._has_received
        # A connection from the pool that dies before its first byte of answer was most likely closing already
        if self.is_reused and not is_answered and reason in ("reset", "closed_early"):
            reason = "stale"
        self.abort()
        if user is not None:
            user.upstream_failed(BackendFailure(self._backend.name, reason, sent=True, is_answered=is_answered))

    # ------------------------------------------------------------------------------ the reader's events

    def response_head(self, head: ResponseHead) -> None:
        if self._user is not None:
            self._user.response_head(head)

    def response_body(self, data: bytes) -> None:
        if self._user is not None:
            self._user.response_body(data)

    def response_end(self, trailers: list[bytes]) -> None:
        self._has_ended = True
        self._trailers = trailers


class HomePort:
    """Where the idle connections to one backend wait for their next use; the one used last is taken first."""

    __slots__ = ("idle", "is_closed")

    def __init__(self) -> None:
        self.idle: list[UpstreamConnection] = []
        self.is_closed = False

    def close(self) -> None:
        """Nobody waits here any more."""
        self.is_closed = True
        for connection in self.idle:
            connection.abort()
        self.idle.clear()

    def take_back(self, connection: UpstreamConnection) -> None:
        """It waits here, unless there are enough already."""
        if len(self.idle) < IDLE_LIMIT and not self.is_closed:
            self.idle.append(connection)
        else:
            connection.abort()
