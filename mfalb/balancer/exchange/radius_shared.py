"""RADIUS exchanges of a node that shares its pins: what has to wait for the store, and what counts meanwhile.

    client's datagram ──request()──▶ Ask       a pin that this node has not may be another's  ──go_on()──▶ as ever
    backend's datagram ──answer()──▶ Reply with its pins, to be held ──stored()──▶ whether it is still wanted

While a request is asked for, and while an answer is held, the client's retransmits are absorbed as in flight. A class
of its own: who shares nothing pays nothing.
"""

from __future__ import annotations

from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.exchange.duplicates import DuplicateTable
from mfalb.balancer.exchange.radius import RadiusExchanges
from mfalb.balancer.exchange.radius_exchange import Ask, Drop, RadiusExchange, Reply, RequestDecision
from mfalb.balancer.exchange.radius_guards import RadiusGuards
from mfalb.balancer.exchange.radius_peer import RadiusSource
from mfalb.balancer.exchange.radius_service import RadiusService
from mfalb.wire.radius import Packet


class SharedRadiusExchanges(RadiusExchanges):
    """As `RadiusExchanges`, beside a store that other nodes share."""

    __slots__ = ("_asked", "_is_going_on")

    def __init__(
        self, service: RadiusService, duplicates: DuplicateTable[RadiusExchange], guards: RadiusGuards
    ) -> None:
        super().__init__(service, duplicates, guards)
        self._asked: dict[bytes, bytes] = {}  # the authenticator of what waits, by its duplicate key
        self._is_going_on = False

    @property
    def is_waiting(self) -> bool:
        """For the store, which answers soon or is away."""
        return bool(self._asked) or any(one.is_answered for one in self.duplicates.in_flight.values())

    def _begin(self, packet: Packet, key: bytes, source: RadiusSource, now: float, entropy: bytes) -> RequestDecision:
        if self._is_going_on:
            return super()._begin(packet, key, source, now, entropy)
        if self._asked and key in self._asked:
            if self._asked[key] == packet.authenticator:
                return Drop("duplicate_in_flight")
            del self._asked[key]  # its client asks for something else now
        missing = self.service.missing_keys(packet, source.client, now)
        if missing and len(self._asked) < self.duplicates.in_flight_limit:
            self._asked[key] = packet.authenticator
            return Ask(key, packet, missing)
        return super()._begin(packet, key, source, now, entropy)

    def go_on(self, ask: Ask, source: RadiusSource, now: float, entropy: bytes) -> RequestDecision:
        """The store has said what it knows, or its time is over: what to do about the request with what is here now."""
        if self._asked.get(ask.key) != ask.packet.authenticator:
            return Drop("superseded")
        del self._asked[ask.key]
        self._is_going_on = True
        try:
            return self.request(ask.packet.data, source, now, entropy)
        finally:
            self._is_going_on = False

    def _answered(self, reply: Reply, exchange: RadiusExchange, now: float) -> Reply:
        if not any(isinstance(change, Pin) for change in reply.pins):
            return super()._answered(reply, exchange, now)
        exchange.is_answered = True  # but no retransmit gets it yet
        return reply

    def _retransmit(self, exchange: RadiusExchange, now: float, entropy: bytes) -> RequestDecision:
        if exchange.is_answered:
            return Drop("duplicate_in_flight")
        return super()._retransmit(exchange, now, entropy)

    def stored(self, reply: Reply, now: float) -> bool:
        """A held answer's pins are stored, or its time is over. Whether its client still waits for it."""
        exchange = reply.exchange
        if exchange is None:
            return True
        if exchange.is_superseded:
            self.forget_superseded(exchange)
            return False
        if self.duplicates.in_flight.get(exchange.key) is not exchange:
            return False  # its deadline came meanwhile
        self.duplicates.answer(exchange.key, exchange.request.authenticator, reply.datagram, now)
        return True
