"""One RADIUS request and its answer, from the datagram that begins it to the last retransmit that repeats it.

    client's datagram ──request()──▶ Forward   to a backend            (new work)
                                     Resend    the same bytes again    (retransmit, in flight)
                                     Reply     the stored bytes        (retransmit, answered; our own refusals)
                                     Drop      in silence, counted     (everything RFC 2865 says to discard)
    backend's datagram ──answer()──▶ Reply with its pins, or Drop
    refused before it was received ──refused()──▶ Forward to another backend, Reply (refusal), or Drop
    time passes ──expire()──▶ the exchanges that are given up

Rules of failure (the house, section 7): refused is another backend at once; silence is never a second backend while the
first may still act; a State is never given to a server that did not make it. What authentication, accounting and
dynamic authorization do differently is their `RadiusService`'s.
"""

from __future__ import annotations

from typing import Final, assert_never

from mfalb.balancer.exchange.duplicates import DuplicateTable
from mfalb.balancer.exchange.flight_log import Flight
from mfalb.balancer.exchange.handed_exchanges import HandedFlight
from mfalb.balancer.exchange.radius_exchange import (
    Ask,
    Drop,
    Forward,
    RadiusExchange,
    Reply,
    RequestDecision,
    Resend,
)
from mfalb.balancer.exchange.radius_guards import LOOP, RadiusGuards
from mfalb.balancer.exchange.radius_peer import RadiusPeer, RadiusSource
from mfalb.balancer.exchange.radius_service import RadiusService
from mfalb.balancer.pools.pool import NOTHING_TRIED
from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet

RESEND_INTERVAL_S: Final = 1.0  # a retransmit goes upstream at most this often (FreeRADIUS: proxy_dedup_window)
# Exchanges whose client has begun another one under their identifier, and whose answer may still come. Past it the
# oldest lets its identifier go early: a client that asks in haste cannot take all of them, which are 32,768 a backend.
SUPERSEDED_LIMIT: Final = 1024


class RadiusExchanges:
    """All exchanges of one listener. `entropy` arguments are 16 fresh random bytes."""

    __slots__ = (
        "_response_timeout_s",
        "_superseded",
        "duplicates",
        "flights",
        "guards",
        "pool",
        "service",
        "unknown_states",
    )

    def __init__(
        self, service: RadiusService, duplicates: DuplicateTable[RadiusExchange], guards: RadiusGuards
    ) -> None:
        self.service = service
        self.pool = service.pool
        self._response_timeout_s = service.pool.config.response_timeout_s
        self.duplicates = duplicates
        self.guards = guards
        self.unknown_states = 0  # requests with a State that is not on record
        self._superseded: dict[RadiusExchange, None] = {}
        self.flights: dict[bytes, Flight] = {}  # a predecessor's, by key and authenticator; the upstream has the same

    def follow(self, other: RadiusExchanges) -> None:
        """Go on by the rules of another one. What is in flight keeps its deadline, and who it was sent to."""
        self.service = other.service
        self.pool = other.pool
        self._response_timeout_s = other.pool.config.response_timeout_s
        self.guards = other.guards
        mine, limits = self.duplicates, other.duplicates
        mine.in_flight_limit, mine.answered_limit = limits.in_flight_limit, limits.answered_limit
        mine.answer_life_s = limits.answer_life_s

    # ------------------------------------------------------------------------------ the client's side

    def request(self, datagram: bytes, source: RadiusSource, now: float, entropy: bytes) -> RequestDecision:
        """What to do about a datagram from a known client's socket."""
        try:
            packet = self.service.request_untrusted(datagram, source.client)
        except MalformedMessage as error:
            return Drop(error.reason)
        if packet.code == radius.STATUS_SERVER:
            return self._status(packet, source.client, now)
        key = source.key + datagram[:2]
        duplicates = self.duplicates
        older = duplicates.in_flight.get(key)
        if older is not None and older.request.authenticator == packet.authenticator:
            return self._retransmit(older, now, entropy)
        answered = duplicates.answered.get(key)
        if answered is not None and answered[0] == packet.authenticator:
            return Reply(answered[1], "repeated")
        decision = self._begin(packet, key, source, now, entropy)
        if older is not None:
            self._supersede(older, decision)
        return decision

    def _begin(self, packet: Packet, key: bytes, source: RadiusSource, now: float, entropy: bytes) -> RequestDecision:
        if self.flights:
            resumed = self._resume(packet, key, source, now, entropy)
            if resumed is not None:
                return resumed
        service, client = self.service, source.client
        is_bound = service.is_bound(packet)
        # A State that nobody knows continues nothing: it is as good as none, and makes a phone ring all the same
        issuer = service.issuer_of(packet, client, now) if is_bound else None
        if is_bound and issuer is None and not service.binds_without_record:
            self.unknown_states += 1
        if self.duplicates.is_full and issuer is None:
            return Drop("in_flight_limit")
        if self.guards.is_loop(packet):
            return Drop(LOOP)
        backend = service.backend_for(packet, client, now, issuer)
        if backend is None:
            return self._refusal(packet, key, client, now) if is_bound else Drop("no_backend")
        if self.guards.has_limits and issuer is None:  # last, so that only what is sent is charged for
            barrier = self.guards.barrier(packet, client, now)
            if barrier is not None:
                return self._barred(barrier, packet, key, client, now)
        exchange = RadiusExchange(key, source, packet, now, now + self._response_timeout_s)
        exchange.is_bound = issuer is not None or (is_bound and service.binds_without_record)
        exchange.aim(backend, service.upstreams[backend.name], entropy)
        in_flight = self.duplicates.in_flight
        in_flight.pop(key, None)  # so that a superseding exchange stands last: expiry goes in order
        in_flight[key] = exchange
        return Forward(exchange)

    def _resume(
        self, packet: Packet, key: bytes, source: RadiusSource, now: float, entropy: bytes
    ) -> RequestDecision | None:
        """A retransmit of what a worker sent that is no more; None when it is none. Nobody is charged for it again.

        It goes to the server that got it, just as that one got it, so that it is known for a retransmit there, too.
        """
        flight = self.flights.pop(key + packet.authenticator, None)
        if flight is None or flight.until <= now or flight.backend not in self.service.upstreams:
            return None
        service = self.service
        exchange = RadiusExchange(key, source, packet, now, now + self._response_timeout_s)
        exchange.is_bound = self._is_tied(packet, source, now)
        exchange.aim(self.pool.backends[flight.backend], service.upstreams[flight.backend], flight.entropy)
        exchange.transmissions = 1
        exchange.flight = flight
        in_flight = self.duplicates.in_flight
        in_flight.pop(key, None)
        in_flight[key] = exchange
        return self._from_downed(exchange, now, entropy) or Forward(exchange)

    def _is_tied(self, packet: Packet, source: RadiusSource, now: float) -> bool:
        service = self.service
        if not service.is_bound(packet):
            return False
        return service.binds_without_record or service.issuer_of(packet, source.client, now) is not None

    def _from_downed(self, exchange: RadiusExchange, now: float, entropy: bytes) -> Forward | Reply | Drop | None:
        """Where a client's retransmit goes when its backend is down; None when it stays where it was.

        Whatever its admin state: it may be acting on the request already. In panic that may be true of one that is said
        to be down, too: a second phone must not ring because checks fail. Where there is nobody else an answer of the
        one that is down may still come, so it keeps the request.
        """
        if exchange.backend.is_up or (self.pool.is_panicking and not exchange.is_bound):
            return None
        exchange.tried = NOTHING_TRIED  # whoever was down or refused earlier may be back
        return self._elsewhere(exchange, now, entropy)

    def _retransmit(self, exchange: RadiusExchange, now: float, entropy: bytes) -> RequestDecision:
        decision = self._from_downed(exchange, now, entropy)
        if decision is not None:
            return decision
        if now - exchange.sent_at < RESEND_INTERVAL_S:
            return Drop("duplicate_in_flight")
        return Resend(exchange)

    def _elsewhere(self, exchange: RadiusExchange, now: float, entropy: bytes) -> Forward | Reply | Drop | None:
        """Its backend is out of question. What is bound to it cannot be continued by another; all else begins again.

        None when there is no other.
        """
        if exchange.is_bound:
            return self._refusal(exchange.request, exchange.key, exchange.source.client, now, exchange)
        exchange.tried |= {exchange.backend.name}
        backend = self.service.balanced(exchange.request, exchange.source.client, exchange.tried)
        if backend is None:
            return None
        exchange.first_sent_at = now
        exchange.deadline = now + self._response_timeout_s  # the other one has as long
        in_flight = self.duplicates.in_flight
        in_flight.pop(exchange.key, None)  # so that it stands last: expiry goes in order
        in_flight[exchange.key] = exchange
        exchange.aim(backend, self.service.upstreams[backend.name], entropy)
        return Forward(exchange)

    def _refusal(
        self, packet: Packet, key: bytes, client: RadiusPeer, now: float, exchange: RadiusExchange | None = None
    ) -> Reply | Drop:
        """An immediate, clear refusal: nobody waits for a server that is gone (its OTP is gone with it)."""
        datagram = self.service.refusal(packet, client)
        if datagram is None:
            if exchange is not None:
                self.duplicates.in_flight.pop(key, None)
            return Drop(self.service.refusal_reason, exchange)
        self.duplicates.answer(key, packet.authenticator, datagram, now)
        return Reply(datagram, self.service.refusal_reason, exchange)

    def _barred(self, reason: str, packet: Packet, key: bytes, client: RadiusPeer, now: float) -> Reply | Drop:
        datagram = self.guards.answer(reason, packet, client)
        if datagram is None:
            return Drop(reason)
        self.duplicates.answer(key, packet.authenticator, datagram, now)
        return Reply(datagram, reason)

    def _status(self, packet: Packet, client: RadiusPeer, now: float) -> Reply | Drop:
        """Status-Server is answered here and never passed on (RFC 5997); silence when no backend could take work."""
        if not self.guards.may_ask_status(client, now):
            return Drop("status_limit")
        if not self.pool.can_serve:
            return Drop("status_no_backend")
        code = self.service.status_answer_code
        datagram = radius.signed_response(code, packet.identifier, packet.authenticator, b"", client.secret)
        return Reply(datagram, "status")

    # ------------------------------------------------------------------------------ the backend's side

    def answer(self, exchange: RadiusExchange, datagram: bytes, now: float) -> Reply | Drop:
        """What to do about a datagram from the backend under the exchange's identifier.

        A Drop without the exchange leaves it as it was: whoever forges answers may not end one.
        """
        service = self.service
        try:
            packet = service.answer_untrusted(exchange, datagram)
            if exchange.is_superseded:
                self.forget_superseded(exchange)
                return Drop("late_answer", exchange)
            reply = service.client_datagram(exchange, packet)
            pins = service.pins_of(exchange, packet, now)
        except MalformedMessage as error:
            return Drop(error.reason)
        return self._answered(Reply(reply, "answered", exchange, pins), exchange, now)

    def _answered(self, reply: Reply, exchange: RadiusExchange, now: float) -> Reply:
        """From now on the exchange is over, and its client's retransmits get this answer."""
        exchange.is_answered = True
        self.duplicates.answer(exchange.key, exchange.request.authenticator, reply.datagram, now)
        return reply

    def refused(self, exchange: RadiusExchange, now: float, entropy: bytes) -> RequestDecision:
        """The backend's host said that the datagram was not received (ICMP port unreachable).

        After a single transmission nothing can have happened there, so another backend gets it at once. After several,
        an earlier one may have been received: the exchange waits until health has decided, like any silence.
        """
        if exchange.transmissions > 1:
            return Drop("refused_after_resend")
        decision = self._elsewhere(exchange, now, entropy)
        if decision is not None:
            return decision
        if self.service.is_bound(exchange.request):  # nobody is left who could have made its State
            return self._refusal(exchange.request, exchange.key, exchange.source.client, now, exchange)
        self.give_up(exchange)
        return Drop("no_backend", exchange)

    def give_up(self, exchange: RadiusExchange) -> None:
        """Nothing could be sent (no identifier, no socket): the client's next retransmit begins anew."""
        self.duplicates.in_flight.pop(exchange.key, None)

    def expire(self, now: float) -> list[RadiusExchange]:
        """Forget old answers; return the exchanges whose deadline has passed, which are over."""
        self.duplicates.expire(now)
        expired = []
        for exchange in self.duplicates.in_flight.values():  # oldest first: one pool has one time-out
            if exchange.deadline > now:
                break
            expired.append(exchange)
        for exchange in expired:
            del self.duplicates.in_flight[exchange.key]
        return expired

    # ------------------------------------------------------------------------------ handed over, by and to

    @property
    def is_waiting(self) -> bool:
        """Whether anything has to be waited for before exchanges can be handed over."""
        return False

    def under_way(self) -> list[RadiusExchange]:
        """All that something may still come for."""
        return [*self._superseded, *self.duplicates.in_flight.values()]

    def give_away(self, exchange: RadiusExchange) -> None:
        """Another worker goes on with it."""
        self._superseded.pop(exchange, None)
        if self.duplicates.in_flight.get(exchange.key) is exchange:
            del self.duplicates.in_flight[exchange.key]

    def take_up(self, handed: HandedFlight, source: RadiusSource, now: float) -> RadiusExchange | None:
        """Go on with what another worker has begun; None when that makes no sense here (any more).

        Hand in the first deadline first. One that is `is_elsewhere` keeps its flight, and is answered by nobody here.
        """
        service = self.service
        if handed.deadline <= now or handed.backend not in service.upstreams:
            return None
        try:
            packet = service.request_untrusted(handed.datagram, source.client)
        except MalformedMessage:
            return None
        key = source.key + handed.datagram[:2]
        exchange = RadiusExchange(key, source, packet, handed.begun_at, handed.deadline)
        exchange.is_bound = self._is_tied(packet, source, now)
        exchange.aim(self.pool.backends[handed.backend], service.upstreams[handed.backend], handed.entropy)
        exchange.first_sent_at, exchange.sent_at = handed.first_sent_at, handed.sent_at
        exchange.transmissions = handed.transmissions
        exchange.is_superseded = handed.is_superseded
        if handed.is_elsewhere:
            exchange.flight = Flight(handed.backend, handed.entropy, 0, 0, handed.deadline)
        if handed.is_superseded:
            self._superseded[exchange] = None
        else:
            self.duplicates.in_flight[key] = exchange
        return exchange

    # ------------------------------------------------------------------------------ what its client has replaced

    def _supersede(self, older: RadiusExchange, decision: RequestDecision) -> None:
        """A new request stands where an older one of the same client socket and identifier was: that one is over.

        Its server may answer all the same, so it keeps its identifier there until then, or until its deadline: under
        the newer request's name that answer would look like a forgery.
        """
        match decision:
            case Forward() | Reply():
                decision.superseded = older
                older.is_superseded = True
                self._superseded[older] = None
            case Drop() | Resend() | Ask():
                pass  # nothing was begun, so the older one goes on
            case _:
                assert_never(decision)

    def forget_superseded(self, exchange: RadiusExchange) -> None:
        """Nothing is to come for it any more: its identifier is the caller's to let go of."""
        self._superseded.pop(exchange, None)

    def crowded_out(self) -> RadiusExchange | None:
        """The oldest that was superseded, once there are too many: let its identifier go. Ask after each one."""
        superseded = self._superseded
        if len(superseded) <= SUPERSEDED_LIMIT:
            return None
        oldest = next(iter(superseded))
        del superseded[oldest]
        return oldest

    def expire_superseded(self, now: float) -> list[RadiusExchange]:
        """Those past their deadline, whose identifiers are to be let go of."""
        over = [exchange for exchange in self._superseded if exchange.deadline <= now]
        for exchange in over:
            del self._superseded[exchange]
        return over
