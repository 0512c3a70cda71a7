"""One client's TCP connection: read up to its ClientHello, routed by the name in it, then passed through unread."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol, assert_never, cast

from mfalb.balancer.exchange.tcp import Connect, Refuse, TcpDecision, TcpExchange
from mfalb.balancer.listeners.crowd import Crowding
from mfalb.balancer.listeners.endpoints import endpoints_of
from mfalb.balancer.listeners.tcp_parts import Ending, TcpParts
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.net.relay import Relay
from mfalb.wire.proxy_protocol import Endpoints
from mfalb.wire.tls_client_hello import INTERNAL_ERROR, UNRECOGNIZED_NAME, ClientHelloReader

LINGER_S: Final = 2.0  # how long a refused client may take to read why, before the connection is cut


class TcpConnectionHost(Protocol):
    """The listener, as a connection sees it."""

    parts: TcpParts

    def admit(self, connection: TcpConnection) -> Crowding | None: ...

    def forget(self, connection: TcpConnection) -> None: ...


class TcpConnection(asyncio.Protocol):
    """One client's connection. The event loop's protocol until a backend is connected, the relay's host afterwards."""

    __slots__ = (
        "_begun_at",
        "_deadline",
        "_endpoints",
        "_exchange",
        "_is_refused",
        "_listener",
        "_parts",
        "_pool",
        "_reader",
        "_reason",
        "_relay",
        "_server_name",
        "_transport",
        "client",
        "source",
    )

    def __init__(self, listener: TcpConnectionHost, endpoints: Endpoints | None = None) -> None:
        """`endpoints` are what a PROXY protocol header told; otherwise the connection's own count."""
        self._listener = listener
        self._parts = listener.parts
        self._transport: asyncio.Transport | None = None
        self._reader: ClientHelloReader | None = None
        self._relay: Relay | None = None
        self._exchange: TcpExchange | None = None
        self._endpoints = endpoints
        self.client = ""  # its address
        self.source = ""  # what its listener counts it under
        self._server_name = self._pool = self._reason = "-"
        self._is_refused = False
        self._begun_at = self._deadline = 0.0

    # ------------------------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not register as one
        if self._endpoints is None:
            self._endpoints = endpoints_of(self._transport)
        self.client = self._endpoints.client[0]
        self._begun_at = monotonic()
        crowding = self._listener.admit(self)
        if crowding is not None:
            self._reason = crowding.value
            self._transport.abort()
            return
        self._parts.counters.requests += 1
        if self._parts.config.reads_names:
            self._deadline = self._begun_at + self._parts.config.limits.hello_timeout_s
            self._reader = ClientHelloReader()
        else:
            self._decide(self._parts.exchanges.begin("", self.client))

    def data_received(self, data: bytes) -> None:
        if self._relay is not None:
            self._relay.hold(data)
            return
        reader = self._reader
        if reader is None or self._is_refused:
            return
        try:
            hello = reader.feed_untrusted(data)
        except MalformedMessage as error:
            self._close(error.reason)
            return
        if hello is not None:
            self._server_name = hello.server_name or "-"
            self._decide(self._parts.exchanges.begin(hello.server_name, self.client))

    def eof_received(self) -> bool:
        if self._relay is not None:
            self._relay.hold_end()
            return True
        if not self._is_refused:
            self._reason = "client_left"
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and self._reason == "-":
            self._reason = "client_reset"
        self._over()

    # ------------------------------------------------------------------------------ towards a backend

    def _decide(self, decision: TcpDecision) -> None:
        match decision:
            case Connect(exchange):
                self._connect(exchange)
            case Refuse(reason, pool):
                self._pool = pool
                self._exchange = None
                self._refuse(reason)
            case _:
                assert_never(decision)

    def _connect(self, exchange: TcpExchange) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._exchange = exchange
        self._pool = exchange.pool.name
        transport.pause_reading()  # until there is somebody to give it to; not yet of effect in connection_made
        if self._relay is None:
            self._relay = Relay(self, transport, bytes(self._reader.raw) if self._reader is not None else b"")
        upstream = self._parts.upstreams[exchange.pool.name]
        if self._endpoints is not None:
            self._relay.opening = upstream.opening(self._endpoints)
        upstream.connect(exchange.backend, self._relay, self._backend_failed)

    def _backend_failed(self, failure: BackendFailure) -> None:
        exchange = self._exchange
        if exchange is not None and self._transport is not None:
            self._parts.backend_refused(exchange.backend, failure.reason)
            self._decide(self._parts.exchanges.refused(exchange))

    def _refuse(self, reason: str) -> None:
        """Nobody takes it. A TLS client is told so by an alert, which it gets some time to read."""
        self._reason = reason
        self._is_refused = True
        self._relay = None
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._reader is not None:
            transport.write(UNRECOGNIZED_NAME if reason == "no_route" else INTERNAL_ERROR)
        self._deadline = monotonic() + LINGER_S
        transport.write_eof()
        transport.resume_reading()  # with unread input a close would be a reset, which overtakes the alert

    def _close(self, reason: str) -> None:
        """Nobody is there who would understand an alert."""
        self._reason = reason
        self._is_refused = True
        if self._transport is not None:
            self._transport.close()

    # ------------------------------------------------------------------------------ the relay's events

    def relay_joined(self, _relay: Relay) -> None:
        if self._exchange is not None:
            backend = self._exchange.backend
            backend.active += 1
            backend.requests += 1
            backend.consecutive_failures = 0  # of connects, which are all that can fail here
        self._reader = None

    def relay_ended(self, relay: Relay) -> None:
        if relay.is_joined and self._exchange is not None:
            self._exchange.backend.active -= 1
            self._reason = relay.reason
            self._over()

    # ------------------------------------------------------------------------------ ends

    def _over(self) -> None:
        self._transport = None
        self._listener.forget(self)
        relay, exchange = self._relay, self._exchange
        self._relay = None
        joined = relay if relay is not None and relay.is_joined else None
        ending = Ending(
            self.client,
            self._server_name,
            self._pool,
            exchange.backend.name if joined is not None and exchange is not None else "-",
            self._reason,
            joined.client.received_bytes if joined is not None else 0,
            joined.backend.received_bytes if joined is not None else 0,
            monotonic() - self._begun_at,
        )
        self._parts.record(ending)

    def check_deadline(self, now: float) -> None:
        """Called about once a second."""
        relay = self._relay
        if relay is not None:
            if relay.is_joined:
                relay.check_idle(now, self._parts.config.limits.idle_timeout_s)
        elif now > self._deadline and self._transport is not None:
            if not self._is_refused:
                self._reason = "hello_timeout"
            self._transport.abort()

    def leave(self) -> None:
        """Break the connection, because the listener closes: what is under way may not look whole."""
        if self._relay is not None and self._relay.is_joined:
            self._relay.cut("stopped")
        elif self._transport is not None:
            self._reason = "stopped"
            self._transport.abort()
