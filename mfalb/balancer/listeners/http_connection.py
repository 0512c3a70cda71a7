"""One client's HTTP connection: its requests in order, one exchange at a time."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from time import monotonic
from typing import Final, Protocol, cast

from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.forwarding import ClientFacts
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.listeners.endpoints import endpoints_of
from mfalb.balancer.listeners.http_flow import HttpFlow, refusal_of
from mfalb.balancer.listeners.http_parts import HttpParts
from mfalb.errors import MalformedMessage
from mfalb.net.rounds import GatheredWrites
from mfalb.wire.http import RequestHead, RequestReader
from mfalb.wire.proxy_protocol import Endpoints

LINGER_S: Final = 2.0  # how long a refused client may go on sending before the connection is cut
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, no seconds

# Why the client is not read on at the moment
_PIPELINED = 1
_UPSTREAM_FULL = 2


class ConnectionHost(Protocol):
    """The listener, as a connection sees it."""

    parts: HttpParts
    is_tls: bool
    is_closing: bool

    def admit(self, connection: ClientConnection) -> bool: ...

    def forget(self, connection: ClientConnection) -> None: ...


class _Waiting:
    """A request that came while its predecessor was being answered. At most one read's worth is held."""

    __slots__ = ("head", "is_ended", "pieces")

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.pieces: list[bytes] = []
        self.is_ended = False

    def request_body(self, data: bytes) -> None:
        self.pieces.append(data)

    def request_end(self) -> None:
        self.is_ended = True


class ClientConnection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_deadline",
        "_endpoints",
        "_fault",
        "_flow",
        "_incoming",
        "_is_in_turns",
        "_is_over",
        "_listener",
        "_out",
        "_parts",
        "_pauses",
        "_reader",
        "_transport",
        "_waiting",
        "client",
        "is_full",
    )

    def __init__(self, listener: ConnectionHost, endpoints: Endpoints | None = None) -> None:
        """`endpoints` are what a PROXY protocol header told; otherwise the connection's own count."""
        self._listener = listener
        self._endpoints = endpoints
        self._parts = listener.parts
        self._transport: asyncio.Transport | None = None
        self._flow: HttpFlow | None = None
        self._incoming: HttpFlow | _Waiting | None = None
        self._waiting: deque[_Waiting] = deque()
        self._fault: Refusal | None = None
        self._out = GatheredWrites(listener.parts.writes)
        self._pauses = 0
        self._is_in_turns = False
        self._is_over = False  # the last answer was given: what still comes is read and forgotten
        self._deadline = 0.0
        self.is_full = False
        self.client = ClientFacts("", is_tls=False)
        limits = listener.parts.limits
        self._reader = RequestReader(self, header_bytes=limits.header_bytes, header_count=limits.header_count)

    # ------------------------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._out.transport = cast(asyncio.Transport, transport)  # uvloop's do not register as one
        endpoints = self._endpoints
        if endpoints is None and self._parts.tells_endpoints:
            endpoints = endpoints_of(self._transport)
        if endpoints is not None:
            self.client = ClientFacts(endpoints.client[0], self._listener.is_tls, endpoints)
        else:
            peer = transport.get_extra_info("peername")
            self.client = ClientFacts(peer[0] if peer else "", self._listener.is_tls)
        self._deadline = monotonic() + self._parts.limits.header_timeout_s
        if not self._listener.admit(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_over or self._fault is not None:
            return
        was_in_head = self._reader.is_in_head
        try:
            self._reader.feed_untrusted(data)
        except MalformedMessage as error:
            self._malformed(error)
        if self._reader.is_in_head and not was_in_head:
            self._deadline = monotonic() + self._parts.limits.header_timeout_s
        flow = self._flow
        if flow is not None:
            flow.flush()

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = self._out.transport = None
        self._listener.forget(self)
        self._waiting.clear()
        if self._flow is not None:
            self._flow.client_lost()

    def pause_writing(self) -> None:
        self.is_full = True
        if self._flow is not None:
            self._flow.pause_answer()

    def resume_writing(self) -> None:
        self.is_full = False
        if self._flow is not None:
            self._flow.resume_answer()

    # ------------------------------------------------------------------------------ the reader's events

    def request_head(self, head: RequestHead) -> None:
        if self._is_over:  # behind a refusal, in the same read
            self._incoming = None
            return
        self._parts.counters.requests += 1
        if self._flow is None:
            self._start(head)
            self._incoming = self._flow
        else:
            waiting = _Waiting(head)
            self._incoming = waiting
            self._waiting.append(waiting)
            self._pause(_PIPELINED)

    def request_body(self, data: bytes) -> None:
        if self._incoming is not None:
            self._incoming.request_body(data)

    def request_end(self) -> None:
        if self._incoming is not None:
            self._incoming.request_end()

    def _start(self, head: RequestHead) -> None:
        flow = self._flow = HttpFlow(self, self._parts, head)
        try:
            flow.start()
        except MalformedMessage as error:
            flow.refuse(refusal_of(error))

    def _malformed(self, error: MalformedMessage) -> None:
        """Nothing behind a fault can be trusted. What came whole before it is still answered, in order."""
        if self._is_over:
            return
        self._parts.counters.drops[error.reason] += 1
        fault = self._fault = refusal_of(error)
        flow = self._flow
        if flow is None:
            self._refuse_and_close(fault)
        elif self._waiting:
            if not self._waiting[-1].is_ended:
                self._waiting.pop()
        elif not flow.is_request_done:
            flow.request_broke(fault)

    def _refuse_and_close(self, refusal: Refusal) -> None:
        self._parts.count_answer(refusal.status.value)
        self.write(refusal.answer(is_keep_alive=False))
        self._linger()

    # ------------------------------------------------------------------------------ what a flow asks for

    def write(self, data: bytes) -> None:
        self._out.write(data)

    def pause_for_upstream(self) -> None:
        self._pause(_UPSTREAM_FULL)

    def resume_for_upstream(self) -> None:
        self._resume(_UPSTREAM_FULL)

    def abort(self) -> None:
        """Break the connection: a reset (RST), since a mere end would look like the end of a 1.0 answer."""
        self._out.flush()
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            self._transport.abort()

    def leave(self) -> None:
        """Close at once, because the listener closes: an answer that is under way may not look whole."""
        if self._flow is not None:
            self.abort()
        elif self._transport is not None:
            self._transport.abort()

    def flow_ended(self, flow: HttpFlow, *, keep_alive: bool) -> None:
        """An exchange is over: the next request's turn, or the connection's end."""
        self._flow = None
        self._parts.record(flow, self.client)
        if self._transport is None or self._transport.is_closing():
            return
        self._resume(_UPSTREAM_FULL)
        if not keep_alive or self._listener.is_closing:
            if flow.is_request_done and self._fault is None:
                self._is_over = True
                self._out.flush()
                self._transport.close()
            else:
                self._linger()
        elif not self._is_in_turns:  # else the loop below goes on: a refused request must not lean on the one before
            self._take_turns()

    def _take_turns(self) -> None:
        self._is_in_turns = True
        while self._waiting and self._flow is None and not self._is_over:
            self._next_waiting()
        self._is_in_turns = False
        if self._flow is not None or self._is_over:
            return
        if self._fault is not None:
            self._refuse_and_close(self._fault)
        elif not self._reader.is_in_head:
            self._deadline = monotonic() + self._parts.limits.idle_timeout_s

    def _next_waiting(self) -> None:
        waiting = self._waiting.popleft()
        if not self._waiting:
            self._resume(_PIPELINED)
        self._start(waiting.head)
        flow = self._flow
        if flow is None:
            return
        if self._incoming is waiting:
            self._incoming = flow
        for piece in waiting.pieces:
            flow.request_body(piece)
        if waiting.is_ended:
            flow.request_end()
        flow.flush()

    # ------------------------------------------------------------------------------ pauses and ends

    def _pause(self, why: int) -> None:
        if not self._pauses and self._transport is not None:
            self._transport.pause_reading()
        self._pauses |= why

    def _resume(self, why: int) -> None:
        if self._pauses & why:
            self._pauses &= ~why
            if not self._pauses and self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def _linger(self) -> None:
        """Close so that the client can read our last words: a close with unread input would reset the connection."""
        if self._transport is None:
            return
        self._is_over = True
        self._waiting.clear()
        self._deadline = monotonic() + LINGER_S
        self._pauses = 0
        self._transport.resume_reading()
        self._out.flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()  # TLS has no half-close here; it says goodbye (close_notify) after what was written

    def check_deadline(self, now: float) -> None:
        """Called about once a second."""
        flow = self._flow
        if flow is not None:
            if now > flow.deadline:
                flow.expire()
        elif now > self._deadline and self._transport is not None:
            if self._reader.is_in_head and not self._is_over:
                self._parts.counters.drops["header_timeout"] += 1
                self._refuse_and_close(refusals.HEADER_TIMEOUT)
            else:
                self._transport.abort()
