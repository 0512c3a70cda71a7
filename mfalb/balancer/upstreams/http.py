"""TCP connections to the HTTP backends of a pool: kept open, used again, never shared by two exchanges at a time."""

from __future__ import annotations

import asyncio
import logging
import ssl
from abc import ABC, abstractmethod
from typing import Final, cast

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.refusals import reason_of
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.net.clock import Clock
from mfalb.net.lifecycle import Tasks
from mfalb.net.opened_sockets import opened_socket
from mfalb.net.rounds import GatheredWrites, WriteRound
from mfalb.net.tls_reads import SharedReads
from mfalb.wire.http import ResponseReader
from mfalb.wire.http_events import NO_TRAILERS, ResponseEvents
from mfalb.wire.http_fields import RESPONSE_SPECIAL, FieldReader
from mfalb.wire.http_heads import ResponseHead
from mfalb.wire.proxy_protocol import Endpoints, proxy_header

IDLE_LIMIT: Final = 256  # idle connections kept per backend; one more is closed
IDLE_TIMEOUT_S: Final = 30.0  # shorter than any server's own, so that we seldom write into a closing connection
FRESH_S: Final = 1.0  # no server closes a connection that was used so shortly ago for being idle

_log = logging.getLogger("mfalb.upstreams.http")


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

    @abstractmethod
    def flush(self) -> None: ...


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
        self._reader = ResponseReader(self, shared.fields)
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

    def data_received(self, data: bytes) -> None:
        self._clock.read()
        user = self._user
        if user is None:  # nothing was asked: what comes now could be taken for the next answer
            self.abort()
            return
        self._has_received = True
        if self._is_tunnel:
            user.response_body(data)
            user.flush()
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
        user.flush()

    def eof_received(self) -> bool:
        """Whether our half stays open: only that of a tunnel, and not under TLS."""
        self._is_spoilt = not self._is_tunnel
        user = self._user
        if user is None or not self._is_tunnel or self._transport is None or not self._transport.can_write_eof():
            return False
        user.upstream_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = self._out.transport = None
        self._reader.part()
        user = self._user
        if user is None:
            return
        if error is None and self._reader.is_ended_by_close():
            user.response_end(NO_TRAILERS)
        else:
            self._fail("reset" if error is not None else "closed_early")
        user.flush()

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


class HttpUpstream:
    """The connections to all backends of one pool; over TLS when there is a context."""

    def __init__(self, pool: Pool, writes: WriteRound, clock: Clock, tls: ssl.SSLContext | None) -> None:
        self.pool = pool
        self._tasks = Tasks(f"upstream {pool.name}")
        self._ports = {name: HomePort() for name in pool.backends}
        self._shared = Shared(writes, clock)
        self._tls = tls
        self._send_proxy = pool.config.send_proxy
        self._upstream_tls = pool.config.upstream_tls
        self._addresses = {name: backend.address for name, backend in pool.backends.items()}

    @property
    def is_told_endpoints(self) -> bool:
        """Whether its connections begin with a PROXY protocol header."""
        return self._send_proxy is not None

    def follow(self, tls: ssl.SSLContext | None) -> None:
        """The pool's configuration may be another one: what is open is used again only where nothing has changed."""
        backends = self.pool.backends
        config = self.pool.config
        has_changed = (config.send_proxy, config.upstream_tls) != (self._send_proxy, self._upstream_tls)
        for name, port in list(self._ports.items()):
            backend = backends.get(name)
            if has_changed or backend is None or backend.address != self._addresses[name]:
                port.close()
                self._ports[name] = HomePort()  # also for who has left: something may still be on its way there
        for name, backend in backends.items():
            self._ports.setdefault(name, HomePort())
            self._addresses[name] = backend.address
        self._send_proxy, self._upstream_tls, self._tls = config.send_proxy, config.upstream_tls, tls

    def opening(self, endpoints: Endpoints | None) -> bytes:
        """What a connection for this client begins with: its PROXY protocol header, b"" where none is sent."""
        if self._send_proxy is None or endpoints is None:
            return b""
        return proxy_header(self._send_proxy, endpoints)

    def idle_connection(
        self, backend: Backend, opening: bytes = b"", *, must_be_fresh: bool = False
    ) -> UpstreamConnection | None:
        """The connection that was used last, so that the others may time out; None when there is none.

        One that began with a PROXY protocol header is its client connection's only: to the backend it is that client.
        `must_be_fresh`: for a request that cannot be sent a second time when the backend closes an idle connection at
        this very moment.
        """
        idle = self._ports[backend.name].idle
        since = self._shared.clock.now - FRESH_S if must_be_fresh else 0.0
        if opening:
            return self._idle_for(idle, opening, since)
        while idle:
            connection = idle[-1]
            if connection.idle_since < since and connection.is_usable:
                return None
            idle.pop()
            if connection.is_usable:
                return connection
        return None

    @staticmethod
    def _idle_for(idle: list[UpstreamConnection], opening: bytes, since: float) -> UpstreamConnection | None:
        for connection in reversed(idle):
            if connection.opening == opening and connection.idle_since >= since and connection.is_usable:
                idle.remove(connection)
                return connection
        return None

    def connect(self, backend: Backend, user: UpstreamUser, opening: bytes = b"") -> None:
        """Open a connection; the user is told `upstream_connected`, or `upstream_failed` with nothing sent.

        `opening` goes first, before TLS.
        """
        self._tasks.start(f"connect {backend.name}", self._connect(backend, user, opening))

    async def _connect(self, backend: Backend, user: UpstreamUser, opening: bytes) -> None:
        try:
            connection = await self._open(backend, opening)
        except BackendFailure as failure:
            self._shared.clock.read()
            user.upstream_failed(failure)
        else:
            self._shared.clock.read()
            user.upstream_connected(connection)
        user.flush()

    async def _open(self, backend: Backend, opening: bytes) -> UpstreamConnection:
        try:
            async with asyncio.timeout(self.pool.config.connect_timeout_s):
                connection = await self._connected(backend, opening)
        except TimeoutError as error:
            raise BackendFailure(backend.name, "connect_timeout", sent=False) from error
        except ssl.SSLError as error:
            _log.warning("backend TLS failed", extra={"backend": backend.name, "reason": error.reason or "handshake"})
            raise BackendFailure(backend.name, "tls_failed", sent=False) from error
        except OSError as error:
            raise BackendFailure(backend.name, reason_of(error), sent=False) from error
        connection.opening = opening
        return connection

    async def _connected(self, backend: Backend, opening: bytes) -> UpstreamConnection:
        made: list[UpstreamConnection] = []

        def protocol() -> asyncio.BaseProtocol:
            made.append(UpstreamConnection(backend, self._ports[backend.name], self._shared))
            plain = cast(asyncio.Protocol, made[0])
            return plain if self._tls is None else SharedReads(plain)

        tls, loop = self.pool.config.upstream_tls, asyncio.get_running_loop()
        name = None if self._tls is None else (tls.server_name if tls else None) or backend.address.host
        host, port = backend.address
        if opening:
            opened = await opened_socket(host, port, opening)
            await loop.create_connection(protocol, sock=opened, ssl=self._tls, server_hostname=name)
        else:
            await loop.create_connection(protocol, host, port, ssl=self._tls, server_hostname=name)
        return made[0]

    def tick(self, now: float) -> None:
        """Close what has been idle for too long. Called about once a second."""
        for port in self._ports.values():
            kept = []
            for connection in port.idle:
                if connection.is_usable and now - connection.idle_since < IDLE_TIMEOUT_S:
                    kept.append(connection)
                else:
                    connection.abort()
            port.idle[:] = kept

    async def close(self) -> None:
        await self._tasks.close()
        for port in self._ports.values():
            port.close()
