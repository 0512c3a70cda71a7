"""Between clients' sockets and backends' sockets: asks the exchanges what to do about a datagram, and does it.

One for each service of a RADIUS listener, whatever its transport is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from time import monotonic
from typing import Final, assert_never, cast

from mfalb.balancer.affinity.store import Pin, PinStore
from mfalb.balancer.exchange.radius import RadiusExchanges
from mfalb.balancer.exchange.radius_exchange import Ask, Drop, Forward, RadiusExchange, Reply, RequestDecision, Resend
from mfalb.balancer.exchange.radius_guards import LOOP
from mfalb.balancer.exchange.radius_peer import RadiusPeer, RadiusSource
from mfalb.balancer.exchange.radius_shared import SharedRadiusExchanges
from mfalb.balancer.listeners.pin_changes import change_pins
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.pin_sharing import PinSharing
from mfalb.balancer.upstreams.radius_carrier import RadiusCarrier
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.net.entropy import Entropy
from mfalb.telemetry.log import AccessLog, LineForm
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.telemetry.rare_log import RareLog
from mfalb.wire import radius

_ANSWERS: Final = {
    radius.ACCESS_ACCEPT: "accept",
    radius.ACCESS_REJECT: "reject",
    radius.ACCESS_CHALLENGE: "challenge",
    radius.ACCOUNTING_RESPONSE: "accounting",
    radius.DISCONNECT_ACK: "ack",
    radius.DISCONNECT_NAK: "nak",
    radius.COA_ACK: "ack",
    radius.COA_NAK: "nak",
    radius.PROTOCOL_ERROR: "protocol_error",
}
_ANSWER_NAMES: Final = [_ANSWERS.get(code, "") for code in range(256)]
_LINE: Final = LineForm("radius", ("listener", "client", "backend", "answer", "reason", "pin", "ms"), varying=1)
# What an operator should hear of: who it is that cannot sign, loops, floods or is being attacked
_ALERTS: Final = {
    "missing_message_authenticator": "a client does not sign",
    "bad_message_authenticator": "a client signs with another secret, or its packets are altered",
    "unsigned_proxy_state": "a client sends Proxy-State unsigned",
    "bad_request_authenticator": "a client signs with another secret",
    "unexpected_code": "a client sends what this listener's service does not take",
    "loop": "requests go round in a loop",
    "rate_limit": "a client begins more than it may",
    "user_limit": "a user's sign-ins are begun too often",
    "not_routed": "a request names a NAS that is not known or cannot be asked",
    "in_flight_limit": "too many requests are waiting for backends",
    "unsupported": "a client asks for what its listener has no service for",
}
_BACKEND_ALERTS: Final = {
    "bad_response_authenticator": "a backend signs with another secret, or answers are forged",
    "bad_message_authenticator": "a backend signs with another secret, or answers are altered",
    "missing_message_authenticator": "a backend does not sign",
    "unsigned_proxy_state": "a backend sends Proxy-State unsigned",
    "foreign_proxy_state": "an answer carries a Proxy-State that nobody sent: someone forges answers (CVE-2024-3596)",
}

_log = logging.getLogger("mfalb.listeners.radius")


@dataclass(slots=True)
class RadiusParts:
    """What a service of a RADIUS listener is wired to.

    `told_unhandled` are the attributes that the log told of already: the listener's, as its counters are.
    """

    exchanges: RadiusExchanges
    pins: PinStore
    counters: ListenerCounters
    access_log: AccessLog | None
    backend_refused: Callable[[RadiusExchange], None]
    told_unhandled: set[str] = field(default_factory=set)
    sharing: PinSharing | None = None


class RadiusDispatch:
    """The middle of a RADIUS listener, for one of its services. Owns nothing that has to be closed but its upstream."""

    def __init__(self, parts: RadiusParts, upstream: Callable[[RadiusDispatch], RadiusCarrier]) -> None:
        self._exchanges = parts.exchanges
        self._bound_by = parts.exchanges.service.bound_by
        self._pins = parts.pins
        self.counters = parts.counters
        self._access_log = parts.access_log
        self._backend_refused = parts.backend_refused
        self.backend_endpoints = backend_endpoints(parts.exchanges.pool)
        self._entropy = Entropy()
        self._rare_log = RareLog(_log)
        self._told_unhandled = parts.told_unhandled
        self._sharing = parts.sharing
        self.upstream = upstream(self)

    def follow(self, exchanges: RadiusExchanges) -> None:
        """Other rules, pool or secrets; what is in flight or was answered goes on being known."""
        self._exchanges.follow(exchanges)
        self._bound_by = exchanges.service.bound_by
        self.backend_endpoints = backend_endpoints(exchanges.pool)
        self.upstream.follow(exchanges.pool.backends)

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits for a store that nodes share."""
        return not self._exchanges.is_waiting

    @property
    def exchanges(self) -> RadiusExchanges:
        """For who hands them over to another worker, or takes them up from one."""
        return self._exchanges

    @property
    def pool(self) -> Pool:
        return self._exchanges.pool

    @property
    def in_flight(self) -> int:
        return len(self._exchanges.duplicates.in_flight)

    @property
    def unknown_states(self) -> int:
        return self._exchanges.unknown_states

    @property
    def answers_forgotten_early(self) -> int:
        return self._exchanges.duplicates.forgotten_early

    def busy_sources(self) -> set[RadiusSource]:
        """The clients' sockets that wait for an answer. Not for the hot path: it looks at all that is in flight."""
        return {exchange.source for exchange in self._exchanges.duplicates.in_flight.values()}

    def tick(self) -> None:
        """Give up what is past its deadline. Called a few times a second."""
        now = monotonic()
        for exchange in self._exchanges.expire(now):
            self._end(exchange, "backend_silent" if exchange.flight is None else "left_to_predecessor", now)
        for exchange in self._exchanges.expire_superseded(now):
            self.upstream.release(exchange, now)

    def expire(self, now: float) -> None:
        """Forget what no longer counts, tell what was seen for the first time. Called about once a second."""
        self._exchanges.guards.expire(now)
        self.upstream.expire(now)
        self._tell_of_unhandled()

    def _tell_of_unhandled(self) -> None:
        """Each attribute is told of once: it comes with every answer, and only a change of configuration helps."""
        for attribute in self.counters.unhandled_hidden.keys() - self._told_unhandled:
            self._told_unhandled.add(attribute)
            facts = {"listener": self.counters.name, "attribute": attribute}
            _log.warning("an attribute hidden with another secret passed as it was: use equal secrets", extra=facts)

    # ------------------------------------------------------------------------------ the client's side

    def received(self, data: bytes, source: RadiusSource, now: float) -> None:
        """A datagram came from a known client."""
        decision = self._exchanges.request(data, source, now, self._entropy.take())
        if type(decision) is Forward and decision.superseded is None:  # nearly all: skips the match's checks
            self._forward(decision.exchange, now)
        else:
            self._carry_out(decision, source, now)

    def decided(self, decision: Reply | Drop, source: RadiusSource, now: float) -> None:
        """The listener knew by itself what to do about a packet of a known client's."""
        self._carry_out(decision, source, now)

    def unknown_client(self, host: Callable[[], str]) -> None:
        """A datagram came from someone who has no secret with us (RFC 2865 section 2); `host` makes its address."""
        self.counters.drops["unknown_client"] += 1
        self._rare_log.warning("unknown_client", "a client that is not configured", {"host": host})

    def looped(self, client: RadiusPeer, host: Callable[[], str]) -> None:
        """A client's datagram came from the very socket that one of the backends listens on."""
        self.counters.drops[LOOP] += 1
        self._blame(client, LOOP, host)

    def failed(self, error: Exception) -> None:
        """Something went wrong here with one datagram, which is lost. Told once a minute with its traceback."""
        self.counters.drops["internal_error"] += 1
        self._rare_log.error(type(error).__name__, "internal error: a datagram is lost", error)

    def lost(self, reason: str, count: int = 1) -> None:
        """Something of a client's did not make it, or an answer to one."""
        self.counters.drops[reason] += count

    def _carry_out(self, decision: RequestDecision, source: RadiusSource, now: float) -> None:
        match decision:
            case Forward(exchange, superseded):
                if superseded is not None:
                    self._superseded(superseded, now)
                self._forward(exchange, now)
            case Resend(exchange):
                exchange.backend.suspect(exchange.first_sent_at, now)
                is_resent = self.upstream.resend(exchange, now)
                self.counters.drops["duplicate_resent" if is_resent else "duplicate_in_flight"] += 1
            case Reply():
                if decision.superseded is not None:
                    self._superseded(decision.superseded, now)
                self._reply(decision, source, now)
            case Drop(reason, finished):
                if finished is not None:
                    self._end(finished, reason, now)
                else:
                    self.drop(source, reason)
            case Ask():
                self._ask(decision, source)
            case _:
                assert_never(decision)

    def drop(self, source: RadiusSource, reason: str) -> None:
        """What came from a known client is discarded: count it, tell who should hear of it."""
        self.counters.drops[reason] += 1
        self._blame(source.client, reason, lambda: source.path.host(source.peer))
        source.path.discarded(reason)

    def _blame(self, client: RadiusPeer, reason: str, host: Callable[[], str]) -> None:
        """For the operator: whose datagram got nothing, or a refusal of ours. Names a device, never a user."""
        client.drops[reason] += 1
        alert = _ALERTS.get(reason)
        if alert is not None:
            facts: dict[str, str | Callable[[], str]] = {
                "listener": self.counters.name,
                "client": client.name,
                "host": host,  # a client may be a whole network
            }
            self._rare_log.warning(f"{client.name}/{reason}", alert, facts)

    def _superseded(self, exchange: RadiusExchange, now: float) -> None:
        """Its client asks for something else now, and gets no answer to this."""
        self.counters.drops["superseded"] += 1
        self._access(exchange, "none", "superseded", now)
        crowded_out = self._exchanges.crowded_out()
        if crowded_out is not None:
            self.upstream.release(crowded_out, now)

    def _forward(self, exchange: RadiusExchange, now: float) -> None:
        try:
            self.upstream.send(exchange, now)
        except BackendFailure as failure:
            self.not_sent(exchange, failure.reason, now)
        except MalformedMessage as error:
            self._exchanges.give_up(exchange)
            self._end(exchange, error.reason, now)

    def not_sent(self, exchange: RadiusExchange, reason: str, now: float) -> None:
        """The upstream's event: for want of something of ours the exchange did not leave. No evidence of anything.

        Another backend gets it at once. What only this one can go on with is not refused, since the server lives: it
        meets silence, and the client's next retransmit begins anew.
        """
        if exchange.is_superseded:
            self._let_go(exchange, now)
            return
        if not exchange.is_bound:
            decision = self._exchanges.refused(exchange, now, self._entropy.take())
            if type(decision) is Forward:
                self._forward(decision.exchange, now)
                return
        self._exchanges.give_up(exchange)
        self._end(exchange, reason, now)

    def _end(self, exchange: RadiusExchange, reason: str, now: float) -> None:
        """An exchange is over and its client gets nothing."""
        self.upstream.release(exchange, now)
        self.counters.drops[reason] += 1
        self._access(exchange, "none", reason, now)

    def _let_go(self, exchange: RadiusExchange, now: float) -> None:
        """Nothing is to come any more for an exchange that was superseded, and counted then."""
        self._exchanges.forget_superseded(exchange)
        self.upstream.release(exchange, now)

    # ------------------------------------------------------------------------------ the backend's side

    def answered(self, exchange: RadiusExchange, datagram: bytes, now: float) -> str | None:
        """The upstream's event: a datagram came under this exchange's identifier. Returns why it was discarded."""
        decision = self._exchanges.answer(exchange, datagram, now)
        if isinstance(decision, Reply):
            exchange.backend.last_reply_at = now
            self._reply(decision, exchange.source, now)
            return None
        if decision.exchange is not None:  # sound, and too late: its client asks something else by now
            exchange.backend.last_reply_at = now
            self.upstream.release(exchange, now)
            self.counters.drops[decision.reason] += 1
            return None
        self._drop_answer(exchange, decision.reason)
        return decision.reason

    def _drop_answer(self, exchange: RadiusExchange, reason: str) -> None:
        self.counters.drops[reason] += 1
        upstream = exchange.upstream
        upstream.drops[reason] += 1
        alert = _BACKEND_ALERTS.get(reason)
        if alert is not None:
            facts = {"listener": self.counters.name, "backend": upstream.name}
            self._rare_log.warning(f"{upstream.name}/{reason}", alert, facts)

    def stray_answer(self) -> None:
        """The upstream's event: a datagram came under an identifier that nobody holds (late, or forged)."""
        self.counters.drops["late_answer"] += 1

    def refused(self, exchange: RadiusExchange) -> None:
        """The upstream's event: the backend's host said that it did not receive this exchange's datagram."""
        self._backend_refused(exchange)
        self.unsent(exchange)

    def unsent(self, exchange: RadiusExchange) -> None:
        """The upstream's event: this exchange's datagram reached nobody."""
        now = monotonic()
        if exchange.is_superseded:
            if exchange.transmissions <= 1:  # else an earlier one may have been received
                self._let_go(exchange, now)
            return
        decision = self._exchanges.refused(exchange, now, self._entropy.take())
        self._carry_out(decision, exchange.source, now)

    def _reply(self, reply: Reply, source: RadiusSource, now: float) -> None:
        if reply.pins:
            made = change_pins(reply.pins, self._pins, self._sharing, now)
            if made and self._sharing is not None:
                self._hold(self._sharing, made, reply, source, now)
                return
        self._release(reply, source, now)

    def _release(self, reply: Reply, source: RadiusSource, now: float) -> None:
        source.path.send(reply.datagram, source.peer)
        counters, exchange, reason = self.counters, reply.exchange, reply.reason
        answer = _ANSWER_NAMES[reply.datagram[0]]
        counters.count_answer(answer if reason == "answered" else reason)
        if exchange is not None:
            self.upstream.release(exchange, now)
            counters.seconds += now - exchange.begun_at
            self._access(exchange, answer, reason, now)
        elif reason in _ALERTS:
            self._blame(source.client, reason, lambda: source.path.host(source.peer))

    # ------------------------------------------------------------------------------ pins that nodes share

    def _ask(self, ask: Ask, source: RadiusSource) -> None:
        """Another node may know what this request continues."""

        def go_on(now: float) -> None:
            exchanges = cast(SharedRadiusExchanges, self._exchanges)
            self._carry_out(exchanges.go_on(ask, source, now, self._entropy.take()), source, now)

        if self._sharing is None or not self._sharing.look_up(ask.missing, go_on):
            go_on(monotonic())

    def _hold(self, sharing: PinSharing, made: list[Pin], reply: Reply, source: RadiusSource, now: float) -> None:
        """Another node must be able to go on before the client can."""
        if reply.exchange is not None:
            self.upstream.release(reply.exchange, now)  # it has answered: a second answer would be nobody's

        def stored(now: float) -> None:
            if cast(SharedRadiusExchanges, self._exchanges).stored(reply, now):
                self._release(reply, source, now)
            else:
                self.counters.drops["late_answer"] += 1

        if not sharing.store(made, stored):
            stored(now)

    def _access(self, exchange: RadiusExchange, answer: str, reason: str, now: float) -> None:
        log = self._access_log
        if log is not None:
            values = (
                self.counters.name, exchange.source.client.name, exchange.backend.name,
                answer, reason, self._bound_by if exchange.is_bound else "-", (now - exchange.begun_at) * 1000,
            )  # fmt: skip
            log.add(_LINE, values)


def backend_endpoints(pool: Pool) -> frozenset[bytes]:
    """Where the backends listen: packed address and port. Those with a host name are left out, not looked up twice."""
    endpoints = set()
    for backend in pool.backends.values():
        with suppress(ValueError):
            endpoints.add(ip_address(backend.address.host).packed + backend.address.port.to_bytes(2, "big"))
    return frozenset(endpoints)
