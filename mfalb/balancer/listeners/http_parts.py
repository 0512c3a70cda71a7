"""What all connections of an HTTP listener share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time
from typing import Any, Final, NamedTuple

from mfalb.balancer.affinity.store import PinStore
from mfalb.balancer.config.http_models import HttpLimits
from mfalb.balancer.config.tls_models import IdentityHeaders
from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.http import HttpExchange, HttpExchanges
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.listeners.http_ending import Ending
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.http import HttpUpstream
from mfalb.balancer.upstreams.pin_sharing import PinSharing
from mfalb.errors import BackendFailure
from mfalb.net.clock import Clock
from mfalb.net.entropy import Entropy
from mfalb.net.rounds import WriteRound
from mfalb.telemetry.log import AccessLog, LineForm
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.wire.http_fields import FieldReader
from mfalb.wire.http_suspect import Suspect

SUSPECTS_KEPT: Final = 64  # of each listener; the oldest gives way
_SERVER_S: Final = frozenset((refusals.NO_BACKEND, refusals.PINNED_DOWN, refusals.REFUSED_EVERYWHERE))


class Suspicion(NamedTuple):
    """What was found wanting, when (unix seconds) and from whom."""

    at: float
    client: str
    suspect: Suspect


@dataclass(slots=True)
class HttpParts:
    """What an HTTP listener is wired to. With `identity_headers` backends are told of clients' certificates."""

    exchanges: HttpExchanges
    upstreams: dict[str, HttpUpstream]
    pins: PinStore
    limits: HttpLimits
    counters: ListenerCounters
    access_log: AccessLog | None
    backend_refused: Callable[[HttpExchange, BackendFailure], None]
    backend_broke: Callable[[HttpExchange, BackendFailure], None]
    backend_answered: Callable[[Backend, int], None]  # what may be a failure by its status, or ends a row of failures
    writes: WriteRound
    fields: FieldReader
    identity_headers: IdentityHeaders | None
    clock: Clock = field(default_factory=Clock)
    sharing: PinSharing | None = None
    entropy: Entropy = field(default_factory=Entropy)
    suspicions: deque[Suspicion] = field(default_factory=lambda: deque(maxlen=SUSPECTS_KEPT))

    # Of the limits, those that each request needs: attributes of a validated table cost more
    body_bytes: int = 0
    body_bytes_per_s: int = 0
    idle_timeout_s: float = 0.0

    is_leaving: bool = False  # the listener accepts nobody more: each answer says that it is the last one

    def __post_init__(self) -> None:
        self.limit(self.limits)

    def limit(self, limits: HttpLimits) -> None:
        """Other limits from now on."""
        self.limits = limits
        self.body_bytes = self.limits.body_bytes
        self.body_bytes_per_s = self.limits.body_bytes_per_second
        self.idle_timeout_s = self.limits.idle_timeout_s

    @property
    def tells_endpoints(self) -> bool:
        """Whether a backend wants to know both ends of a client's connection."""
        return any(upstream.is_told_endpoints for upstream in self.upstreams.values())

    def call_next(self, pool: Pool) -> None:
        """A place became free: whoever waits for it has its turn, in the next round of the loop."""
        loop = asyncio.get_running_loop()
        for ticket, backend in pool.line.hand_out(pool.backends):
            holder: Any = ticket.holder
            loop.call_soon(holder.turn_came, backend)

    def log_line(self, log: AccessLog, form: LineForm, values: tuple[object, ...]) -> None:
        """Note a line. A quarter of a second's lines at once would hold up everybody for milliseconds (measured)."""
        log.add(form, values)
        if log.is_worth_a_flush:
            self.writes.add(self._flush_log)  # behind this round's writes; a second time it finds nothing

    def _flush_log(self) -> None:
        if self.access_log is not None:
            self.access_log.flush(time())

    @staticmethod
    def ending_of(refusal: Refusal) -> Ending:
        """Whose doing it is that a request is refused."""
        if refusal in _SERVER_S:
            return Ending.SERVER
        return Ending.RESOURCE if refusal is refusals.QUEUE_FULL else Ending.PROXY
