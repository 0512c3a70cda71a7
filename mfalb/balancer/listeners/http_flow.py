"""One HTTP exchange's bytes between the client's connection and a backend's.

It carries out what the exchange decides. What goes out is gathered while one read is worked on and written once at its
end (`flush`): one system call, and one TLS record, for a head and its body.
"""

from __future__ import annotations

from abc import abstractmethod
from time import monotonic, time
from typing import Final, assert_never

from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.forwarding import ClientFacts, client_framing, response_bytes
from mfalb.balancer.exchange.http import Forward, HttpExchange, NeedBody, Refuse, RequestDecision, Wait
from mfalb.balancer.exchange.http_affinity import Moment
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.listeners.http_ending import Ending, Phase
from mfalb.balancer.listeners.http_parts import HttpParts
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.waiting_line import Ticket
from mfalb.balancer.upstreams.http import UpstreamConnection, UpstreamUser
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.wire.http import NO_TRAILERS, RequestEvents
from mfalb.wire.http_bodies import chunk, last_chunk
from mfalb.wire.http_fields import Framing
from mfalb.wire.http_heads import SWITCHING_PROTOCOLS, RequestHead, ResponseHead

PENDING_LIMIT: Final = 65_536  # bytes of a body kept while a backend is connected; then the client is not read on
BODY_GRACE_S: Final = 10.0  # how long a body may be slower than it must
_SERVER_ERROR: Final = 500
_GARBAGE_EXCEPT: Final = ("stale", "reset", "closed_early")


class FlowHost(RequestEvents):
    """The client's connection, as a flow sees it. `is_full`: the client reads more slowly than it is written to."""

    __slots__ = ("client", "is_full")

    def __init__(self) -> None:
        self.client = ClientFacts("", is_tls=False)
        self.is_full = False

    @property
    @abstractmethod
    def is_paused(self) -> bool:
        """Whether it is we who do not read on."""

    @abstractmethod
    def write(self, data: bytes) -> None: ...

    @abstractmethod
    def pause_for_upstream(self) -> None: ...

    @abstractmethod
    def resume_for_upstream(self) -> None: ...

    @abstractmethod
    def begin_tunnel(self) -> None:
        """Protocols were switched: whatever the client sends is given to `HttpFlow.request_body`."""

    @abstractmethod
    def end_tunnel(self, *, is_half: bool) -> None:
        """The backend sends nothing more; `is_half`: but still listens."""

    @abstractmethod
    def flow_ended(self, flow: HttpFlow, *, keep_alive: bool) -> None: ...

    @abstractmethod
    def abort(self) -> None:
        """Break the connection, so that the client cannot take what it got for a whole answer."""


class HttpFlow(UpstreamUser):
    """From a request's head to the end of its answer."""

    __slots__ = (
        "_answer",
        "_body_credit_s",
        "_checked_at",
        "_collect_limit",
        "_connection",
        "_framing",
        "_held",
        "_host",
        "_is_ended",
        "_is_kept_alive",
        "_moment",
        "_parts",
        "_phase",
        "_pieces",
        "_place",
        "_size",
        "_ticket",
        "_to_client",
        "_to_upstream",
        "_trailers",
        "begun_at",
        "bytes_in",
        "bytes_out",
        "deadline",
        "ending",
        "exchange",
        "head",
        "is_request_done",
        "reason",
        "status",
    )

    def __init__(self, host: FlowHost, parts: HttpParts, head: RequestHead) -> None:
        self._host = host
        self._parts = parts
        self.head = head
        self.exchange: HttpExchange | None = None
        self._connection: UpstreamConnection | None = None
        self._place: Backend | None = None  # where it counts as active
        self._ticket: Ticket | None = None
        self._answer: ResponseHead | None = None
        self._framing = Framing.NONE
        self._collect_limit = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._held: list[bytes] | None = None
        self._to_client: list[bytes] = []
        self._to_upstream: list[bytes] = []
        self._trailers = NO_TRAILERS
        self._phase = Phase.REQUEST
        self.is_request_done = head.framing is Framing.NONE
        self._is_ended = False
        self._is_kept_alive = False
        self.begun_at = self._checked_at = monotonic()
        self._body_credit_s = BODY_GRACE_S
        self.deadline = self.begun_at + 120.0  # until a pool says otherwise
        self._moment = Moment(self.begun_at, time(), parts.entropy.take())
        self.status = 0
        self.reason = "-"
        self.ending = Ending.NORMAL
        self.bytes_in = 0
        self.bytes_out = 0

    # ------------------------------------------------------------------------------ the request

    def start(self) -> None:
        """Ask where the request goes. Raises MalformedMessage for a target that must be refused."""
        if self.head.length > self._parts.limits.body_bytes:
            self.refuse(refusals.BODY_TOO_LARGE)
            return
        self._decide(self._parts.exchanges.begin(self.head, self._host.client, self._moment))

    def _decide(self, decision: RequestDecision) -> None:
        if isinstance(decision, Forward):
            self.exchange = decision.exchange
            decision.backend.active += 1
            self._place = decision.backend
            self._forward(decision.backend)
        elif isinstance(decision, NeedBody):
            self.exchange = decision.exchange
            self._collect_limit = decision.limit
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
        self._phase = Phase.QUEUE
        self._ticket = line.join(self, decision.backend.name if decision.backend is not None else "")
        if self._ticket is None:
            self.refuse(refusals.QUEUE_FULL)
        else:
            self.deadline = monotonic() + exchange.pool.config.queue.timeout_s

    def turn_came(self, backend: Backend) -> None:
        """The exchange waited for this; it counts as active there already."""
        self._ticket = None
        self._place = backend
        self._known_exchange().backend = backend
        self._forward(backend)
        self.flush()

    def _forward(self, backend: Backend) -> None:
        exchange = self._known_exchange()
        self._phase = Phase.CONNECT
        self.deadline = monotonic() + exchange.pool.config.response_timeout_s
        upstream = self._parts.upstreams[exchange.pool.name]
        opening = upstream.opening(self._host.client.endpoints)
        connection = upstream.idle_connection(backend, opening)
        if connection is None:
            upstream.connect(backend, self, opening)
        else:
            self.upstream_connected(connection)

    def _known_exchange(self) -> HttpExchange:
        assert self.exchange is not None  # noqa: S101 - set by every decision that leads here
        return self.exchange

    def request_body(self, data: bytes) -> None:
        """The client's event: some of the body, without its framing; or of what a tunnel carries."""
        if self._is_ended:
            return
        self.bytes_in += len(data)
        if self._phase is Phase.TUNNEL:
            self.deadline = monotonic() + self._parts.limits.tunnel_timeout_s
            self._to_upstream.append(data)
            return
        if self.bytes_in > self._parts.limits.body_bytes:
            self._break_off(refusals.BODY_TOO_LARGE, Ending.PROXY)
            return
        self._earn(len(data))
        if self._connection is not None:
            self.deadline = monotonic() + self._known_exchange().pool.config.response_timeout_s
            self._send_body(data)
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._collect_limit:
            if self._size > self._collect_limit:  # too large to be what we look for: balanced without a pin
                self._parts.counters.drops["pin_not_looked_for"] += 1
                self._choose_with(None)
        elif self._size > PENDING_LIMIT:
            self._host.pause_for_upstream()

    def request_end(self, trailers: list[bytes]) -> None:
        """The client's event: the request is complete."""
        self.is_request_done = True
        if self._is_ended:
            return
        self._trailers = trailers
        if self._collect_limit:
            self._choose_with(b"".join(self._pieces))
        elif self._connection is not None and self.head.framing is Framing.CHUNKED:
            self._to_upstream.append(last_chunk(trailers))

    def _choose_with(self, body: bytes | None) -> None:
        self._collect_limit = 0
        self._decide(self._parts.exchanges.with_body(self._known_exchange(), body, self._moment))

    def _send_body(self, data: bytes) -> None:
        self._to_upstream.append(chunk(data) if self.head.framing is Framing.CHUNKED else data)

    def _earn(self, size: int) -> None:
        """A body that comes pays for the time it takes."""
        rate = self._parts.limits.body_bytes_per_second
        if rate:
            self._body_credit_s = min(self._body_credit_s + size / rate, BODY_GRACE_S)

    # ------------------------------------------------------------------------------ the upstream's events

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        """A connection is ours: send what we have."""
        if self._is_ended:  # the client left while we connected
            connection.abort()
            return
        self._connection = connection
        self._phase = Phase.HEAD
        connection.begin(self, self.head.method, may_switch=bool(self.head.upgrade))
        if self._host.is_full:  # still busy with the answer before this one
            connection.pause()
        self._to_upstream.append(self._parts.exchanges.upstream_head(self._known_exchange()))
        for piece in self._pieces:
            self._send_body(piece)
        if self._pieces:
            self._pieces.clear()
            self._host.resume_for_upstream()
        if self.is_request_done and self.head.framing is Framing.CHUNKED:
            self._to_upstream.append(last_chunk(self._trailers))

    def upstream_failed(self, failure: BackendFailure) -> None:
        """Not connected (nothing sent), or broken on the way."""
        if self._is_ended:
            return
        self._connection = None
        exchange = self._known_exchange()
        backend = self._place
        if backend is None:
            return
        if self._phase is Phase.TUNNEL:
            self._tunnel_ended()
            return
        self._give_place_back()
        if not failure.sent:
            self._parts.backend_refused(exchange, failure)
            self._decide(self._parts.exchanges.refused(exchange, backend))
            return
        self._to_upstream.clear()
        is_untouched = self._answer is None and failure.reason in _GARBAGE_EXCEPT and not self.bytes_in
        if is_untouched and failure.reason == "stale" and exchange.may_be_sent_twice:
            backend.active += 1  # the same backend: it had closed a connection that it had kept for long
            self._place = backend
            upstream = self._parts.upstreams[exchange.pool.name]
            upstream.connect(backend, self, upstream.opening(self._host.client.endpoints))
            return
        self._parts.backend_broke(exchange, failure)
        decision = self._parts.exchanges.unanswered(exchange, backend) if is_untouched else None
        if decision is not None:
            self._decide(decision)
        else:
            is_garbage = failure.reason not in _GARBAGE_EXCEPT
            if self._answer is not None and self._held is None:
                self.reason = failure.reason
            self._break_off(
                refusals.BACKEND_GARBAGE if is_garbage else refusals.BACKEND_BROKE,
                Ending.PROXY if is_garbage else Ending.SERVER,
            )

    def upstream_pause(self) -> None:
        self._host.pause_for_upstream()

    def upstream_resume(self) -> None:
        self._host.resume_for_upstream()

    def response_head(self, head: ResponseHead) -> None:
        """The backend's event: an interim or the real head."""
        if head.is_interim:
            if self.head.minor_version:
                self._to_client.append(response_bytes(head, Framing.NONE, b"", b""))
            return
        self._answer = head
        self.status = head.status
        self._phase = Phase.DATA
        if head.status == SWITCHING_PROTOCOLS:
            self._begin_tunnel(head)
        elif self._known_exchange().affinity.body_limit and self._parts.exchanges.hold_limit(
            self._known_exchange(), head
        ):
            self._held = []
            self._size = 0
        else:
            self._release_head(head)

    def _release_head(self, head: ResponseHead) -> None:
        exchanges = self._parts.exchanges
        minor = self.head.minor_version
        self._framing = client_framing(head, minor)
        keep = self._is_kept_alive = (
            self.head.is_keep_alive and self.is_request_done and self._framing is not Framing.CLOSE
        )
        connection = (b"" if minor else b"keep-alive") if keep else b"close"
        added = exchanges.answer_lines(self._known_exchange(), self._moment)
        self._to_client.append(response_bytes(head, self._framing, added, connection, exchanges.via))
        if self.head.method == b"HEAD":
            self._framing = Framing.NONE  # told, but no body follows and so no last chunk

    def response_body(self, data: bytes) -> None:
        """The backend's event: some of the answer's body, without its framing; or of what a tunnel carries."""
        self.bytes_out += len(data)
        if self._phase is Phase.TUNNEL:
            self.deadline = monotonic() + self._parts.limits.tunnel_timeout_s
            self._to_client.append(data)
            return
        self.deadline = monotonic() + self._known_exchange().pool.config.response_timeout_s
        if self._held is None:
            self._to_client.append(chunk(data) if self._framing is Framing.CHUNKED else data)
            return
        self._held.append(data)
        self._size += len(data)
        head = self._answer
        if head is not None and self._size > self._parts.exchanges.hold_limit(self._known_exchange(), head):
            self._parts.counters.drops["pin_not_looked_for"] += 1  # larger than any answer that begins a transaction
            self._release_held(head)

    def _release_held(self, head: ResponseHead) -> None:
        held, self._held = self._held or [], None
        self._release_head(head)
        for data in held:
            self._to_client.append(chunk(data) if self._framing is Framing.CHUNKED else data)

    def response_end(self, trailers: list[bytes]) -> None:
        """The backend's event: the answer is complete."""
        head = self._answer
        connection = self._connection
        if head is None or connection is None:
            return
        if self._held is not None:
            now = monotonic()  # a phone may have rung for minutes since the exchange began
            pin = self._parts.exchanges.answer_held(self._known_exchange(), b"".join(self._held), now)
            if pin is not None:
                self._parts.pins.put(pin, now)  # before the answer: half two may come at once
            self._release_held(head)
        if self._framing is Framing.CHUNKED:
            self._to_client.append(last_chunk(trailers))
        backend = self._place
        if backend is not None and (backend.consecutive_failures or head.status >= _SERVER_ERROR):
            self._parts.backend_answered(backend, head.status)
        self._connection = None
        self.flush()
        connection.release(is_reusable=head.is_keep_alive and self.is_request_done)
        self._end(keep_alive=self._is_kept_alive)

    # ------------------------------------------------------------------------------ tunnels (WebSocket)

    def _begin_tunnel(self, head: ResponseHead) -> None:
        """The backend has agreed to switch protocols; not before this may a byte behind the request reach it."""
        connection = self._connection
        if connection is None:
            return
        self._phase = Phase.TUNNEL
        self.deadline = monotonic() + self._parts.limits.tunnel_timeout_s
        upgrade = b"Upgrade: %b\r\n" % head.special.get(b"upgrade", self.head.upgrade)
        added = self._parts.exchanges.answer_lines(self._known_exchange(), self._moment)
        self._to_client.append(
            response_bytes(head, Framing.NONE, upgrade + added, b"upgrade", self._parts.exchanges.via)
        )
        rest = connection.begin_tunnel()
        if rest:
            self.response_body(rest)
        self._host.begin_tunnel()

    def client_eof(self) -> bool:
        """The client's event: it sends nothing more. True when the tunnel stays half open."""
        if self._phase is not Phase.TUNNEL or self._connection is None:
            return False
        self.flush()
        self._connection.write_eof()
        return True

    def upstream_eof(self) -> None:
        self.flush()
        self._host.end_tunnel(is_half=True)

    def _tunnel_ended(self) -> None:
        self.flush()
        self._host.end_tunnel(is_half=False)
        self._end(keep_alive=False)

    # ------------------------------------------------------------------------------ ends

    def refuse(self, refusal: Refusal) -> None:
        """Answer in the balancer's own name."""
        keep = self.head.is_keep_alive and self.is_request_done
        self.status = refusal.status.value
        if self.reason == "-":
            self.reason = refusal.reason
        if self.ending is Ending.NORMAL:
            self.ending = self._parts.ending_of(refusal)
        self._to_client.append(refusal.answer(is_keep_alive=keep, is_for_head=self.head.method == b"HEAD"))
        self._end(keep_alive=keep)

    def _break_off(self, refusal: Refusal, ending: Ending) -> None:
        """The exchange cannot be completed: a refusal while that can still be said, a broken connection afterwards."""
        if self._is_ended:
            return
        self.ending = ending
        if self._answer is not None and self._held is None:
            if self.reason == "-":
                self.reason = refusal.reason
            self.flush()
            self._host.abort()  # before anything could close it politely
            self._end(keep_alive=False)
        else:
            self._held = None
            self.refuse(refusal)

    def check(self, now: float, *, is_client_stuck: bool) -> None:
        """Look at the time. Called about once a second; `is_client_stuck`: it takes nothing of its answer."""
        passed_s, self._checked_at = now - self._checked_at, now
        if is_client_stuck:
            self.reason = "client_stuck"
            self._break_off(refusals.BACKEND_SILENT, Ending.CLIENT_TIME)
        elif now > self.deadline:
            self._expire()
        elif not self.is_request_done and self._phase is not Phase.TUNNEL and self._parts.limits.body_bytes_per_second:
            if not self._host.is_paused:
                self._body_credit_s -= passed_s
            if self._body_credit_s < 0:
                self._break_off(refusals.BODY_TOO_SLOW, Ending.CLIENT_TIME)

    def _expire(self) -> None:
        """The deadline has passed."""
        if self._phase is Phase.TUNNEL:
            self.reason = "tunnel_idle"
            self.ending = Ending.CLIENT_TIME
            self._tunnel_ended()
        elif self._phase is Phase.QUEUE:
            self._break_off(refusals.QUEUE_TIMEOUT, Ending.SERVER_TIME)
        elif not self.is_request_done and self._connection is None:
            self._break_off(refusals.BODY_TOO_SLOW, Ending.CLIENT_TIME)
        else:
            if self._answer is not None and self._held is None:
                self.reason = "stalled"
            exchange = self.exchange
            if exchange is not None and exchange.backend is not None and self.is_request_done:
                self._parts.backend_broke(exchange, BackendFailure(exchange.backend.name, "silent", sent=True))
            self._break_off(refusals.BACKEND_SILENT, Ending.SERVER_TIME)

    def request_broke(self, refusal: Refusal) -> None:
        """The client's event: the rest of the body cannot be read. The backend is let go of, it never sees the end."""
        self._break_off(refusal, Ending.PROXY)

    def client_lost(self) -> None:
        """The client went away: nobody needs the answer any more."""
        if self._is_ended:
            return
        if self._phase is not Phase.TUNNEL:
            self.reason = "client_left"
            self.ending = Ending.CLIENT
        elif self._connection is not None:
            self.flush()
            connection, self._connection = self._connection, None
            connection.leave()
        self._end(keep_alive=False)

    def pause_answer(self) -> None:
        """The client reads more slowly than the backend writes."""
        if self._connection is not None:
            self._connection.pause()

    def resume_answer(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def flush(self) -> None:
        """Write what has gathered, both ways."""
        if self._to_upstream and self._connection is not None:
            pieces = self._to_upstream
            self._connection.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            pieces.clear()
        if self._to_client:
            pieces = self._to_client
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._host.write(data)

    def _give_place_back(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.active -= 1
            pool = self._known_exchange().pool
            if pool.line.waiting:
                self._parts.call_next(pool)

    def _end(self, *, keep_alive: bool) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        self.flush()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.abort()
        if self._ticket is not None:
            self._known_exchange().pool.line.leave(self._ticket)
        self._give_place_back()
        self._host.flow_ended(self, keep_alive=keep_alive)

    @property
    def termination(self) -> str:
        """HAProxy's first two letters: who ended it, and what it was doing then."""
        return "--" if self.ending is Ending.NORMAL else self.ending.value + self._phase.value


def refusal_of(error: MalformedMessage) -> Refusal:
    """What a client is told whose request cannot be read."""
    return refusals.malformed(error.reason)
