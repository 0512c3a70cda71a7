"""One HTTP exchange's bytes between the client's connection and a backend's.

It carries out what the exchange decides. What goes out is gathered while one read is worked on and written once at its
end (`flush`): one system call, and one TLS record, for a head and its body.
"""

from __future__ import annotations

from time import time
from typing import Final, assert_never

from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.http import Forward, HttpExchange, NeedBody, Refuse, RequestDecision, Wait
from mfalb.balancer.exchange.http_affinity import Moment
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.listeners.http_answer import Answer
from mfalb.balancer.listeners.http_ending import Ending, Phase
from mfalb.balancer.listeners.http_host import FlowHost
from mfalb.balancer.listeners.http_parts import HttpParts
from mfalb.balancer.listeners.http_upload import Upload
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.waiting_line import Ticket
from mfalb.balancer.upstreams.http import UpstreamConnection, UpstreamUser
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.wire.http_fields import Framing
from mfalb.wire.http_heads import SWITCHING_PROTOCOLS, RequestHead, ResponseHead

_CONNECTION_BROKE: Final = frozenset(("stale", "reset", "closed_early"))  # all other failures are bad answers
_SERVER_ERROR: Final = 500
# Members of an Enum are looked up by name wherever they stand: 0.1 us each in compiled code
_NO_BODY: Final = Framing.NONE
_REQUEST: Final = Phase.REQUEST
_QUEUE: Final = Phase.QUEUE
_CONNECT: Final = Phase.CONNECT
_HEAD: Final = Phase.HEAD
_DATA: Final = Phase.DATA
_TUNNEL: Final = Phase.TUNNEL
_NORMAL: Final = Ending.NORMAL


class HttpFlow(UpstreamUser):
    """From a request's head to the end of its answer."""

    __slots__ = (
        "_answer",
        "_connection",
        "_host",
        "_is_ended",
        "_moment",
        "_parts",
        "_phase",
        "_place",
        "_ticket",
        "_to_upstream",
        "_upload",
        "begun_at",
        "bytes_out",
        "deadline",
        "ending",
        "exchange",
        "head",
        "reason",
        "status",
    )

    def __init__(self, host: FlowHost, parts: HttpParts, head: RequestHead) -> None:
        now = parts.clock.now
        moment = Moment(now, time(), parts.entropy.take())
        self._host = host
        self._parts = parts
        self.head = head
        self.exchange: HttpExchange | None = None
        self._connection: UpstreamConnection | None = None
        self._place: Backend | None = None  # where it counts as active
        self._ticket: Ticket | None = None
        self._answer = Answer(parts.exchanges, moment)
        self._upload = Upload(head.framing, parts.body_bytes_per_s, now)
        self._to_upstream: list[bytes] = []
        self._phase = _REQUEST
        self._is_ended = False
        self.begun_at = now
        self.deadline = now + 120.0  # until a pool says otherwise
        self._moment = moment
        self.status = 0
        self.reason = "-"
        self.ending = _NORMAL
        self.bytes_out = 0

    @property
    def is_request_done(self) -> bool:
        """Whether the client has sent all of its request."""
        return self._upload.is_done

    @property
    def bytes_in(self) -> int:
        """How much of the request's body came, or of what a tunnel carried."""
        return self._upload.size

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
        self.flush()

    def _forward(self, exchange: HttpExchange, backend: Backend) -> None:
        pool = exchange.pool
        self._phase = _CONNECT
        self.deadline = self._parts.clock.now + pool.response_timeout_s
        upstream = self._parts.upstreams[pool.name]
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
        parts, upload = self._parts, self._upload
        upload.count(len(data))
        if self._phase is _TUNNEL:
            self.deadline = parts.clock.now + parts.limits.tunnel_timeout_s
            self._to_upstream.append(data)
            return
        if upload.size > parts.body_bytes:
            self._break_off(refusals.BODY_TOO_LARGE, Ending.PROXY)
            return
        if self._connection is not None:
            self.deadline = parts.clock.now + self._known_exchange().pool.response_timeout_s
            self._to_upstream.append(upload.framed(data))
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
            upload.take_end(self._to_upstream)

    def _choose_with(self, body: bytes | None) -> None:
        self._upload.collect_limit = 0
        self._decide(self._parts.exchanges.with_body(self._known_exchange(), body, self._moment))

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
        self._to_upstream.append(self._parts.exchanges.upstream_head(self._known_exchange()))
        if self.head.framing is not _NO_BODY and self._upload.take_kept(self._to_upstream):
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
        self._to_upstream.clear()
        is_broken = failure.reason in _CONNECTION_BROKE
        is_untouched = is_broken and self._answer.head is None and not self.bytes_in
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
        backend = self._place
        if backend is not None and (backend.consecutive_failures or status >= _SERVER_ERROR):
            self._parts.backend_answered(backend, status)
        if status == SWITCHING_PROTOCOLS:
            self._begin_tunnel(head)
        else:
            may_keep = self.head.is_keep_alive and self._upload.is_done
            self._answer.begin(head, self._known_exchange(), may_keep=may_keep)

    def response_body(self, data: bytes) -> None:
        """The backend's event: some of the answer's body, without its framing; or of what a tunnel carries."""
        parts, exchange = self._parts, self._known_exchange()
        self.bytes_out += len(data)
        if self._phase is _TUNNEL:
            self.deadline = parts.clock.now + parts.limits.tunnel_timeout_s
            self._answer.out.append(data)
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
        if not answer.is_released:
            now = self._parts.clock.now  # a phone may have rung for minutes since the exchange began
            pin = answer.pin(exchange, now)
            if pin is not None:
                self._parts.pins.put(pin, now)  # before the answer: half two may come at once
            answer.release(exchange)
        answer.end(trailers)
        self._connection = None
        self.flush()
        connection.release(is_reusable=head.is_keep_alive and self._upload.is_done)
        self._end(keep_alive=answer.is_kept_alive)

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
        keep = self.head.is_keep_alive and self._upload.is_done
        self.status = refusal.status.value
        if self.reason == "-":
            self.reason = refusal.reason
        if self.ending is _NORMAL:
            self.ending = self._parts.ending_of(refusal)
        self._answer.out.append(refusal.answer(is_keep_alive=keep, is_for_head=self.head.method == b"HEAD"))
        self._end(keep_alive=keep)

    def _break_off(self, refusal: Refusal, ending: Ending) -> None:
        """The exchange cannot be completed: a refusal while that can still be said, a broken connection afterwards."""
        if self._is_ended:
            return
        self.ending = ending
        if self._answer.is_released:
            if self.reason == "-":
                self.reason = refusal.reason
            self.flush()
            self._host.abort()  # before anything could close it politely
            self._end(keep_alive=False)
        else:
            self._answer.forget()
            self.refuse(refusal)

    def check(self, now: float, *, is_client_stuck: bool) -> None:
        """Look at the time. Called about once a second; `is_client_stuck`: it takes nothing of its answer."""
        if is_client_stuck:
            self.reason = "client_stuck"
            self._break_off(refusals.BACKEND_SILENT, Ending.CLIENT_TIME)
        elif now > self.deadline:
            self._expire()
        elif self._phase is not _TUNNEL and self._upload.is_too_slow(now, is_paused=self._host.is_paused):
            self._break_off(refusals.BODY_TOO_SLOW, Ending.CLIENT_TIME)

    def _expire(self) -> None:
        """The deadline has passed."""
        if self._phase is _TUNNEL:
            self.reason = "tunnel_idle"
            self.ending = Ending.CLIENT_TIME
            self._tunnel_ended()
        elif self._phase is _QUEUE:
            self._break_off(refusals.QUEUE_TIMEOUT, Ending.SERVER_TIME)
        elif not self._upload.is_done and self._connection is None:
            self._break_off(refusals.BODY_TOO_SLOW, Ending.CLIENT_TIME)
        else:
            exchange = self.exchange
            if self._answer.is_released:
                self.reason = "stalled"
            if exchange is not None and exchange.backend is not None and self._upload.is_done:
                self._parts.backend_broke(exchange, BackendFailure(exchange.backend.name, "silent", sent=True))
            self._break_off(refusals.BACKEND_SILENT, Ending.SERVER_TIME)

    def request_broke(self, refusal: Refusal) -> None:
        """The client's event: the rest of the body cannot be read. The backend is let go of, it never sees the end."""
        self._break_off(refusal, Ending.PROXY)

    def client_lost(self) -> None:
        """The client went away: nobody needs the answer any more."""
        if self._is_ended:
            return
        if self._phase is not _TUNNEL:
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
        pieces = self._to_upstream
        if pieces and self._connection is not None:
            self._connection.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            pieces.clear()
        pieces = self._answer.out
        if pieces:
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
        self._host.flow_ended(keep_alive=keep_alive)

    @property
    def termination(self) -> str:
        """HAProxy's first two letters: who ended it, and what it was doing then."""
        return "--" if self.ending is _NORMAL else self.ending.value + self._phase.value


def refusal_of(error: MalformedMessage) -> Refusal:
    """What a client is told whose request cannot be read."""
    return refusals.malformed(error.reason)
