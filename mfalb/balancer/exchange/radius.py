"""One RADIUS request and its answer, from the datagram that begins it to the last retransmit that repeats it.

    client's datagram ──request()──▶ Forward   to a backend            (new work)
                                     Resend    the same bytes again    (retransmit, in flight)
                                     Reply     the stored bytes        (retransmit, answered; our own refusals)
                                     Drop      in silence, counted     (everything RFC 2865 says to discard)
    backend's datagram ──answer()──▶ Reply with its pin, or Drop
    refused before it was received ──refused()──▶ Forward to another backend, Reply (refusal), or Drop
    time passes ──expire()──▶ the exchanges that are given up

Rules of failure (the house, section 7): refused is another backend at once; silence is never a second backend while the
first may still act; a State is never given to a server that did not make it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

from mfalb.balancer.affinity.radius_state import radius_state_key
from mfalb.balancer.affinity.store import Pin, PinStore
from mfalb.balancer.config.models import RadiusStateAffinity
from mfalb.balancer.exchange.duplicates import DuplicateTable
from mfalb.balancer.exchange.radius_rules import (
    Keying,
    RadiusPeer,
    has_foreign_proxy_state,
    request_body_untrusted,
    response_body_untrusted,
    response_fault,
    sound_request_untrusted,
    starts_with_message_authenticator,
)
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import NOTHING_TRIED, Pool
from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet

RESEND_INTERVAL_S: Final = 1.0  # a retransmit goes upstream at most this often (FreeRADIUS: proxy_dedup_window)
_RESPONSE_CODES: Final = frozenset((radius.ACCESS_ACCEPT, radius.ACCESS_REJECT, radius.ACCESS_CHALLENGE))
_BEGIN_AGAIN: Final = radius.attribute(
    radius.REPLY_MESSAGE, b"The server that began this sign-in is not available. Please sign in again."
)


@dataclass(slots=True, eq=False)
class RadiusExchange:
    """One request under way. Times are monotonic seconds; `place` is the upstream's own note of where it is held."""

    key: bytes
    source: bytes
    client: RadiusPeer
    request: Packet
    begun_at: float
    deadline: float
    user_name: bytes
    state: bytes | None
    backend: Backend
    upstream: RadiusPeer
    upstream_authenticator: bytes = b""
    body: bytes = b""
    datagram: bytes = b""
    sent_at: float = 0.0
    transmissions: int = 0
    tried: frozenset[str] = NOTHING_TRIED
    place: Any = None


@dataclass(slots=True)
class Forward:
    """Send the exchange to its backend. `superseded` is an older exchange of that client socket to let go of."""

    exchange: RadiusExchange
    superseded: RadiusExchange | None = None


@dataclass(slots=True)
class Resend:
    """Send the exchange's own bytes to its backend once more."""

    exchange: RadiusExchange


@dataclass(slots=True)
class Reply:
    """Give the client these bytes. A pin must be stored before; `exchange` is over and to be let go of.

    `reason` is a metric label: "answered", "repeated" (a retransmit) or why the balancer itself answered.
    """

    datagram: bytes
    reason: str = "answered"
    exchange: RadiusExchange | None = None
    pin: Pin | None = None


@dataclass(slots=True)
class Drop:
    """Say nothing. `reason` is a metric label; `exchange`, when given, is over and to be let go of."""

    reason: str
    exchange: RadiusExchange | None = None


RequestDecision = Forward | Resend | Reply | Drop


@dataclass(slots=True)
class RadiusExchanges:
    """All exchanges of one listener: its pool, its pins and its duplicate table.

    `upstreams` maps a backend's name to the secret shared with it. `entropy` arguments are 16 fresh random bytes.
    """

    pool: Pool
    pins: PinStore
    upstreams: Mapping[str, RadiusPeer]
    duplicates: DuplicateTable[RadiusExchange]
    pin_life_s: float | None = field(init=False)

    def __post_init__(self) -> None:
        affinity = self.pool.config.affinity
        self.pin_life_s = affinity.lifetime_s if isinstance(affinity, RadiusStateAffinity) else None

    # ------------------------------------------------------------------------------ the client's side

    def request(
        self, datagram: bytes, source: bytes, client: RadiusPeer, now: float, entropy: bytes
    ) -> RequestDecision:
        """What to do about a datagram from a known client. `source` is the client's socket, in any one form."""
        try:
            packet = sound_request_untrusted(datagram, client)
        except MalformedMessage as error:
            return Drop(error.reason)
        if packet.code == radius.STATUS_SERVER:
            return self._status(packet, client)
        key = source + datagram[:2]
        authenticator = packet.authenticator
        older = self.duplicates.in_flight.get(key)
        if older is not None and older.request.authenticator == authenticator:
            return self._retransmit(older, now, entropy)
        answered = self.duplicates.answered.get(key)
        if answered is not None and answered.authenticator == authenticator:
            return Reply(answered.datagram, "repeated")
        decision = self._begin(packet, key, client, now, entropy)
        if older is not None:
            _supersede(older, decision)
        return decision

    def _begin(self, packet: Packet, key: bytes, client: RadiusPeer, now: float, entropy: bytes) -> RequestDecision:
        state = packet.first(radius.STATE)
        if state is None and self.duplicates.is_full:
            return Drop("in_flight_limit")
        user_name = packet.first(radius.USER_NAME) or b""
        if state is None or self.pin_life_s is None:
            backend = self.pool.pick()
        else:
            backend = self._continued(client, user_name, state, now)
            if backend is None:
                return self._refusal(packet, key, client, now)
        if backend is None:
            return Drop("no_backend")
        deadline = now + self.pool.config.response_timeout_s
        upstream = self.upstreams[backend.name]
        exchange = RadiusExchange(key, key[:-2], client, packet, now, deadline, user_name, state, backend, upstream)
        try:
            self._aim(exchange, backend, entropy)
        except MalformedMessage as error:
            return Drop(error.reason)
        self.duplicates.in_flight.pop(key, None)  # so that a superseding exchange stands last: expiry goes in order
        self.duplicates.in_flight[key] = exchange
        return Forward(exchange)

    def _continued(self, client: RadiusPeer, user_name: bytes, state: bytes, now: float) -> Backend | None:
        """The backend that made this State; where no pin is known, the one that every node would choose."""
        pin_key = radius_state_key(self.pool.name, client.name, user_name, state)
        name = self.pins.find(pin_key, now)
        return self.pool.agreed(pin_key) if name is None else self.pool.pinned(name)

    def _aim(self, exchange: RadiusExchange, backend: Backend, entropy: bytes) -> None:
        """Point an exchange at a backend: the authenticator and the attributes it will get."""
        upstream = self.upstreams[backend.name]
        old = Keying(exchange.client.secret, exchange.request.authenticator)
        is_same_secret = upstream.secret is old.secret or upstream.secret == old.secret
        # With equal secrets the client's authenticator is kept (RFC 2865 section 2.5): CHAP, passwords and keys stay
        # valid as they are, and a backend still knows a retransmit after a fail-over between balancers.
        new = old if is_same_secret else Keying(upstream.secret, entropy)
        exchange.body = request_body_untrusted(exchange.request, old, new)
        exchange.backend, exchange.upstream = backend, upstream
        exchange.upstream_authenticator = new.authenticator
        exchange.transmissions = 0

    def _retransmit(self, exchange: RadiusExchange, now: float, entropy: bytes) -> RequestDecision:
        if exchange.backend.is_up:  # whatever its admin state: it may be acting on the request already
            if now - exchange.sent_at < RESEND_INTERVAL_S:
                return Drop("duplicate_in_flight")
            return Resend(exchange)
        return self._elsewhere(exchange, now, entropy)

    def _elsewhere(self, exchange: RadiusExchange, now: float, entropy: bytes) -> RequestDecision:
        """Its backend is down. A State cannot be continued by another; anything else begins again there."""
        if exchange.state is not None and self.pin_life_s is not None:
            reply = self._refusal(exchange.request, exchange.key, exchange.client, now)
            reply.exchange = exchange
            return reply
        exchange.tried |= {exchange.backend.name}
        backend = self.pool.pick(exchange.tried)
        if backend is None:
            self.duplicates.in_flight.pop(exchange.key, None)
            return Drop("no_backend", exchange)
        try:
            self._aim(exchange, backend, entropy)
        except MalformedMessage as error:
            self.duplicates.in_flight.pop(exchange.key, None)
            return Drop(error.reason, exchange)
        return Forward(exchange)

    def _refusal(self, packet: Packet, key: bytes, client: RadiusPeer, now: float) -> Reply:
        """An immediate, clear Access-Reject: nobody waits for a server that is gone (its OTP is gone with it)."""
        proxy_states = b"".join(radius.attribute(radius.PROXY_STATE, v) for v in packet.every(radius.PROXY_STATE))
        datagram = radius.signed_response(
            radius.ACCESS_REJECT, packet.identifier, packet.authenticator, _BEGIN_AGAIN + proxy_states, client.secret
        )
        self.duplicates.answer(key, packet.authenticator, datagram, now)
        return Reply(datagram, "pinned_down")

    def _status(self, packet: Packet, client: RadiusPeer) -> Reply | Drop:
        """Status-Server is answered here and never passed on (RFC 5997); silence when no backend could take work."""
        if not any(backend.takes_pinned for backend in self.pool.backends.values()):
            return Drop("status_no_backend")
        datagram = radius.signed_response(
            radius.ACCESS_ACCEPT, packet.identifier, packet.authenticator, b"", client.secret
        )
        return Reply(datagram, "status")

    # ------------------------------------------------------------------------------ the backend's side

    @staticmethod
    def upstream_datagram(exchange: RadiusExchange, identifier: int) -> bytes:
        """The bytes for the backend under that identifier. Raises MalformedMessage when signing makes them too long.

        When nothing has to change (identifier, secret and authenticator equal, Message-Authenticator first) the
        client's own bytes pass untouched.
        """
        request = exchange.request
        if (
            identifier == request.identifier
            and exchange.upstream_authenticator == request.authenticator
            and starts_with_message_authenticator(request)
        ):
            return request.data
        return radius.signed_request(
            radius.ACCESS_REQUEST, identifier, exchange.upstream_authenticator, exchange.body, exchange.upstream.secret
        )

    def answer(self, exchange: RadiusExchange, datagram: bytes, now: float) -> Reply | Drop:
        """What to do about a datagram from the backend under the exchange's identifier.

        A Drop leaves the exchange as it was: whoever forges answers may not end one.
        """
        try:
            packet = radius.read_untrusted(datagram)
            if packet.code not in _RESPONSE_CODES:
                return Drop("unexpected_answer_code")
            fault = response_fault(packet, exchange.upstream, exchange.upstream_authenticator)
            if fault is None and has_foreign_proxy_state(packet, exchange.request):
                fault = "foreign_proxy_state"
            if fault is not None:
                return Drop(fault)
            reply = self._client_datagram(exchange, packet)
        except MalformedMessage as error:
            return Drop(error.reason)
        request = exchange.request
        self.duplicates.answer(exchange.key, request.authenticator, reply, now)
        return Reply(reply, "answered", exchange, self._pin(exchange, packet, now))

    @staticmethod
    def _client_datagram(exchange: RadiusExchange, packet: Packet) -> bytes:
        request, client = exchange.request, exchange.client
        is_same_keying = exchange.upstream_authenticator == request.authenticator
        if is_same_keying and packet.identifier == request.identifier and starts_with_message_authenticator(packet):
            return packet.data
        new = Keying(client.secret, request.authenticator)
        old = new if is_same_keying else Keying(exchange.upstream.secret, exchange.upstream_authenticator)
        body = response_body_untrusted(packet, old, new)
        return radius.signed_response(packet.code, request.identifier, new.authenticator, body, new.secret)

    def _pin(self, exchange: RadiusExchange, packet: Packet, now: float) -> Pin | None:
        if packet.code != radius.ACCESS_CHALLENGE or self.pin_life_s is None:
            return None
        state = packet.first(radius.STATE)
        if state is None:
            return None
        key = radius_state_key(self.pool.name, exchange.client.name, exchange.user_name, state)
        return Pin(key, exchange.backend.name, now + self.pin_life_s)

    def refused(self, exchange: RadiusExchange, now: float, entropy: bytes) -> RequestDecision:
        """The backend's host said that the datagram was not received (ICMP port unreachable).

        After a single transmission nothing can have happened there, so another backend gets it at once. After several,
        an earlier one may have been received: the exchange waits until health has decided, like any silence.
        """
        if exchange.transmissions > 1:
            return Drop("refused_after_resend")
        return self._elsewhere(exchange, now, entropy)

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


def _supersede(older: RadiusExchange, decision: RequestDecision) -> None:
    """A new request stands where an older one of the same client socket and identifier was: that one is over."""
    match decision:
        case Forward():
            decision.superseded = older
        case Reply():
            decision.exchange = older
        case Drop() | Resend():
            pass  # nothing was begun, so the older one goes on
        case _:
            assert_never(decision)
