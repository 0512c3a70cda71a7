"""Authentication (RFC 2865, 2869, 3579): Access-Requests, and the State that ties the halves of a sign-in together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from mfalb.balancer.affinity.radius_state import radius_state_key
from mfalb.balancer.affinity.store import Pin, PinChange, PinEnd, PinStore
from mfalb.balancer.config.models import RadiusStateAffinity
from mfalb.balancer.config.radius_models import RefusalForm
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.exchange.radius_rules import (
    access_request_untrusted,
    answer_datagram,
    check_response_untrusted,
    refusal_datagram,
    request_body_untrusted,
    response_body_untrusted,
    starts_with_message_authenticator,
    without_added_proxy_state,
)
from mfalb.balancer.exchange.radius_service import RadiusService
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import NOTHING_TRIED, Pool
from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet
from mfalb.wire.radius_hidden import Keying

_ANSWER_CODES: Final = frozenset(
    (radius.ACCESS_ACCEPT, radius.ACCESS_REJECT, radius.ACCESS_CHALLENGE, radius.PROTOCOL_ERROR)
)
_BEGIN_AGAIN: Final = b"The server that began this sign-in is not available. Please sign in again."
_RADIUS_REQUEST: Final = (1).to_bytes(4, "big")  # a Termination-Action (RFC 2865 section 5.29)
_INTEGER_BYTES: Final = 4  # RFC 2865 section 5
_SESSION_SLACK_S: Final = 300.0  # a NAS that re-authenticates may be late by as much


@dataclass(frozen=True, slots=True)
class StatePins:
    """How long the pins of a pool's States live, in seconds, and what happens to a State whose server is gone."""

    challenge_s: float
    session_s: float
    is_refusal_sent: bool

    @classmethod
    def of(cls, pool: Pool) -> StatePins | None:
        """As the pool's affinity says; None when it has none."""
        affinity = pool.config.affinity
        if not isinstance(affinity, RadiusStateAffinity):
            return None
        is_refusal_sent = affinity.when_pinned_down is RefusalForm.REJECT
        return cls(affinity.lifetime_s, affinity.session_lifetime_s, is_refusal_sent)


class Authentication(RadiusService):
    """Access-Requests of one pool."""

    status_answer_code: ClassVar[int] = radius.ACCESS_ACCEPT
    refusal_reason: ClassVar[str] = "pinned_down"

    def __init__(self, pool: Pool, upstreams: Mapping[str, RadiusPeer], pins: PinStore) -> None:
        super().__init__(pool, upstreams)
        self.pins = pins
        self._state_pins = StatePins.of(pool)

    def request_untrusted(self, datagram: bytes, client: RadiusPeer) -> Packet:
        return access_request_untrusted(datagram, client)

    def is_bound(self, request: Packet) -> bool:
        return radius.STATE in request.offsets and self._state_pins is not None

    def issuer_of(self, request: Packet, client: RadiusPeer, now: float) -> str | None:
        return self.pins.find(self._pin_key(request, client, request.first(radius.STATE) or b""), now)

    def missing_keys(self, request: Packet, client: RadiusPeer, now: float) -> tuple[bytes, ...]:
        if radius.STATE not in request.offsets or self._state_pins is None:
            return ()
        key = self._pin_key(request, client, request.first(radius.STATE) or b"")
        return (key,) if self.pins.peek(key, now) is None else ()

    def backend_for(self, request: Packet, client: RadiusPeer, _now: float, issuer: str | None) -> Backend | None:
        """The backend that made this State; where no pin is known, the one that every node would choose."""
        if issuer is not None:
            return self.pool.pinned(issuer)
        if self.key_of is None and radius.STATE not in request.offsets:
            return self.pool.pick()  # most requests to most pools; 50 ns without another call (measured)
        return self.balanced(request, client)

    def balanced(self, request: Packet, client: RadiusPeer, tried: frozenset[str] = NOTHING_TRIED) -> Backend | None:
        """As `RadiusService` says. For a State that nobody knows it is the next one by its hash, not by turns."""
        if radius.STATE not in request.offsets or self._state_pins is None:
            return super().balanced(request, client, tried)
        return self.pool.agreed(self._pin_key(request, client, request.first(radius.STATE) or b""), tried)

    def refusal(self, request: Packet, client: RadiusPeer) -> bytes | None:
        if self._state_pins is None or not self._state_pins.is_refusal_sent:
            return None
        return refusal_datagram(request, client, _BEGIN_AGAIN)

    def upstream_datagram(self, exchange: RadiusExchange, identifier: int) -> bytes:
        """As `RadiusService` says.

        With equal secrets the client's authenticator is kept (RFC 2865 section 2.5): CHAP, passwords and keys stay
        valid as they are, and a backend still knows a retransmit after a fail-over between balancers. When the
        identifier is free as well the client's own bytes pass untouched.
        """
        request, client, secret = exchange.request, exchange.source.client, exchange.upstream.secret
        added = exchange.upstream.proxy_state
        if secret is client.secret:
            exchange.upstream_authenticator = authenticator = request.authenticator
            if identifier == request.identifier and not added and starts_with_message_authenticator(request):
                return request.data
            body = radius.body_without_message_authenticator(request)
        else:
            exchange.upstream_authenticator = authenticator = exchange.entropy
            old, new = Keying(client.secret, request.authenticator), Keying(secret, authenticator)
            body = request_body_untrusted(request, old, new, self.unhandled_hidden)
        return radius.signed_request(radius.ACCESS_REQUEST, identifier, authenticator, body + added, secret)

    def answer_untrusted(self, exchange: RadiusExchange, datagram: bytes) -> Packet:
        answer = radius.read_untrusted(datagram)
        if answer.code not in _ANSWER_CODES:
            raise MalformedMessage("unexpected_answer_code")
        check_response_untrusted(answer, exchange.upstream, exchange.request, exchange.upstream_authenticator)
        return answer

    def client_datagram(self, exchange: RadiusExchange, answer: Packet) -> bytes:
        request, client, secret = exchange.request, exchange.source.client, exchange.upstream.secret
        if secret is client.secret:
            is_untouched = answer.identifier == request.identifier and client.is_signed_to
            if is_untouched and not exchange.upstream.proxy_state and starts_with_message_authenticator(answer):
                return answer.data
            body = radius.body_without_message_authenticator(answer)
        else:
            old = Keying(secret, exchange.upstream_authenticator)
            new = Keying(client.secret, request.authenticator)
            body = response_body_untrusted(answer, old, new, self.unhandled_hidden)
        body = without_added_proxy_state(body, exchange.upstream)
        return answer_datagram(answer.code, request, body, client)

    def pins_of(self, exchange: RadiusExchange, answer: Packet, now: float) -> tuple[PinChange, ...]:
        """A State in a challenge, and in an Accept after which the NAS will come back with it (section 5.24).

        What the request's own State was pinned for ends with an Accept or a Reject, which are final, and goes on under
        the State of the next challenge.
        """
        if self._state_pins is None:
            return ()
        ended = self._ended_by(exchange, answer) if exchange.is_bound else ()
        if radius.STATE not in answer.offsets:
            return ended
        if answer.code == radius.ACCESS_CHALLENGE:
            life_s = self._state_pins.challenge_s
        elif answer.code == radius.ACCESS_ACCEPT and answer.first(radius.TERMINATION_ACTION) == _RADIUS_REQUEST:
            timeout = answer.first(radius.SESSION_TIMEOUT)
            life_s = self._state_pins.session_s
            if timeout is not None and len(timeout) == _INTEGER_BYTES:
                life_s = min(life_s, int.from_bytes(timeout, "big") + _SESSION_SLACK_S)
        else:
            return ended
        state = answer.first(radius.STATE) or b""
        key = self._pin_key(exchange.request, exchange.source.client, state)
        return (*ended, Pin(key, exchange.backend.name, now + life_s))

    def _ended_by(self, exchange: RadiusExchange, answer: Packet) -> tuple[PinEnd, ...]:
        if answer.code == radius.PROTOCOL_ERROR or (
            answer.code == radius.ACCESS_CHALLENGE and radius.STATE not in answer.offsets
        ):
            return ()  # the client can only come back with the State that it has
        request = exchange.request
        key = self._pin_key(request, exchange.source.client, request.first(radius.STATE) or b"")
        return (PinEnd(key, exchange.backend.name, exchange.begun_at),)

    def _pin_key(self, request: Packet, client: RadiusPeer, state: bytes) -> bytes:
        return radius_state_key(self.pool.name, client.name, request.first(radius.USER_NAME) or b"", state)
