"""The two connections of one HTTP exchange: its deadline, and every way in which it ends.

What goes out gathers at the connections until the end of the loop's round (`net/rounds.py`): one system call, and one
TLS record, for a head and its body.
"""

from __future__ import annotations

from time import time
from typing import Final

from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.http import HttpExchange
from mfalb.balancer.exchange.http_affinity import Moment
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.listeners.http_answer import Answer
from mfalb.balancer.listeners.http_ending import Ending, Phase
from mfalb.balancer.listeners.http_host import FlowHost
from mfalb.balancer.listeners.http_parts import HttpParts
from mfalb.balancer.listeners.http_upload import Upload
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.waiting_line import Ticket
from mfalb.balancer.upstreams.http_connection import UpstreamConnection, UpstreamUser
from mfalb.errors import BackendFailure
from mfalb.wire.http_heads import RequestHead

# Members of an Enum are looked up by name wherever they stand: 0.1 us each in compiled code
_REQUEST: Final = Phase.REQUEST
_QUEUE: Final = Phase.QUEUE
_DATA: Final = Phase.DATA
_TUNNEL: Final = Phase.TUNNEL
_NORMAL: Final = Ending.NORMAL


class HttpRelay(UpstreamUser):
    """Between a client's connection and a backend's. What passes, and where to, is for those who inherit."""

    __slots__ = (
        "_answer",
        "_connection",
        "_host",
        "_is_ended",
        "_is_half_ended",
        "_moment",
        "_parts",
        "_phase",
        "_place",
        "_ticket",
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
        self._answer = Answer(host, parts.exchanges, moment)
        self._upload = Upload(head.framing, parts.body_bytes_per_s, now)
        self._phase = _REQUEST
        self._is_ended = False
        self._is_half_ended = False  # of a tunnel: one side sends nothing more
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

    def _known_exchange(self) -> HttpExchange:
        assert self.exchange is not None  # noqa: S101 - set by every decision that leads here
        return self.exchange

    def _tunnel_ended(self) -> None:
        self._host.end_tunnel(is_half=False)
        self._end(keep_alive=False)

    def _both_ended(self) -> None:
        """A tunnel is over when neither side sends any more: transports that are half open do not close themselves."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.leave()
        self._host.end_tunnel(is_half=False)
        self._end(keep_alive=False)

    def refuse(self, refusal: Refusal) -> None:
        """Answer in the balancer's own name."""
        keep = self.head.is_keep_alive and self._upload.is_done and not self._parts.is_leaving
        self.status = refusal.status.value
        if self.reason == "-":
            self.reason = refusal.reason
        if self.ending is _NORMAL:
            self.ending = self._parts.ending_of(refusal)
        self._host.write(refusal.answer(is_keep_alive=keep, is_for_head=self.head.method == b"HEAD"))
        self._end(keep_alive=keep)

    def _break_off(self, refusal: Refusal, ending: Ending) -> None:
        """The exchange cannot be completed: a refusal while that can still be said, a broken connection afterwards."""
        if self._is_ended:
            return
        self.ending = ending
        if self._answer.is_released:
            if self.reason == "-":
                self.reason = refusal.reason
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
        elif self._phase is _DATA and self._host.is_full:
            # The client keeps us waiting, and not the backend, which is paused: `send_timeout` watches over that
            self.deadline = max(self.deadline, now + self._known_exchange().pool.response_timeout_s)
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
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.abort()
        if self._ticket is not None:
            ticket, self._ticket = self._ticket, None  # each knows the other
            self._known_exchange().pool.line.leave(ticket)
        self._give_place_back()
        self._host.flow_ended(keep_alive=keep_alive)

    @property
    def termination(self) -> str:
        """HAProxy's first two letters: who ended it, and what it was doing then."""
        return "--" if self.ending is _NORMAL else self.ending.value + self._phase.value
