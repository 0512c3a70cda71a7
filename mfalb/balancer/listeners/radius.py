"""A RADIUS listener: batches of datagrams from clients, through the exchange, out to backends, and back."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final, assert_never

from mfalb.balancer.affinity.store import PinStore
from mfalb.balancer.exchange.radius import (
    Drop,
    Forward,
    RadiusExchange,
    RadiusExchanges,
    Reply,
    RequestDecision,
    Resend,
)
from mfalb.balancer.listeners.radius_clients import RadiusClients
from mfalb.balancer.upstreams.radius import RadiusUpstream
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.net.datagrams import Datagram, DatagramPoller, DatagramSocket, batched_or_plain, host_of
from mfalb.net.entropy import Entropy
from mfalb.telemetry.log import AccessLog, LineForm
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.wire import radius

_ANSWERS: Final = {
    radius.ACCESS_ACCEPT: "accept",
    radius.ACCESS_REJECT: "reject",
    radius.ACCESS_CHALLENGE: "challenge",
}
_LINE: Final = LineForm("radius", ("listener", "client", "backend", "answer", "reason", "pin", "ms"))

_log = logging.getLogger("mfalb.listeners.radius")


@dataclass(slots=True)
class RadiusParts:
    """What a RADIUS listener is wired to."""

    exchanges: RadiusExchanges
    clients: RadiusClients
    pins: PinStore
    counters: ListenerCounters
    access_log: AccessLog | None
    backend_refused: Callable[[RadiusExchange], None]


class _Endpoint:
    """One bound socket. `tag` stands before a source address, so that two sockets' clients are never one."""

    __slots__ = ("io", "outbox", "tag")

    def __init__(self, tag: bytes, io: DatagramSocket) -> None:
        self.tag = tag
        self.io = io
        self.outbox: list[Datagram] = []


class RadiusListener:
    """Owns the bound sockets it is given, and the upstream sockets it opens."""

    def __init__(self, parts: RadiusParts, poller: DatagramPoller, sockets: Sequence[socket.socket]) -> None:
        self._parts = parts
        self._poller = poller
        self._upstream = RadiusUpstream(poller, self)
        self._entropy = Entropy()
        self._endpoints = [
            _Endpoint(bytes((index,)), batched_or_plain(sock, is_connected=False)) for index, sock in enumerate(sockets)
        ]
        for endpoint in self._endpoints:
            poller.watch(endpoint.io.socket, self._reader(endpoint))

    @property
    def in_flight(self) -> int:
        return len(self._parts.exchanges.duplicates.in_flight)

    def close(self) -> None:
        for endpoint in self._endpoints:
            self._poller.forget(endpoint.io.socket)
            endpoint.io.socket.close()
        self._upstream.close()

    def flush(self) -> None:
        """Send what has gathered: to backends first, then answers."""
        self._upstream.flush()
        for endpoint in self._endpoints:
            if endpoint.outbox:
                outbox, endpoint.outbox = endpoint.outbox, []
                lost = len(outbox) - endpoint.io.send(outbox)
                if lost:
                    self._parts.counters.drops["send_buffer_full"] += lost  # the client asks again and gets it stored

    def tick(self) -> None:
        """Give up what is past its deadline. Called a few times a second."""
        for exchange in self._parts.exchanges.expire(monotonic()):
            self._upstream.release(exchange)
            self._parts.counters.drops["backend_silent"] += 1
            self._access(exchange, "none", "backend_silent", monotonic())

    # ------------------------------------------------------------------------------ the client's side

    def _reader(self, endpoint: _Endpoint) -> Callable[[], None]:
        find, begin, take = self._parts.clients.find, self._parts.exchanges.request, self._entropy.take
        counters, tag, receive = self._parts.counters, endpoint.tag, endpoint.io.receive

        def read() -> None:
            now = monotonic()
            for data, peer in self._received(receive):
                counters.requests += 1
                client = find(host_of(peer))
                if client is None:
                    counters.drops["unknown_client"] += 1
                    continue
                source = tag + peer
                decision = begin(data, source, client, now, take())
                if type(decision) is Forward and decision.superseded is None:  # nearly all: skips the match's checks
                    self._forward(decision.exchange, now)
                else:
                    self._carry_out(decision, source, now)

        return read

    def _received(self, receive: Callable[[], list[Datagram]]) -> list[Datagram]:
        try:
            return receive()
        except OSError as error:  # a client's host refused an earlier answer: nothing to do about it
            self._parts.counters.drops["client_unreachable"] += 1
            _log.debug("client unreachable", extra={"reason": error.strerror})
            return []

    def _carry_out(self, decision: RequestDecision, source: bytes, now: float) -> None:
        match decision:
            case Forward(exchange, superseded):
                if superseded is not None:
                    self._upstream.release(superseded)
                    self._parts.counters.drops["superseded"] += 1
                self._forward(exchange, now)
            case Resend(exchange):
                self._parts.counters.drops["duplicate_resent"] += 1
                self._upstream.resend(exchange, now)
            case Reply():
                self._reply(decision, source, now)
            case Drop(reason, finished):
                self._parts.counters.drops[reason] += 1
                if finished is not None:
                    self._upstream.release(finished)
                    self._access(finished, "none", reason, now)
            case _:
                assert_never(decision)

    def _forward(self, exchange: RadiusExchange, now: float) -> None:
        try:
            self._upstream.send(exchange, now)
        except (BackendFailure, MalformedMessage) as error:
            self._parts.exchanges.give_up(exchange)
            self._parts.counters.drops[error.reason] += 1
            self._access(exchange, "none", error.reason, now)

    # ------------------------------------------------------------------------------ the backend's side

    def answered(self, exchange: RadiusExchange, datagram: bytes) -> None:
        """The upstream's event: a datagram came under this exchange's identifier."""
        now = monotonic()
        decision = self._parts.exchanges.answer(exchange, datagram, now)
        if isinstance(decision, Reply):
            self._reply(decision, exchange.source, now)
        else:
            self._parts.counters.drops[decision.reason] += 1

    def stray_answer(self) -> None:
        """The upstream's event: a datagram came under an identifier that nobody holds (late, or forged)."""
        self._parts.counters.drops["late_answer"] += 1

    def refused(self, exchange: RadiusExchange) -> None:
        """The upstream's event: the backend's host said that it did not receive this exchange's datagram."""
        self._parts.backend_refused(exchange)
        now = monotonic()
        decision = self._parts.exchanges.refused(exchange, now, self._entropy.take())
        self._carry_out(decision, exchange.source, now)

    def _reply(self, reply: Reply, source: bytes, now: float) -> None:
        if reply.pin is not None:
            self._parts.pins.put(reply.pin, now)  # before the answer is released: the next half may come at once
        self._endpoints[source[0]].outbox.append((reply.datagram, source[1:]))
        answer = _ANSWERS[reply.datagram[0]]
        if reply.reason == "answered":
            self._parts.counters.answers[answer] += 1
        else:
            self._parts.counters.answers[reply.reason] += 1
        exchange = reply.exchange
        if exchange is not None:
            self._upstream.release(exchange)
            self._parts.counters.seconds += now - exchange.begun_at
            self._access(exchange, answer, reply.reason, now)

    def _access(self, exchange: RadiusExchange, answer: str, reason: str, now: float) -> None:
        log = self._parts.access_log
        if log is not None:
            milliseconds = round((now - exchange.begun_at) * 1000, 1)
            pinned = "-" if exchange.state is None else "state"
            values = (
                self._parts.counters.name, exchange.client.name, exchange.backend.name,
                answer, reason, pinned, milliseconds,
            )  # fmt: skip
            log.add(_LINE, values)
