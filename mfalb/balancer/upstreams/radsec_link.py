"""One TLS connection to a RADIUS backend, and who holds its 256 identifiers."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import Final, Protocol, cast

from mfalb.balancer.exchange.identifiers import IdentifierTable
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radsec_rules import ENDS_CONNECTION
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.upstreams.radius_carrier import Events
from mfalb.errors import MalformedMessage
from mfalb.net.rounds import GatheredWrites, WriteRound
from mfalb.wire.radius_stream import PacketStream

# A firewall that has forgotten a quiet connection, or a host that is gone, says nothing. The kernel then asks by itself
# after 30 s without traffic, and gives a connection up 10 s after something went unacknowledged. A server that is slow
# to answer is not meant by this: its host acknowledges what it has received.
_KEEPALIVE_AFTER_S: Final = 30
_KEEPALIVE_EVERY_S: Final = 5
_UNACKNOWLEDGED_MS: Final = 10_000


class LinkHome(Protocol):
    """Who opened a link, and is told what becomes of it."""

    events: Events
    writes: WriteRound

    def link_proved(self, link: RadsecLink) -> None:
        """A sound answer came: the backend knows us, and we share its secret."""

    def link_lost(self, link: RadsecLink, error: Exception | None) -> None:
        """It was open, and is no more."""

    def events_told(self) -> None:
        """What the events gave rise to may wait to be sent."""


class RadsecLink(asyncio.Protocol):
    """A connection from the moment that somebody wants it. What it is given before it is open goes out when it is."""

    def __init__(self, home: LinkHome, backend: Backend) -> None:
        self.backend = backend
        self.identifiers: IdentifierTable[RadiusExchange] = IdentifierTable()
        self.is_dead = False
        self.has_received = False  # anything at all: the backend has let us in
        self.has_proved = False
        self.fault = ""  # why we ended it
        self._home = home
        self._out = GatheredWrites(home.writes)
        self._stream = PacketStream()
        self._is_full = False
        self._transport: asyncio.Transport | None = None

    @property
    def has_room(self) -> bool:
        return self.identifiers.has_room and not self._is_full and not self.is_dead

    def carry(self, exchange: RadiusExchange) -> None:
        """Send the datagram of an exchange that holds an identifier here. It goes out once on this connection."""
        if self._transport is not None:
            self._out.write(exchange.datagram)

    def abort(self, fault: str = "") -> None:
        """Close at once. The home is told by `link_lost`, if the link was open."""
        self.is_dead = True
        self.fault = fault
        self._out.clear()
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._out.transport = cast(asyncio.Transport, transport)  # uvloop's do not register as one
        if self.is_dead:
            self._transport.abort()
            return
        _watch_for_silence(transport.get_extra_info("socket"))
        for exchange in self.identifiers.holders():
            self._out.write(exchange.datagram)

    def data_received(self, data: bytes) -> None:
        self.has_received = True
        now = monotonic()
        try:
            for packet in self._stream.packets_untrusted(data):
                if self.is_dead:
                    break
                self._packet(packet, now)
        except MalformedMessage as error:
            self.abort(error.reason)
        self._home.events_told()

    def _packet(self, packet: bytes, now: float) -> None:
        exchange, events = self.identifiers.holder(packet[1]), self._home.events
        if exchange is None:
            events.stray_answer()
            return
        fault = events.answered(exchange, packet, now)
        if fault is None:
            if not self.has_proved:
                self.has_proved = True
                self._home.link_proved(self)
        elif fault in ENDS_CONNECTION:
            self.abort(fault)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = self._out.transport = None
        self.is_dead = True
        self._home.link_lost(self, error)


def _watch_for_silence(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_AFTER_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_EVERY_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
