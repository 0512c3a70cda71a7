"""TCP connections to the HTTP backends of a pool: kept open, used again, never shared by two exchanges at a time."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Final, cast

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.http_connection import HomePort, Shared, UpstreamConnection, UpstreamUser
from mfalb.balancer.upstreams.refusals import reason_of
from mfalb.errors import BackendFailure
from mfalb.net.clock import Clock
from mfalb.net.lifecycle import Tasks
from mfalb.net.opened_sockets import opened_socket
from mfalb.net.rounds import WriteRound
from mfalb.net.tls_end import TlsEnd, TlsTerms
from mfalb.wire.proxy_protocol import Endpoints, proxy_header

IDLE_TIMEOUT_S: Final = 30.0  # shorter than any server's own, so that we seldom write into a closing connection
FRESH_S: Final = 1.0  # no server closes a connection that was used so shortly ago for being idle

_log = logging.getLogger("mfalb.upstreams.http")


class HttpUpstream:
    """The connections to all backends of one pool; over TLS when there is a context."""

    def __init__(self, pool: Pool, writes: WriteRound, clock: Clock, tls: ssl.SSLContext | None) -> None:
        self.pool = pool
        self._tasks = Tasks(f"upstream {pool.name}")
        self._ports = {name: HomePort() for name in pool.backends}
        self._shared = Shared(writes, clock)
        self._terms = _terms(pool, tls)
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
        self._send_proxy, self._upstream_tls = config.send_proxy, config.upstream_tls
        self._terms = _terms(self.pool, tls)

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
        connection = UpstreamConnection(backend, self._ports[backend.name], self._shared)
        protocol, end = cast(asyncio.Protocol, connection), None
        if self._terms is not None:
            tls = self.pool.config.upstream_tls
            end = TlsEnd(self._terms, protocol, (tls.server_name if tls else None) or backend.address.host)
            protocol = cast(asyncio.Protocol, end)
        loop, (host, port) = asyncio.get_running_loop(), backend.address
        if opening:
            await loop.create_connection(lambda: protocol, sock=await opened_socket(host, port, opening))
        else:
            await loop.create_connection(lambda: protocol, host, port)
        if end is not None:
            await end.opened()
        return connection

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


def _terms(pool: Pool, tls: ssl.SSLContext | None) -> TlsTerms | None:
    return None if tls is None else TlsTerms(tls, pool.config.connect_timeout_s)
