"""One RadSec client's connection: packets out of its stream, answers into it."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol, cast

from mfalb.balancer.exchange.radius_peer import NO_PEER, RadiusPeer, RadiusSource
from mfalb.balancer.exchange.radsec_rules import ENDS_CONNECTION
from mfalb.balancer.listeners.radsec_dispatches import RadsecDispatches
from mfalb.errors import MalformedMessage
from mfalb.net.rounds import BULK_BYTES, GatheredWrites, WriteRound
from mfalb.wire.radius_stream import PacketStream

# A client that asks and does not read its answers is closed past this: 256 answers of the largest size, which is all
# that one connection can have asked for. It is not read on long before, from the transport's own mark (64 KiB) on.
UNREAD_LIMIT_BYTES: Final = 1024 * 1024


class RadsecHost(Protocol):
    """The listener, as a connection sees it."""

    dispatches: RadsecDispatches
    writes: WriteRound

    def admit(self, connection: RadsecConnection) -> RadiusPeer | None:
        """Whose connection it is; None when it may not stay."""

    def next_key(self) -> bytes:
        """What tells this connection's requests from all others'."""

    def broken(self, connection: RadsecConnection, reason: str) -> None:
        """What came on a connection ends it."""

    def forget(self, connection: RadsecConnection) -> None: ...

    def flush_soon(self) -> None:
        """Something may wait to be sent to backends."""


class RadsecConnection(asyncio.Protocol):
    """A connection whose handshake is done. It is a `ReplyPath`, and the only one of its source."""

    __slots__ = (
        "_address",
        "_gathered_bytes",
        "_host",
        "_is_deaf",
        "_is_full",
        "_is_over",
        "_out",
        "_stream",
        "active_at",
        "source",
        "transport",
    )

    def __init__(self, host: RadsecHost) -> None:
        self._host = host
        self._out = GatheredWrites(host.writes)
        self._stream = PacketStream()
        self._gathered_bytes = 0  # about as many as wait for the end of the round
        self._is_full = False
        self._is_deaf = False
        self._is_over = False  # it is being closed: what still comes is forgotten
        self.transport: asyncio.Transport | None = None
        self.source: RadiusSource | None = None
        self.active_at = 0.0
        self._address = ""

    # ------------------------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self._out.transport = cast(asyncio.Transport, transport)  # uvloop's do not register as one
        self.active_at = monotonic()
        peername = transport.get_extra_info("peername")
        if peername:  # else it left during the handshake
            self._address = str(peername[0])
        client = self._host.admit(self)
        if client is None:
            self.end()
        else:
            self.source = RadiusSource(client, self._host.next_key(), self, NO_PEER)

    def data_received(self, data: bytes) -> None:
        source, dispatches = self.source, self._host.dispatches
        if source is None:
            return
        self.active_at = now = monotonic()
        try:
            for packet in self._stream.packets_untrusted(data):
                if self._is_over:
                    break
                dispatches.received(packet, source, now)
        except MalformedMessage as error:
            dispatches.drop(source, error.reason)
        self._host.flush_soon()

    def pause_writing(self) -> None:
        self._is_full = True
        if self.transport is not None and not self._is_deaf:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_full = False
        if self.transport is not None and not self._is_deaf and not self.transport.is_closing():
            self.transport.resume_reading()

    def stop_reading(self) -> None:
        """What its client asks from now on is for whoever it connects to next."""
        if not self._is_deaf and self.transport is not None:  # else its handshake is not over: ask again
            self._is_deaf = True
            if not self._is_full:
                self.transport.pause_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_over = True
        self.transport = self._out.transport = None
        self._host.forget(self)
        self.source = None  # each knows the other: a cycle that only a full garbage collection would find

    # ------------------------------------------------------------------------------ the way back

    def send(self, datagram: bytes, _peer: bytes) -> None:
        transport = self.transport
        if transport is None or self._is_over:
            self._host.dispatches.lost("client_gone")
            return
        self.active_at = monotonic()
        self._out.write(datagram)
        self._gathered_bytes += len(datagram)
        if self._gathered_bytes > BULK_BYTES:  # only a real write can say that the client does not read
            self._gathered_bytes = 0
            self._out.flush()
        if self._is_full and transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
            self._host.dispatches.lost("slow_reader")
            self.abort()

    def host(self, _peer: bytes) -> str:
        return self._address

    def discarded(self, reason: str) -> None:
        if reason in ENDS_CONNECTION and not self._is_over:
            self._host.broken(self, reason)
            self.end()

    # ------------------------------------------------------------------------------ ends

    def end(self) -> None:
        """Close once the answers that gathered are written."""
        self._is_over = True
        self._out.flush()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._is_over = True
        self._out.clear()
        if self.transport is not None:
            self.transport.abort()
