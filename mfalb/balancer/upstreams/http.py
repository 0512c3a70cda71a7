"""TCP connections to the HTTP backends of a pool: kept open, used again, never shared by two exchanges at a time."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol, cast

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.net.lifecycle import Tasks
from mfalb.net.opened_sockets import opened_socket
from mfalb.net.rounds import GatheredWrites, WriteRound
from mfalb.wire.http import ResponseHead, ResponseReader
from mfalb.wire.proxy_protocol import Endpoints, proxy_header

IDLE_LIMIT: Final = 256  # idle connections kept per backend; one more is closed
IDLE_TIMEOUT_S: Final = 30.0  # shorter than any server's own, so that we seldom write into a closing connection
HEAD_LIMIT_BYTES: Final = 262_144  # of an answer, interim ones included; past that it is no answer

_log = logging.getLogger("mfalb.upstreams.http")


class UpstreamUser(Protocol):
    """Who uses a connection for one exchange, and is told what comes back."""

    def response_head(self, head: ResponseHead) -> None: ...

    def response_body(self, data: bytes) -> None: ...

    def response_end(self) -> None: ...

    def upstream_connected(self, connection: UpstreamConnection) -> None: ...

    def upstream_failed(self, failure: BackendFailure) -> None: ...

    def upstream_pause(self) -> None: ...

    def upstream_resume(self) -> None: ...

    def flush(self) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection. Idle, or used by one exchange from `begin` to `release` or `abort`."""

    __slots__ = (
        "_backend",
        "_has_ended",
        "_has_head",
        "_has_received",
        "_head_bytes",
        "_home",
        "_is_paused",
        "_is_spoilt",
        "_out",
        "_reader",
        "_transport",
        "_user",
        "idle_since",
        "is_reused",
        "opening",
    )

    def __init__(self, backend: Backend, home: Callable[[UpstreamConnection], None], writes: WriteRound) -> None:
        self._backend = backend
        self._out = GatheredWrites(writes)
        self._home = home
        self._reader = _AnswerReader(self)
        self._transport: asyncio.Transport | None = None
        self._user: UpstreamUser | None = None
        self._has_received = False
        self._has_head = False
        self._has_ended = False
        self._is_spoilt = False
        self._is_paused = False
        self._head_bytes = 0
        self.is_reused = False
        self.idle_since = 0.0
        self.opening = b""

    # ------------------------------------------------------------------------------ used by an exchange

    def begin(self, user: UpstreamUser, method: bytes) -> None:
        """The connection is this user's now; its request's head comes next by `write`."""
        self._user = user
        self._has_received = self._has_head = self._has_ended = False
        self._head_bytes = 0
        self._reader.expect(method)
        self._backend.active += 1
        self._backend.requests += 1

    def write(self, data: bytes) -> None:
        self._out.write(data)

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
        self._leave()
        if is_reusable and not self._is_spoilt and self.is_usable:
            self.resume()  # an idle connection must be able to say that it ended
            self.is_reused = True
            self.idle_since = monotonic()
            self._home(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._leave()
        self._out.clear()
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        if self._user is not None:
            self._user = None
            self._backend.active -= 1

    @property
    def is_usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # ------------------------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._out.transport = cast(asyncio.Transport, transport)  # uvloop's do not register as one

    def data_received(self, data: bytes) -> None:
        user = self._user
        if user is None:  # nothing was asked: what comes now could be taken for the next answer
            self.abort()
            return
        self._has_received = True
        try:
            self._reader.feed_untrusted(data)
        except MalformedMessage as error:
            self._is_spoilt = True
            if not self._has_ended:
                self._fail(error.reason)
        if self._has_ended:
            # Only now, when all of this read was looked at: bytes behind the answer would be taken for the next one
            self._is_spoilt = self._is_spoilt or self._reader.is_in_message
            user.response_end()
        elif not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._fail("header_bytes")
        user.flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = self._out.transport = None
        user = self._user
        if user is None:
            return
        if error is None and self._reader.is_ended_by_close():
            user.response_end()
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
        user = self._user
        # A connection from the pool that dies before its first byte of answer was most likely closing already
        reason = "stale" if self.is_reused and not self._has_received and reason != "http_syntax" else reason
        self.abort()
        if user is not None:
            user.upstream_failed(BackendFailure(self._backend.name, reason, sent=True))

    # ------------------------------------------------------------------------------ the reader's events

    def response_head(self, head: ResponseHead) -> None:
        if self._has_ended:
            self._is_spoilt = True
        elif self._user is not None:
            self._has_head = not head.is_interim
            self._user.response_head(head)

    def response_body(self, data: bytes) -> None:
        if self._has_ended:
            self._is_spoilt = True
        elif self._user is not None:
            self._user.response_body(data)

    def response_end(self) -> None:
        self._has_ended = True
        self._reader.is_in_message = False


class _AnswerReader(ResponseReader):
    """Also knows whether another message has begun behind the one that ended, be it by a single byte.

    Two answers to one request are how a backend's caches and queues are poisoned (response splitting).
    """

    is_in_message = False

    def on_message_begin(self) -> None:
        self.is_in_message = True
        super().on_message_begin()


class HttpUpstream:
    """The connections to all backends of one pool; over TLS when there is a context."""

    def __init__(self, pool: Pool, writes: WriteRound, tls: ssl.SSLContext | None) -> None:
        self._pool = pool
        self._writes = writes
        self._tasks = Tasks(f"upstream {pool.name}")
        self._idle: dict[str, list[UpstreamConnection]] = {name: [] for name in pool.backends}
        self._tls = tls
        self._send_proxy = pool.config.send_proxy

    @property
    def is_told_endpoints(self) -> bool:
        """Whether its connections begin with a PROXY protocol header."""
        return self._send_proxy is not None

    def opening(self, endpoints: Endpoints | None) -> bytes:
        """What a connection for this client begins with: its PROXY protocol header, b"" where none is sent."""
        if self._send_proxy is None or endpoints is None:
            return b""
        return proxy_header(self._send_proxy, endpoints)

    def idle_connection(self, backend: Backend, opening: bytes = b"") -> UpstreamConnection | None:
        """The connection that was used last, so that the others may time out; None when there is none.

        One that began with a PROXY protocol header is its client connection's only: to the backend it is that client.
        """
        idle = self._idle[backend.name]
        if opening:
            return self._idle_for(idle, opening)
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
        return None

    @staticmethod
    def _idle_for(idle: list[UpstreamConnection], opening: bytes) -> UpstreamConnection | None:
        for connection in reversed(idle):
            if connection.opening == opening and connection.is_usable:
                idle.remove(connection)
                return connection
        return None

    def connect(self, backend: Backend, user: UpstreamUser, opening: bytes = b"") -> None:
        """Open a connection; the user is told `upstream_connected`, or `upstream_failed` with nothing sent.

        `opening` goes first, before TLS.
        """
        backend.active += 1  # at once: in a burst all would choose the one whose connections are yet to open
        self._tasks.start(f"connect {backend.name}", self._connect(backend, user, opening))

    async def _connect(self, backend: Backend, user: UpstreamUser, opening: bytes) -> None:
        try:
            connection = await self._opened(backend, opening)
        except BackendFailure as failure:
            user.upstream_failed(failure)
        else:
            user.upstream_connected(connection)
        user.flush()

    async def _opened(self, backend: Backend, opening: bytes) -> UpstreamConnection:
        try:
            return await self._open(backend, opening)
        finally:
            backend.active -= 1  # from here on the connection counts it

    async def _open(self, backend: Backend, opening: bytes) -> UpstreamConnection:
        try:
            async with asyncio.timeout(self._pool.config.connect_timeout_s):
                connection = await self._connected(backend, opening)
        except TimeoutError as error:
            raise BackendFailure(backend.name, "connect_timeout", sent=False) from error
        except ssl.SSLError as error:
            _log.warning("backend TLS failed", extra={"backend": backend.name, "reason": error.reason or "handshake"})
            raise BackendFailure(backend.name, "tls_failed", sent=False) from error
        except OSError as error:
            raise BackendFailure(backend.name, "connect_refused", sent=False) from error
        connection.opening = opening
        return connection

    async def _connected(self, backend: Backend, opening: bytes) -> UpstreamConnection:
        idle = self._idle[backend.name]

        def home(connection: UpstreamConnection) -> None:
            if len(idle) < IDLE_LIMIT:
                idle.append(connection)
            else:
                connection.abort()

        def protocol() -> UpstreamConnection:
            return UpstreamConnection(backend, home, self._writes)

        tls, loop = self._pool.config.upstream_tls, asyncio.get_running_loop()
        name = None if self._tls is None else (tls.server_name if tls else None) or backend.address.host
        host, port = backend.address
        if opening:
            opened = await opened_socket(host, port, opening)
            _, connection = await loop.create_connection(protocol, sock=opened, ssl=self._tls, server_hostname=name)
        else:
            _, connection = await loop.create_connection(protocol, host, port, ssl=self._tls, server_hostname=name)
        return connection

    def tick(self, now: float) -> None:
        """Close what has been idle for too long. Called about once a second."""
        for idle in self._idle.values():
            kept = []
            for connection in idle:
                if connection.is_usable and now - connection.idle_since < IDLE_TIMEOUT_S:
                    kept.append(connection)
                else:
                    connection.abort()
            idle[:] = kept

    async def close(self) -> None:
        await self._tasks.close()
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
            idle.clear()
