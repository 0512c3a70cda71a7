"""One HTTP exchange's bytes between the client's connection and a backend's.

It carries out what the exchange decides. What goes out is gathered while one read is worked on and written once at its
end (`flush`): one system call, and one TLS record, for a head and its body.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from time import monotonic, time
from typing import Final, Protocol, assert_never

from mfalb.balancer.affinity.store import PinStore
from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.forwarding import ClientFacts, client_framing, response_bytes
from mfalb.balancer.exchange.http import Forward, HttpExchange, HttpExchanges, NeedBody, Refuse, RequestDecision
from mfalb.balancer.exchange.http_affinity import Moment
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.upstreams.http import HttpUpstream, UpstreamConnection
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.net.entropy import Entropy
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.wire.http import LAST_CHUNK, RequestHead, ResponseHead, chunk
from mfalb.wire.http_fields import Framing

PENDING_LIMIT: Final = 65_536  # bytes of a body kept while a backend is connected; then the client is not read on


class FlowHost(Protocol):
    """The client's connection, as a flow sees it."""

    client: ClientFacts
    is_full: bool  # the client reads more slowly than it is written to

    def write(self, data: bytes) -> None: ...

    def pause_for_upstream(self) -> None: ...

    def resume_for_upstream(self) -> None: ...

    def flow_ended(self, flow: HttpFlow, *, keep_alive: bool) -> None: ...

    def abort(self) -> None:
        """Break the connection, so that the client cannot take what it got for a whole answer."""


class FlowParts(Protocol):
    """What all flows of a listener share."""

    exchanges: HttpExchanges
    upstreams: dict[str, HttpUpstream]
    pins: PinStore
    counters: ListenerCounters
    entropy: Entropy

    @property
    def backend_refused(self) -> Callable[[HttpExchange, BackendFailure], None]:
        """Evidence for a backend's health: it could not be reached."""


class HttpFlow:
    """From a request's head to the end of its answer."""

    __slots__ = (
        "_answer",
        "_collect_limit",
        "_connection",
        "_exchange",
        "_framing",
        "_head",
        "_held",
        "_host",
        "_is_ended",
        "_is_kept_alive",
        "_is_request_done",
        "_moment",
        "_parts",
        "_pieces",
        "_size",
        "_to_client",
        "_to_upstream",
        "begun_at",
        "bytes_out",
        "deadline",
        "reason",
        "status",
    )

    def __init__(self, host: FlowHost, parts: FlowParts, head: RequestHead) -> None:
        self._host = host
        self._parts = parts
        self._head = head
        self._exchange: HttpExchange | None = None
        self._connection: UpstreamConnection | None = None
        self._answer: ResponseHead | None = None
        self._framing = Framing.NONE
        self._collect_limit = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._held: list[bytes] | None = None
        self._to_client: list[bytes] = []
        self._to_upstream: list[bytes] = []
        self._is_request_done = head.framing is Framing.NONE
        self._is_ended = False
        self._is_kept_alive = False
        self.begun_at = monotonic()
        self.deadline = self.begun_at + 120.0  # until a pool says otherwise
        self.status = 0
        self.reason = "-"
        self.bytes_out = 0

    @property
    def head(self) -> RequestHead:
        return self._head

    @property
    def exchange(self) -> HttpExchange | None:
        return self._exchange

    @property
    def is_request_done(self) -> bool:
        return self._is_request_done

    # ------------------------------------------------------------------------------ the request

    def start(self) -> None:
        """Ask where the request goes. Raises MalformedMessage for a target that must be refused."""
        self._moment = Moment(self.begun_at, time(), self._parts.entropy.take())
        self._decide(self._parts.exchanges.begin(self._head, self._host.client, self._moment))

    def _decide(self, decision: RequestDecision) -> None:
        match decision:
            case Forward(exchange, backend):
                self._exchange = exchange
                self._forward(backend)
            case NeedBody(exchange, limit):
                self._exchange = exchange
                self._collect_limit = limit
                if self._head.special.pop(b"expect", None) is not None:
                    self._host.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # .NET clients wait for it before they go on
            case Refuse(refusal, exchange):
                self._exchange = exchange or self._exchange
                self.refuse(refusal)
            case _:
                assert_never(decision)

    def _forward(self, backend: Backend) -> None:
        exchange = self._known_exchange()
        self.deadline = monotonic() + exchange.pool.config.response_timeout_s
        upstream = self._parts.upstreams[exchange.pool.name]
        opening = upstream.opening(self._host.client.endpoints)
        connection = upstream.idle_connection(backend, opening)
        if connection is None:
            upstream.connect(backend, self, opening)
        else:
            self.upstream_connected(connection)

    def _known_exchange(self) -> HttpExchange:
        assert self._exchange is not None  # noqa: S101 - set by every decision that leads here
        return self._exchange

    def request_body(self, data: bytes) -> None:
        """The client's event: some of the body, without its framing."""
        if self._is_ended:
            return
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

    def request_end(self) -> None:
        """The client's event: the request is complete."""
        self._is_request_done = True
        if self._is_ended:
            return
        if self._collect_limit:
            self._choose_with(b"".join(self._pieces))
        elif self._connection is not None and self._head.framing is Framing.CHUNKED:
            self._to_upstream.append(LAST_CHUNK)

    def _choose_with(self, body: bytes | None) -> None:
        self._collect_limit = 0
        self._decide(self._parts.exchanges.with_body(self._known_exchange(), body, self._moment))

    def _send_body(self, data: bytes) -> None:
        self._to_upstream.append(chunk(data) if self._head.framing is Framing.CHUNKED else data)

    # ------------------------------------------------------------------------------ the upstream's events

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        """A connection is ours: send what we have."""
        if self._is_ended:  # the client left while we connected
            connection.abort()
            return
        self._connection = connection
        connection.begin(self, self._head.method)
        if self._host.is_full:  # still busy with the answer before this one
            connection.pause()
        self._to_upstream.append(self._parts.exchanges.upstream_head(self._known_exchange()))
        for piece in self._pieces:
            self._send_body(piece)
        if self._pieces:
            self._pieces.clear()
            self._host.resume_for_upstream()
        if self._is_request_done and self._head.framing is Framing.CHUNKED:
            self._to_upstream.append(LAST_CHUNK)

    def upstream_failed(self, failure: BackendFailure) -> None:
        """Not connected (nothing sent), or broken on the way."""
        if self._is_ended:
            return
        self._connection = None
        exchange = self._known_exchange()
        backend = exchange.backend
        if backend is None:
            return
        if not failure.sent:
            self._parts.backend_refused(exchange, failure)
            self._decide(self._parts.exchanges.refused(exchange, backend))
        elif failure.reason == "stale" and exchange.may_be_sent_twice and self._head.framing is Framing.NONE:
            self._to_upstream.clear()
            upstream = self._parts.upstreams[exchange.pool.name]
            upstream.connect(backend, self, upstream.opening(self._host.client.endpoints))
        else:
            garbage = failure.reason not in ("stale", "reset", "closed_early")
            self._break_off(failure.reason, refusals.BACKEND_GARBAGE if garbage else refusals.BACKEND_BROKE)

    def upstream_pause(self) -> None:
        self._host.pause_for_upstream()

    def upstream_resume(self) -> None:
        self._host.resume_for_upstream()

    def response_head(self, head: ResponseHead) -> None:
        """The backend's event: an interim or the real head."""
        if head.is_interim:
            # Upgrade is not offered, so nobody may be told that protocols were switched
            if self._head.minor_version and head.status != HTTPStatus.SWITCHING_PROTOCOLS:
                self._to_client.append(response_bytes(head, Framing.NONE, b"", b""))
            return
        self._answer = head
        self.status = head.status
        if self._parts.exchanges.hold_limit(self._known_exchange(), head):
            self._held = []
            self._size = 0
        else:
            self._release_head(head)

    def _release_head(self, head: ResponseHead) -> None:
        exchange = self._known_exchange()
        minor = self._head.minor_version
        self._framing = client_framing(head, minor)
        keep = self._is_kept_alive = (
            self._head.is_keep_alive and self._is_request_done and self._framing is not Framing.CLOSE
        )
        connection = (b"" if minor else b"keep-alive") if keep else b"close"
        added = self._parts.exchanges.answer_lines(exchange, self._moment)
        self._to_client.append(response_bytes(head, self._framing, added, connection))
        if self._head.method == b"HEAD":
            self._framing = Framing.NONE  # told, but no body follows and so no last chunk

    def response_body(self, data: bytes) -> None:
        """The backend's event: some of the answer's body, without its framing."""
        self.deadline = monotonic() + self._known_exchange().pool.config.response_timeout_s
        self.bytes_out += len(data)
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

    def response_end(self) -> None:
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
            self._to_client.append(LAST_CHUNK)
        self._connection = None
        self.flush()
        connection.release(is_reusable=head.is_keep_alive and self._is_request_done)
        self._end(keep_alive=self._is_kept_alive)

    # ------------------------------------------------------------------------------ ends

    def refuse(self, refusal: Refusal) -> None:
        """Answer in the balancer's own name."""
        keep = self._head.is_keep_alive and self._is_request_done
        self.status = refusal.status.value
        self.reason = refusal.reason
        self._to_client.append(refusal.answer(is_keep_alive=keep, is_for_head=self._head.method == b"HEAD"))
        self._end(keep_alive=keep)

    def _break_off(self, reason: str, refusal: Refusal) -> None:
        """The exchange cannot be completed: a refusal while that can still be said, a broken connection afterwards."""
        if self._answer is not None and self._held is None:
            self.reason = reason
            self.flush()
            self._host.abort()  # before anything could close it politely
            self._end(keep_alive=False)
        else:
            self._held = None
            self.refuse(refusal)

    def expire(self) -> None:
        """The deadline has passed."""
        self._break_off("stalled", refusals.BACKEND_SILENT)

    def request_broke(self, refusal: Refusal) -> None:
        """The client's event: the rest of the body cannot be read. The backend is let go of, it never sees the end."""
        if not self._is_ended:
            self._break_off(refusal.reason, refusal)

    def client_lost(self) -> None:
        """The client went away: nobody needs the answer any more."""
        if not self._is_ended:
            self.reason = "client_left"
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
            self._connection.write(b"".join(self._to_upstream))
            self._to_upstream.clear()
        if self._to_client:
            data = b"".join(self._to_client)
            self._to_client.clear()
            self._host.write(data)

    def _end(self, *, keep_alive: bool) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        self.flush()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.abort()
        self._host.flow_ended(self, keep_alive=keep_alive)


def refusal_of(error: MalformedMessage) -> Refusal:
    """What a client is told whose request cannot be read."""
    return refusals.malformed(error.reason)
