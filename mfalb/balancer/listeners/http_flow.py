"""One HTTP exchange: the events of its two connections, and what follows from each."""

from __future__ import annotations

from typing import Final, assert_never

from mfalb.balancer.affinity.store import PinChange
from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.http import Forward, HttpExchange, NeedBody, Refuse, RequestDecision, Wait
from mfalb.balancer.exchange.http_affinity import Moment
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.listeners.http_ending import Ending, Phase
from mfalb.balancer.listeners.http_relay import HttpRelay
from mfalb.balancer.listeners.pin_changes import change_pins
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.upstreams.http_connection import UpstreamConnection
from mfalb.balancer.upstreams.pin_sharing import PinSharing
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.wire.http_fields import Framing
from mfalb.wire.http_heads import SWITCHING_PROTOCOLS, ResponseHead

_CONNECTION_BROKE: Final = frozenset(("stale", "reset", "closed_early"))  # all other failures are bad answers
_SERVER_ERROR: Final = 500
# Members of an Enum are looked up by name wherever they stand: 0.1 us each in compiled code
_NO_BODY: Final = Framing.NONE
_QUEUE: Final = Phase.QUEUE
_CONNECT: Final = Phase.CONNECT
_HEAD: Final = Phase.HEAD
_DATA: Final = Phase.DATA
_TUNNEL: Final = Phase.TUNNEL


class HttpFlow(HttpRelay):
    """From a request's head to the end of its answer."""

    __slots__ = ()

    # ------------------------------------------------------------------------------ the request

    def start(self) -> None:
        """Ask where the request goes. Raises MalformedMessage for a target that must be refused."""
        if self.head.length > self._parts.body_bytes:
            self.refuse(refusals.BODY_TOO_LARGE)
            return
        self._decide(self._parts.exchanges.begin(self.head, self._host.client, self._moment))

    def _decide(self, decision: RequestDecision) -> None:
        if isinstance(decision, Forward):
            self.exchange = decision.exchange
            decision.backend.active += 1
            self._place = decision.backend
            self._forward(decision.exchange, decision.backend)
        elif isinstance(decision, NeedBody):
            self.exchange = decision.exchange
            self._upload.collect_limit = decision.limit
            if self.head.special.pop(b"expect", None) is not None:
                self._host.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # .NET clients wait for it before they go on
        elif isinstance(decision, Wait):
            self._wait(decision)
        elif isinstance(decision, Refuse):
            self.exchange = decision.exchange or self.exchange
            self.refuse(decision.refusal)
        else:
            assert_never(decision)

    def _wait(self, decision: Wait) -> None:
        exchange = self.exchange = decision.exchange
        line = exchange.pool.line
        self._phase = _QUEUE
        self._ticket = line.join(self, decision.backend.name if decision.backend is not None else "")
        if self._ticket is None:
            self.refuse(refusals.QUEUE_FULL)
        else:
            self.deadline = self._parts.clock.now + exchange.pool.config.queue.timeout_s

    def turn_came(self, backend: Backend) -> None:
        """The exchange waited for this; it counts as active there already."""
        self._parts.clock.read()
        exchange = self._known_exchange()
        self._ticket = None
        self._place = exchange.backend = backend
        if self._is_ended:  # it left between the call and now
            self._give_place_back()
            return
        self._forward(exchange, backend)

    def _forward(self, exchange: HttpExchange, backend: Backend) -> None:
        pool = exchange.pool
        self._phase = _CONNECT
        self.deadline = self._parts.clock.now + pool.response_timeout_s
        upstream = self._parts.upstreams[pool.name]
        opening = upstream.opening(self._host.client.endpoints)
        connection = upstream.idle_connection(backend, opening, must_be_fresh=not exchange.may_be_sent_twice)
        if connection is None:
            upstream.connect(backend, self, opening)
        else:
            self.upstream_connected(connection)

    def request_body(self, data: bytes) -> None:
        """The client's event: some of the body, without its framing; or of what a tunnel carries."""
        if self._is_ended:
            return
        parts, upload = self._parts, self._upload
        upload.count(len(data))
        if self._phase is _TUNNEL:
            self.deadline = parts.clock.now + parts.limits.tunnel_timeout_s
            if self._connection is not None:
                self._connection.write(data)
            return
        if upload.size > parts.body_bytes:
            self._break_off(refusals.BODY_TOO_LARGE, Ending.PROXY)
            return
        if self._connection is not None:
            self.deadline = parts.clock.now + self._known_exchange().pool.response_timeout_s
            self._connection.write(upload.framed(data))
            return
        upload.keep(data)
        if upload.collect_limit:
            if upload.is_past_collecting:  # too large to be what we look for: balanced without a pin
                parts.counters.drops["pin_not_looked_for"] += 1
                self._choose_with(None)
        elif upload.is_full:
            self._host.pause_for_upstream()

    def request_end(self, trailers: list[bytes]) -> None:
        """The client's event: the request is complete."""
        upload = self._upload
        upload.end(trailers)
        if self._is_ended:
            return
        if upload.collect_limit:
            self._choose_with(upload.kept)
        elif self._connection is not None:
            ending = upload.ending
            if ending:
                self._connection.write(ending)

    def _choose_with(self, body: bytes | None) -> None:
        self._upload.collect_limit = 0
        sharing = self._parts.sharing
        if sharing is not None and body is not None:
            self._choose_shared(sharing, body)
            return
        self._decide(self._parts.exchanges.with_body(self._known_exchange(), body, self._moment))

    def _choose_shared(self, sharing: PinSharing, body: bytes) -> None:
        """Another node may know which server began what this request continues."""
        exchanges, exchange = self._parts.exchanges, self._known_exchange()
        missing = exchanges.missing_keys(exchange, body, self._moment)

        def go_on(_now: float) -> None:
            if not self._is_ended:  # else the client left meanwhile
                began = self._moment
                moment = Moment(self._parts.clock.read(), began.wall, began.entropy)
                self._decide(exchanges.with_body(exchange, body, moment))

        if not missing or not sharing.look_up(missing, go_on):
            self._decide(exchanges.with_pin(exchange))

    # ------------------------------------------------------------------------------ the upstream's events

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        """A connection is ours: send what we have."""
        if self._is_ended:  # the client left while we connected
            connection.abort()
            return
        self._connection = connection
        self._phase = _HEAD
        connection.begin(self, self.head.method, bool(self.head.upgrade))
        if self._host.is_full:  # still busy with the answer before this one
            connection.pause()
        connection.write(self._parts.exchanges.upstream_head(self._known_exchange()))
        if self.head.framing is not _NO_BODY:
            kept = self._upload.take_kept()
            if kept:
                connection.write(kept)
                self._host.resume_for_upstream()

    def upstream_failed(self, failure: BackendFailure) -> None:
        """Not connected (nothing sent), or broken on the way."""
        self._connection = None
        backend = self._place
        if self._is_ended or backend is None:
            return
        if self._phase is _TUNNEL:
            self._tunnel_ended()
            return
        exchange = self._known_exchange()
        self._give_place_back()
        if not failure.sent:
            self._parts.backend_refused(exchange, failure)
            self._decide(self._parts.exchanges.refused(exchange, backend))
            return
        is_broken = failure.reason in _CONNECTION_BROKE
        is_untouched = is_broken and not failure.is_answered and not self.bytes_in
        if is_untouched and failure.reason == "stale" and exchange.may_be_sent_twice:
            self._connect_anew(exchange, backend)
            return
        self._parts.backend_broke(exchange, failure)
        decision = self._parts.exchanges.unanswered(exchange, backend) if is_untouched else None
        if decision is not None:
            self._decide(decision)
            return
        if self._answer.is_released:
            self.reason = failure.reason
        if is_broken:
            self._break_off(refusals.BACKEND_BROKE, Ending.SERVER)
        else:
            self._break_off(refusals.BACKEND_GARBAGE, Ending.PROXY)

    def _connect_anew(self, exchange: HttpExchange, backend: Backend) -> None:
        """The same backend: it had closed a connection that it had kept for long."""
        backend.active += 1
        self._place = backend
        upstream = self._parts.upstreams[exchange.pool.name]
        upstream.connect(backend, self, upstream.opening(self._host.client.endpoints))

    def upstream_pause(self) -> None:
        self._host.pause_for_upstream()

    def upstream_resume(self) -> None:
        self._host.resume_for_upstream()

    def response_head(self, head: ResponseHead) -> None:
        """The backend's event: an interim or the real head."""
        if head.is_interim:
            self._answer.interim(head, self.head)
            return
        status = self.status = head.status
        self._phase = _DATA
        if status == SWITCHING_PROTOCOLS:
            self._score(status)
            self._begin_tunnel(head)
        else:
            may_keep = self.head.is_keep_alive and self._upload.is_done and not self._parts.is_leaving
            self._answer.begin(head, self._known_exchange(), may_keep=may_keep)

    def _score(self, status: int) -> None:
        """Passive health: the answer is complete. One that breaks off after a good head is no good answer."""
        backend = self._place
        if backend is not None and (backend.consecutive_failures or status >= _SERVER_ERROR):
            self._parts.backend_answered(backend, status)

    def response_body(self, data: bytes) -> None:
        """The backend's event: some of the answer's body, without its framing; or of what a tunnel carries."""
        parts, exchange = self._parts, self._known_exchange()
        self.bytes_out += len(data)
        if self._phase is _TUNNEL:
            self.deadline = parts.clock.now + parts.limits.tunnel_timeout_s
            self._host.write(data)
            return
        self.deadline = parts.clock.now + exchange.pool.response_timeout_s
        if not self._answer.body(data, exchange):
            parts.counters.drops["pin_not_looked_for"] += 1

    def response_end(self, trailers: list[bytes]) -> None:
        """The backend's event: the answer is complete."""
        answer, connection, exchange = self._answer, self._connection, self.exchange
        head = answer.head
        if head is None or connection is None or exchange is None:
            return
        self._score(head.status)
        if not answer.is_released:
            now = self._parts.clock.now  # a phone may have rung for minutes since the exchange began
            changes = answer.pin_changes(exchange, now)
            if changes and self._is_held(changes, trailers, now):
                self._leave_backend(connection, head)
                return
            answer.release(exchange)
        answer.end(trailers)
        self._leave_backend(connection, head)
        self._end(keep_alive=answer.is_kept_alive)

    def _is_held(self, changes: tuple[PinChange, ...], trailers: list[bytes], now: float) -> bool:
        """What an answer does to pins, done before it leaves. True when it has to wait for the store."""
        sharing = self._parts.sharing
        made = change_pins(changes, self._parts.pins, sharing, now)
        return bool(made) and sharing is not None and sharing.store(made, lambda _now: self._stored(trailers))

    def _leave_backend(self, connection: UpstreamConnection, head: ResponseHead) -> None:
        self._connection = None
        connection.release(is_reusable=head.is_keep_alive and self._upload.is_done)

    def _stored(self, trailers: list[bytes]) -> None:
        """Another node can go on with what the held answer begins, or its time is over: the client gets it."""
        if self._is_ended:  # the client left meanwhile
            return
        self._parts.clock.read()
        self._answer.release(self._known_exchange())
        self._answer.end(trailers)
        self._end(keep_alive=self._answer.is_kept_alive)

    # ------------------------------------------------------------------------------ tunnels (WebSocket)

    def _begin_tunnel(self, head: ResponseHead) -> None:
        """The backend has agreed to switch protocols; not before this may a byte behind the request reach it."""
        connection = self._connection
        if connection is None:
            return
        self._phase = _TUNNEL
        self.deadline = self._parts.clock.now + self._parts.limits.tunnel_timeout_s
        self._answer.switch(head, self._known_exchange())
        rest = connection.begin_tunnel()
        if rest:
            self.response_body(rest)
        self._host.begin_tunnel()

    def client_eof(self) -> bool:
        """The client's event: it sends nothing more. True when the tunnel stays half open."""
        if self._phase is not _TUNNEL or self._connection is None:
            return False
        if self._is_half_ended:
            self._both_ended()
            return False
        self._is_half_ended = True
        self._connection.write_eof()
        return True

    def upstream_eof(self) -> None:
        if self._is_half_ended:
            self._both_ended()
            return
        self._is_half_ended = True
        self._host.end_tunnel(is_half=True)


def refusal_of(error: MalformedMessage) -> Refusal:
    """What a client is told whose request cannot be read."""
    return refusals.malformed(error.reason)
