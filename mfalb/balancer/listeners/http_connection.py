"""One client's HTTP connection: its requests in order, one exchange at a time."""

from __future__ import annotations

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from time import monotonic, time
from typing import Final, cast

from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.forwarding import ClientFacts
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.listeners.http_flow import HttpFlow, refusal_of
from mfalb.balancer.listeners.http_host import FlowHost
from mfalb.balancer.listeners.http_parts import HttpParts, Suspicion
from mfalb.balancer.listeners.http_record import record, record_unread
from mfalb.errors import MalformedMessage
from mfalb.net.rounds import GatheredWrites
from mfalb.wire.http import RequestReader
from mfalb.wire.http_heads import RequestHead
from mfalb.wire.http_suspect import suspect_of
from mfalb.wire.proxy_protocol import Endpoints

LINGER_S: Final = 2.0  # how long a refused client may go on sending before the connection is cut
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, no seconds

# Why the client is not read on at the moment
_PIPELINED: Final = 1
_UPSTREAM_FULL: Final = 2


class ConnectionHost(ABC):
    """The listener, as a connection sees it."""

    parts: HttpParts
    is_tls: bool

    @abstractmethod
    def admit(self, connection: ClientConnection) -> Refusal | None:
        """Why it is not served; None when it is."""

    @abstractmethod
    def may_turn_away(self, connection: ClientConnection) -> bool:
        """Whether a connection that is not served may stay until its client has been told why."""

    @abstractmethod
    def forget(self, connection: ClientConnection) -> None: ...

    @abstractmethod
    def facts(self, transport: asyncio.Transport, endpoints: Endpoints | None) -> ClientFacts:
        """Who is connected; `endpoints` are what a PROXY protocol header told."""


class ClientConnection(FlowHost):
    """One client's connection: an `asyncio.Protocol` in all but its ancestry, which compiled classes cannot have."""

    __slots__ = (
        "_deadline",
        "_endpoints",
        "_flow",
        "_is_over",
        "_is_reading",
        "_is_tunnel",
        "_listener",
        "_out",
        "_parts",
        "_pauses",
        "_reader",
        "_stuck_bytes",
        "_stuck_since",
        "_transport",
        "source",
    )

    def __init__(self, listener: ConnectionHost, endpoints: Endpoints | None = None) -> None:
        """`endpoints` are what a PROXY protocol header told; otherwise the connection's own count."""
        super().__init__()
        self._listener = listener
        self._endpoints = endpoints
        self._parts = listener.parts
        self._transport: asyncio.Transport | None = None
        self._flow: HttpFlow | None = None
        self._out = GatheredWrites(listener.parts.writes)
        self._pauses = 0
        self._is_reading = False
        self._is_over = False  # the last answer was given: what still comes is read and forgotten
        self._is_tunnel = False
        self._deadline = 0.0
        self._stuck_bytes = 0
        self._stuck_since = 0.0
        self.source = ""  # what its listener counts it under

    # ------------------------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._out.transport = cast(asyncio.Transport, transport)  # uvloop's do not register as one
        limits, fields = self._parts.limits, self._parts.fields
        # Not made before: whose TLS handshake fails is never lost, and nothing would part the two
        self._reader = RequestReader(
            self, header_bytes=limits.header_bytes, header_count=limits.header_count, fields=fields
        )
        self.client = self._listener.facts(self._transport, self._endpoints)
        self._deadline = monotonic() + limits.header_timeout_s
        refusal = self._listener.admit(self)
        if refusal is None:
            return
        if self._listener.may_turn_away(self):
            self._refuse_and_close(refusal)
        else:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parts.clock.read()
        if self._is_over:
            return
        flow = self._flow
        if self._is_tunnel:
            if flow is not None:
                flow.request_body(data)
            return
        was_in_head = self._reader.is_in_head
        self._is_reading = True
        try:
            self._reader.feed_untrusted(data)
            if self._flow is None or self._reader.has_more:
                self._take_turns_untrusted()
        except MalformedMessage as error:
            self._malformed(error)
        finally:
            self._is_reading = False
        if self._flow is None and not was_in_head and self._reader.is_in_head:
            self._deadline = monotonic() + self._parts.limits.header_timeout_s

    def eof_received(self) -> bool:
        """Whether our half stays open: only that of a tunnel, and not under TLS."""
        self._parts.clock.read()
        flow = self._flow
        if flow is None or not self._is_tunnel or self._transport is None or not self._transport.can_write_eof():
            return False
        return flow.client_eof()

    def connection_lost(self, _error: Exception | None) -> None:
        self._parts.clock.read()
        self._transport = self._out.transport = None
        self._reader.part()
        self._listener.forget(self)
        if self._flow is not None:
            self._flow.client_lost()

    def pause_writing(self) -> None:
        self.is_full = True
        self._stuck_since = monotonic()
        self._stuck_bytes = -1
        if self._flow is not None:
            self._flow.pause_answer()

    def resume_writing(self) -> None:
        self.is_full = False
        if self._flow is not None:
            self._flow.resume_answer()

    # ------------------------------------------------------------------------------ the reader's events

    def request_head(self, head: RequestHead) -> None:
        self._parts.counters.requests += 1
        flow = self._flow = HttpFlow(self, self._parts, head)
        try:
            flow.start()
        except MalformedMessage as error:
            self._note(error, head.method + b" " + head.target)
            flow.refuse(refusal_of(error))

    def request_body(self, data: bytes) -> None:
        if self._flow is not None:
            self._flow.request_body(data)

    def request_end(self, trailers: list[bytes]) -> None:
        if self._flow is not None:
            self._flow.request_end(trailers)

    def _take_turns_untrusted(self) -> None:
        """Read the next request when the one before it was answered; hold what came too early."""
        reader = self._reader
        while self._flow is None and not self._is_over:
            had_more = reader.has_more
            reader.go_on_untrusted()
            if not had_more:
                break
        if reader.has_more:
            self._pause(_PIPELINED)

    def _malformed(self, error: MalformedMessage) -> None:
        """Nothing behind a fault can be trusted. What came whole before it was answered, in order."""
        self._note(error, error.culprit)
        if self._is_over:
            return
        fault = refusal_of(error)
        flow = self._flow
        if flow is None:
            self._refuse_and_close(fault)
        elif not flow.is_request_done:
            flow.request_broke(fault)

    def _note(self, error: MalformedMessage, message: bytes) -> None:
        self._parts.counters.drops[error.reason] += 1
        suspect = self._reader.suspect or suspect_of(error, message)
        self._parts.suspicions.append(Suspicion(time(), self.client.address, suspect))

    def _refuse_and_close(self, refusal: Refusal) -> None:
        record_unread(self._parts, refusal, self.client)
        self.write(refusal.answer(is_keep_alive=False))
        self._linger()

    # ------------------------------------------------------------------------------ what a flow asks for

    def write(self, data: bytes) -> None:
        self._out.write(data)

    @property
    def is_paused(self) -> bool:
        return self._pauses != 0

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

    def begin_tunnel(self) -> None:
        self._is_tunnel = True
        self._resume(_PIPELINED)
        early = self._reader.take_rest()
        if early and self._flow is not None:
            self._flow.request_body(early)

    def end_tunnel(self, *, is_half: bool) -> None:
        self._out.flush()
        if self._transport is None:
            return
        if is_half and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._is_over = True
            self._transport.close()

    def leave(self) -> None:
        """Close at once, because the listener closes: an answer that is under way may not look whole."""
        if self._flow is not None:
            self.abort()
        elif self._transport is not None:
            self._transport.abort()

    def flow_ended(self, *, keep_alive: bool) -> None:
        """An exchange is over: the next request's turn, or the connection's end."""
        flow, self._flow = self._flow, None
        if flow is None:
            return
        record(self._parts, flow, self.client)
        if self._transport is None or self._transport.is_closing():
            return
        self._resume(_UPSTREAM_FULL)
        if not keep_alive:
            if flow.is_request_done:
                self._is_over = True
                self._out.flush()
                self._transport.close()
            else:
                self._linger()
            return
        self._deadline = self._parts.clock.now + self._parts.idle_timeout_s
        if not self._is_reading:  # else whoever reads goes on: a refused request must not lean on the one before
            self._go_on()

    def _go_on(self) -> None:
        self._resume(_PIPELINED)
        self._is_reading = True
        try:
            self._take_turns_untrusted()
        except MalformedMessage as error:
            self._malformed(error)
        finally:
            self._is_reading = False
        if self._flow is None and self._reader.is_in_head:
            self._deadline = monotonic() + self._parts.limits.header_timeout_s

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
            flow.check(now, is_client_stuck=self._is_client_stuck(now))
        elif now > self._deadline and self._transport is not None:
            if self._reader.is_in_head and not self._is_over:
                self._parts.counters.drops["header_timeout"] += 1
                self._refuse_and_close(refusals.HEADER_TIMEOUT)
            else:
                self._transport.abort()

    def _is_client_stuck(self, now: float) -> bool:
        """Whether nothing of what waits for the client could be written for too long."""
        if not self.is_full or self._transport is None:
            return False
        waiting = self._transport.get_write_buffer_size()
        if waiting != self._stuck_bytes:
            self._stuck_bytes = waiting
            self._stuck_since = now
        return now - self._stuck_since > self._parts.limits.send_timeout_s
