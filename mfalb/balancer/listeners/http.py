"""An HTTP or HTTPS listener: the addresses where clients arrive, and the connections that are open."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Final, cast

from mfalb.balancer.config.proxy_models import ProxyProtocol
from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.forwarding import ClientFacts, is_trusted
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.listeners.client_identity import identity_lines
from mfalb.balancer.listeners.crowd import Crowd, Crowding
from mfalb.balancer.listeners.endpoints import endpoints_of
from mfalb.balancer.listeners.http_connection import ClientConnection, ConnectionHost
from mfalb.balancer.listeners.http_parts import HttpParts
from mfalb.balancer.listeners.proxied import ProxiedArrivals, ProxiedWiring
from mfalb.net.tls_end import TlsEnd, TlsTerms
from mfalb.wire.proxy_protocol import Endpoints

_BACKLOG: Final = 4096

_TURNED_AWAY_LIMIT: Final = 500  # told at once that they are not served; 2 s each at most
_REFUSALS: Final = {
    Crowding.EVERYWHERE: refusals.TOO_MANY_CONNECTIONS,
    Crowding.AT_SOURCE: refusals.TOO_MANY_FROM_SOURCE,
}


class _Handshakes:
    """TLS handshakes under way: as many at once as there may be connections, in all and from one network."""

    def __init__(self, parts: HttpParts) -> None:
        self._counters = parts.counters
        self.crowd = Crowd(parts.limits)

    def enter(self, client: str) -> str | None:
        """As TlsDoor says."""
        source = self.crowd.network(client)
        crowding = self.crowd.crowding(source)
        if crowding is not None:
            self._counters.drops[crowding.value] += 1
            return None
        self.crowd.enter(source)
        return source

    def leave(self, source: str) -> None:
        """As TlsDoor says."""
        self.crowd.leave(source)


class HttpListener(ConnectionHost):
    """Owns the bound sockets it is given and the connections that arrive on them."""

    def __init__(
        self,
        parts: HttpParts,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
        proxy_protocol: ProxyProtocol | None = None,
    ) -> None:
        self.parts = parts
        self.is_tls = tls is not None
        self._sockets = sockets
        self._shaking_hands = _Handshakes(parts)
        timeout_s = parts.limits.handshake_timeout_s
        self._terms = TlsTerms(tls, timeout_s, self._shaking_hands) if tls is not None else None
        self._servers: list[asyncio.Server] = []
        self._connections: set[ClientConnection] = set()
        self._turned_away: set[ClientConnection] = set()  # are being told so
        self._crowd = Crowd(parts.limits)
        self._proxied = self._arrivals(proxy_protocol) if proxy_protocol is not None else None

    @property
    def connections(self) -> int:
        return len(self._connections)

    def _arrivals(self, proxy_protocol: ProxyProtocol) -> ProxiedArrivals:
        limits = self.parts.limits
        wiring = ProxiedWiring(
            proxy_protocol.from_,
            limits.header_timeout_s,
            limits.connections,
            self.parts.counters,
            self._count_all,
            self._protocol,
        )
        return ProxiedArrivals(wiring)

    def _count_all(self) -> int:
        return len(self._connections) + (self._terms.under_way if self._terms is not None else 0)

    async def start(self) -> None:
        if self._proxied is not None:
            self._proxied.start(self._sockets)
            return
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            self._servers.append(await loop.create_server(lambda: self._protocol(None), sock=sock, backlog=_BACKLOG))

    def _protocol(self, endpoints: Endpoints | None) -> asyncio.BaseProtocol:
        connection = cast(asyncio.Protocol, ClientConnection(self, endpoints))
        if self._terms is None:
            return connection
        client = "" if endpoints is None else endpoints.client[0]
        return cast(asyncio.BaseProtocol, TlsEnd(self._terms, connection, client=client))

    def facts(self, transport: asyncio.Transport, endpoints: Endpoints | None) -> ClientFacts:
        if endpoints is None and self.parts.tells_endpoints:
            endpoints = endpoints_of(transport)
        if endpoints is not None:
            address = endpoints.client[0]
        else:
            peer = transport.get_extra_info("peername")
            address = peer[0] if peer else ""
        is_believed = is_trusted(address, self.parts.exchanges.trusted)
        return ClientFacts(
            address,
            is_tls=self.is_tls,
            endpoints=endpoints,
            is_trusted=is_believed,
            lines=self._identity(transport),
        )

    def _identity(self, transport: asyncio.Transport) -> bytes:
        """What backends are told of the client's certificate, as header lines."""
        headers = self.parts.identity_headers
        if headers is None:
            return b""
        return identity_lines(transport.get_extra_info("ssl_object").getpeercert(binary_form=True), headers)

    def admit(self, connection: ClientConnection) -> Refusal | None:
        """Why one more connection is not served; None when it is. Memory does not grow with clients."""
        source = self._crowd.network(connection.client.address)
        crowding = self._crowd.crowding(source)
        if crowding is not None:
            self.parts.counters.drops[crowding.value] += 1
            return _REFUSALS[crowding]
        connection.source = source
        self._crowd.enter(source)
        self._connections.add(connection)
        self.parts.counters.connections = len(self._connections)
        return None

    def may_turn_away(self, connection: ClientConnection) -> bool:
        """Whether there is room to tell a client that is not served why: in a flood there is not."""
        if len(self._turned_away) >= _TURNED_AWAY_LIMIT:
            return False
        self._turned_away.add(connection)
        return True

    def forget(self, connection: ClientConnection) -> None:
        if connection not in self._connections:
            self._turned_away.discard(connection)
            return
        self._connections.discard(connection)
        self.parts.counters.connections = len(self._connections)
        self._crowd.leave(connection.source)

    def tick(self) -> None:
        """Look at every connection's deadline: one coarse timer instead of one timer a connection."""
        now = self.parts.clock.read()
        for connection in [*self._connections, *self._turned_away]:
            connection.check_deadline(now)
        if self._proxied is not None:
            self._proxied.tick(now)

    def limit(self) -> None:
        """The limits of `parts` are others now."""
        limits = self._crowd.limits = self._shaking_hands.crowd.limits = self.parts.limits
        if self._terms is not None:
            self._terms.handshake_timeout_s = limits.handshake_timeout_s

    def retire(self) -> None:
        """Accept nobody more. Connections that are open end with their next answer, or when they are idle for long.

        An answer that began before has told its client that there may be another one; so there will be.
        """
        self.parts.is_leaving = True
        for server in self._servers:
            server.close()
        if self._proxied is not None:
            self._proxied.stop()

    async def close(self) -> None:
        """Accept nobody more and let go of everyone."""
        self.retire()
        if self._proxied is not None:
            await self._proxied.close()
        for connection in [*self._connections, *self._turned_away]:
            connection.leave()
        for server in self._servers:
            await server.wait_closed()
