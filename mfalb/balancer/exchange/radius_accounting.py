"""Accounting (RFC 2866): records pass through, and only the server that keeps one may say that it is kept.

A session's records go to the server that let it in, where its pool follows one of authentication.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Final

from mfalb.balancer.affinity.radius_session import session_keys
from mfalb.balancer.affinity.store import Pin, PinChange, PinStore
from mfalb.balancer.config.radius_models import RadiusSessionAffinity
from mfalb.balancer.exchange.radius_authentication import Authentication
from mfalb.balancer.exchange.radius_content_signed import ContentSignedService
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.exchange.radius_rehiding import count_hidden
from mfalb.balancer.exchange.radius_rules import access_request_untrusted
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet

_INTEGER_BYTES: Final = 4  # RFC 2866 section 5
_DELAY_LIMIT_S: Final = 0xFFFFFFFF
# Acct-Status-Type: Accounting-On and Accounting-Off speak of a whole NAS (RFC 2866 section 5.1)
_WHOLE_NAS: Final = frozenset(status.to_bytes(_INTEGER_BYTES, "big") for status in (7, 8))


class Accounting(ContentSignedService):
    """Accounting-Requests of one pool. None is bound to a server: a record that another one keeps is not lost."""

    status_answer_code: ClassVar[int] = radius.ACCOUNTING_RESPONSE
    answer_codes: ClassVar[Mapping[int, frozenset[int]]] = {
        radius.ACCOUNTING_REQUEST: frozenset((radius.ACCOUNTING_RESPONSE, radius.PROTOCOL_ERROR))
    }

    def __init__(self, pool: Pool, upstreams: Mapping[str, RadiusPeer], pins: PinStore) -> None:
        super().__init__(pool, upstreams)
        self.pins = pins
        affinity = pool.config.affinity
        self._follows = affinity.follows if isinstance(affinity, RadiusSessionAffinity) else None

    def request_untrusted(self, datagram: bytes, client: RadiusPeer) -> Packet:
        if datagram[:1] == bytes((radius.STATUS_SERVER,)):
            return access_request_untrusted(datagram, client)  # signed as on the other port (RFC 5997 section 3)
        packet = super().request_untrusted(datagram, client)
        if len(packet.data) > radius.ACCOUNTING_LIMIT_BYTES:
            raise MalformedMessage("bad_length")
        return packet

    def backend_for(self, request: Packet, client: RadiusPeer, now: float, _issuer: str | None) -> Backend | None:
        """The server that let the session in, if that is known and it is up; else whose turn it is."""
        if self._follows is not None:
            backend = self._pinned(self._follows, request, client, now)
            if backend is not None:
                return backend
        return self.balanced(request, client)

    def _pinned(self, follows: str, request: Packet, client: RadiusPeer, now: float) -> Backend | None:
        for key in self._session_keys(follows, request, client):
            name = self.pins.find(key, now)
            if name is not None:
                return self.pool.pinned(name)
        return None

    def missing_keys(self, request: Packet, client: RadiusPeer, now: float) -> tuple[bytes, ...]:
        if self._follows is None:
            return ()
        keys = tuple(self._session_keys(self._follows, request, client))
        return () if any(self.pins.peek(key, now) is not None for key in keys) else keys

    @staticmethod
    def _session_keys(follows: str, request: Packet, client: RadiusPeer) -> Iterator[bytes]:
        if request.first(radius.ACCT_STATUS_TYPE) in _WHOLE_NAS:
            return iter(())
        user_name = request.first(radius.USER_NAME) or b""
        return session_keys(follows, client.name, user_name, request, request.every(radius.CLASS))

    def upstream_body(self, exchange: RadiusExchange) -> bytes:
        """As it came, but for Acct-Delay-Time when the record comes to its present server later than from its NAS."""
        if exchange.upstream.secret is not exchange.source.client.secret:
            count_hidden(exchange.request, self.unhandled_hidden)  # over what it was hidden is not agreed upon
        waited_s = int(exchange.first_sent_at - exchange.begun_at)
        request = exchange.request if waited_s < 1 else _delayed(exchange.request, waited_s)
        return radius.body_without_message_authenticator(request)


def _delayed(request: Packet, waited_s: int) -> Packet:
    """A record whose Acct-Delay-Time, if it has one, tells of the time it waited here (RFC 2866 section 5.2)."""
    delay = request.first(radius.ACCT_DELAY_TIME)
    if delay is None or len(delay) != _INTEGER_BYTES:
        return request
    start = request.offsets[radius.ACCT_DELAY_TIME] + 2
    delay_s = min(int.from_bytes(delay, "big") + waited_s, _DELAY_LIMIT_S)
    data = request.data[:start] + delay_s.to_bytes(_INTEGER_BYTES, "big") + request.data[start + _INTEGER_BYTES :]
    return Packet(data, request.offsets)


class FollowedAuthentication(Authentication):
    """Authentication whose sessions are remembered for their accounting. A class of its own: others pay nothing."""

    def __init__(self, pool: Pool, upstreams: Mapping[str, RadiusPeer], pins: PinStore, session_s: float) -> None:
        super().__init__(pool, upstreams, pins)
        self._session_s = session_s

    def pins_of(self, exchange: RadiusExchange, answer: Packet, now: float) -> tuple[PinChange, ...]:
        """Those of the State, and those of the session that an Access-Accept begins.

        A NAS should call the user as the Accept does (RFC 2865 section 5.1), but some go on as they began.
        """
        pins = super().pins_of(exchange, answer, now)
        if answer.code != radius.ACCESS_ACCEPT:
            return pins
        request, client = exchange.request, exchange.source.client.name
        names = {name for name in (answer.first(radius.USER_NAME), request.first(radius.USER_NAME)) if name}
        classes, expires_at = answer.every(radius.CLASS), now + self._session_s
        keys = {key for name in names or {b""} for key in session_keys(self.pool.name, client, name, request, classes)}
        return (*pins, *(Pin(key, exchange.backend.name, expires_at) for key in keys))
