"""HTTP and TCP listeners of a worker: begun, changed, left to end."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence

from mfalb.balancer.affinity.cookie import CookieSealer
from mfalb.balancer.config.models import HttpListener
from mfalb.balancer.config.tcp_models import TcpListener
from mfalb.balancer.exchange.http import HttpExchange, HttpExchanges
from mfalb.balancer.exchange.tcp import TcpExchanges
from mfalb.balancer.listeners.http import HttpListener as HttpListenerShell
from mfalb.balancer.listeners.http_parts import HttpParts, Suspicion
from mfalb.balancer.listeners.tcp import TcpListener as TcpListenerShell
from mfalb.balancer.listeners.tcp_parts import TcpParts
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.http import HttpUpstream
from mfalb.balancer.upstreams.tcp import TcpUpstream
from mfalb.balancer.wiring.parts import Wiring
from mfalb.errors import BackendFailure
from mfalb.wire.http_fields import REQUEST_SPECIAL, FieldReader

StreamListener = HttpListener | TcpListener
Shell = HttpListenerShell | TcpListenerShell


def has_same_frame(one: StreamListener, other: StreamListener) -> bool:
    """Whether a listener can become another without being opened anew."""
    return _frame(one) == _frame(other)


def _frame(listener: StreamListener) -> tuple[object, ...]:
    is_tls = isinstance(listener, HttpListener) and listener.tls is not None
    return (listener.protocol, listener.bind, listener.proxy_protocol, is_tls)


class Streams:
    """The stream listeners of a worker and their upstreams, by name."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._shells: dict[str, Shell] = {}
        self._leaving: list[Shell] = []
        self._upstreams: dict[str, HttpUpstream] = {}
        self._tcp_upstreams: dict[str, TcpUpstream] = {}

    @property
    def suspicions(self) -> dict[str, deque[Suspicion]]:
        """What each HTTP listener refused because it could be read in two ways, the last of them."""
        return {name: one.parts.suspicions for name, one in self._shells.items() if isinstance(one, HttpListenerShell)}

    async def add(self, listener: StreamListener, sockets: Sequence[socket.socket]) -> None:
        """Serve one more. Raises OSError and ssl.SSLError."""
        shell = self._tcp(listener, sockets) if isinstance(listener, TcpListener) else self._http(listener, sockets)
        self._shells[listener.name] = shell
        await shell.start()

    def change(self, listener: StreamListener) -> None:
        """Be what the configuration says now, for connections that are open, too: from their next request on."""
        shell = self._shells[listener.name]
        if isinstance(listener, TcpListener):
            self._change_tcp(shell, listener)
        elif isinstance(shell, HttpListenerShell):
            parts = shell.parts
            parts.exchanges = self._exchanges(listener)
            parts.fields = self._request_fields(listener)
            asked = None if listener.tls is None else listener.tls.client_certificates
            parts.identity_headers = None if asked is None else asked.headers
            parts.limit(listener.limits)
            shell.limit()

    def remove(self, name: str) -> None:
        """Accept nobody more; connections that are open end when they have nothing more to do."""
        shell = self._shells.pop(name)
        shell.retire()
        self._leaving.append(shell)

    def retire(self) -> None:
        """Accept nobody more anywhere."""
        for shell in self._shells.values():
            shell.retire()

    @property
    def left(self) -> int:
        """Connections that are open."""
        return sum(shell.connections for shell in (*self._shells.values(), *self._leaving))

    def follow_pools(self) -> None:
        """Pools have other backends, or other TLS: idle connections to who is gone are let go of."""
        for upstream in self._upstreams.values():
            pool = upstream.pool
            if self._wiring.pools.get(pool.name) is pool:  # else it has left the configuration
                upstream.follow(self._wiring.tls_towards(pool))

    def call_next(self, pool: Pool) -> None:
        """A place may have become free."""
        for shell in (*self._shells.values(), *self._leaving):
            if isinstance(shell, HttpListenerShell):
                shell.parts.call_next(pool)

    def tick(self, now: float) -> None:
        """About once a second."""
        for shell in (*self._shells.values(), *self._leaving):
            shell.tick()
        self._leaving = [shell for shell in self._leaving if shell.connections]
        for upstream in self._upstreams.values():
            upstream.tick(now)

    async def close(self) -> None:
        """Let go of everything; what is under way is cut off."""
        for shell in (*self._shells.values(), *self._leaving):
            await shell.close()
        for upstream in self._upstreams.values():
            await upstream.close()
        for tcp_upstream in self._tcp_upstreams.values():
            await tcp_upstream.close()

    # ------------------------------------------------------------------------------ HTTP

    def _http(self, listener: HttpListener, sockets: Sequence[socket.socket]) -> HttpListenerShell:
        wiring = self._wiring
        asked = None if listener.tls is None else listener.tls.client_certificates
        parts = HttpParts(
            self._exchanges(listener),
            self._upstreams,
            wiring.pins,
            listener.limits,
            wiring.count(listener.name, listener.protocol),
            wiring.access_log,
            self._failed,
            self._failed,
            wiring.evidence.answered,
            wiring.writes,
            self._request_fields(listener),
            None if asked is None else asked.headers,
            wiring.clock,
        )
        parts.sharing = wiring.sharing
        tls = None if listener.tls is None else wiring.tls_files.server(listener.name, listener.tls.files)
        return HttpListenerShell(parts, sockets, tls, listener.proxy_protocol)

    def _exchanges(self, listener: HttpListener) -> HttpExchanges:
        wiring = self._wiring
        for route in listener.routes:
            pool, known = wiring.pools[route.pool], self._upstreams.get(route.pool)
            if known is None or known.pool is not pool:  # a pool that left and came back is another one
                self._upstreams[route.pool] = HttpUpstream(pool, wiring.writes, wiring.clock, wiring.tls_towards(pool))
        keys = [key.reveal() for key in wiring.config.pins.cookie_keys]
        return HttpExchanges(listener, wiring.pools, wiring.pins, CookieSealer(keys) if keys else None)

    def _request_fields(self, listener: HttpListener) -> FieldReader:
        """Reads requests' fields. Those that tell of certificates stay behind, whichever listener makes them.

        Pools may be shared: over a listener that asks nobody for a certificate anyone could claim to have one.
        """
        every = [one for one in self._wiring.config.listeners if isinstance(one, HttpListener) and one.tls]
        asked = [one.tls.client_certificates for one in every if one.tls is not None]
        names = {name.lower().encode() for one in asked if one is not None for name in one.headers.names}
        accepts_underscores = "underscores" in listener.accept
        return FieldReader(REQUEST_SPECIAL | names, is_for_requests=True, refuses_underscores=not accepts_underscores)

    def _failed(self, exchange: HttpExchange, failure: BackendFailure) -> None:
        if exchange.backend is not None:
            self._wiring.evidence.failed(exchange.backend, failure.reason)

    # ------------------------------------------------------------------------------ TCP

    def _tcp(self, listener: TcpListener, sockets: Sequence[socket.socket]) -> TcpListenerShell:
        wiring = self._wiring
        exchanges = self._tcp_exchanges(listener)
        counters = wiring.count(listener.name, listener.protocol)
        parts = TcpParts(listener, exchanges, self._tcp_upstreams, counters, wiring.access_log, wiring.evidence.failed)
        return TcpListenerShell(parts, sockets)

    def _tcp_exchanges(self, listener: TcpListener) -> TcpExchanges:
        for route in listener.routes:
            pool, known = self._wiring.pools[route.pool], self._tcp_upstreams.get(route.pool)
            if known is None or known.pool is not pool:
                self._tcp_upstreams[route.pool] = TcpUpstream(pool)
        return TcpExchanges(listener.routes, self._wiring.pools)

    def _change_tcp(self, shell: Shell, listener: TcpListener) -> None:
        if isinstance(shell, TcpListenerShell):
            shell.parts.exchanges = self._tcp_exchanges(listener)
            shell.parts.config = listener
            shell.limit()
