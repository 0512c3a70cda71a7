"""A TCP listener: the addresses where clients arrive, and the connections that are open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

from mfalb.balancer.config.proxy_models import ProxyProtocol
from mfalb.balancer.listeners.crowd import Crowd, Crowding
from mfalb.balancer.listeners.proxied import ProxiedArrivals, ProxiedWiring
from mfalb.balancer.listeners.tcp_connection import TcpConnection
from mfalb.balancer.listeners.tcp_parts import TcpParts

_BACKLOG: Final = 4096
_LEAVE_S: Final = 1.0  # it takes microseconds; a stop must not hang if that were ever wrong


class TcpListener:
    """Owns the bound sockets it is given and the connections that arrive on them."""

    def __init__(self, parts: TcpParts, sockets: Sequence[socket.socket]) -> None:
        self.parts = parts
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []
        self._connections: set[TcpConnection] = set()
        self._crowd = Crowd(parts.config.limits)
        self._all_left = asyncio.Event()
        proxy_protocol = parts.config.proxy_protocol
        self._proxied = self._arrivals(proxy_protocol) if proxy_protocol is not None else None

    def _arrivals(self, proxy_protocol: ProxyProtocol) -> ProxiedArrivals:
        limits = self.parts.config.limits
        wiring = ProxiedWiring(
            proxy_protocol.from_,
            limits.hello_timeout_s,
            limits.connections,
            self.parts.counters,
            lambda: len(self._connections),
            lambda endpoints: TcpConnection(self, endpoints),
        )
        return ProxiedArrivals(wiring)

    async def start(self) -> None:
        if self._proxied is not None:
            self._proxied.start(self._sockets)
            return
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            self._servers.append(await loop.create_server(lambda: TcpConnection(self), sock=sock, backlog=_BACKLOG))

    def admit(self, connection: TcpConnection) -> Crowding | None:
        """Why one more connection is closed at once; None when it is served. Memory does not grow with clients."""
        source = self._crowd.network(connection.client)
        crowding = self._crowd.crowding(source)
        if crowding is None:
            connection.source = source
            self._crowd.enter(source)
            self._connections.add(connection)
            self.parts.counters.connections = len(self._connections)
        return crowding

    def forget(self, connection: TcpConnection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._crowd.leave(connection.source)
        self.parts.counters.connections = len(self._connections)
        if not self._connections:
            self._all_left.set()

    def tick(self) -> None:
        """Look at every connection's deadline: one coarse timer instead of one timer a connection."""
        now = monotonic()
        for connection in list(self._connections):
            connection.check_deadline(now)
        if self._proxied is not None:
            self._proxied.tick(now)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def limit(self) -> None:
        """The limits of `parts` are others now."""
        self._crowd.limits = self.parts.config.limits

    def retire(self) -> None:
        """Accept nobody more. Connections that are open go on until both sides are done."""
        for server in self._servers:
            server.close()
        if self._proxied is not None:
            self._proxied.stop()

    async def close(self) -> None:
        """Accept nobody more and let go of everyone."""
        self.retire()
        if self._proxied is not None:
            await self._proxied.close()
        self._all_left.clear()
        for connection in list(self._connections):
            connection.leave()
        if self._connections:  # each is told a little later, and writes its line of the access log then
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_left.wait(), _LEAVE_S)
        for server in self._servers:
            await server.wait_closed()
