"""What all connections of an HTTP listener share, and how they tell what became of their exchanges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from mfalb.balancer.affinity.store import PinStore
from mfalb.balancer.config.models import HttpLimits
from mfalb.balancer.exchange.forwarding import ClientFacts
from mfalb.balancer.exchange.http import HttpExchange, HttpExchanges
from mfalb.balancer.listeners.http_flow import HttpFlow
from mfalb.balancer.upstreams.http import HttpUpstream
from mfalb.errors import BackendFailure
from mfalb.net.entropy import Entropy
from mfalb.net.rounds import WriteRound
from mfalb.telemetry.log import AccessLog, LineForm
from mfalb.telemetry.metrics import ListenerCounters

_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx")
_LINE: Final = LineForm(
    "http", ("listener", "client", "method", "path", "status", "pool", "backend", "pin", "reason", "bytes", "ms")
)


@dataclass(slots=True)
class HttpParts:
    """What an HTTP listener is wired to."""

    exchanges: HttpExchanges
    upstreams: dict[str, HttpUpstream]
    pins: PinStore
    limits: HttpLimits
    counters: ListenerCounters
    access_log: AccessLog | None
    backend_refused: Callable[[HttpExchange, BackendFailure], None]
    writes: WriteRound
    entropy: Entropy = field(default_factory=Entropy)

    @property
    def tells_endpoints(self) -> bool:
        """Whether a backend wants to know both ends of a client's connection."""
        return any(upstream.is_told_endpoints for upstream in self.upstreams.values())

    def count_answer(self, status: int) -> None:
        """An answer of the balancer's own that belongs to no exchange."""
        self.counters.count_answer(_CLASSES[status // 100])

    def record(self, flow: HttpFlow, client: ClientFacts) -> None:
        """An exchange is over: count it, and note its line for the access log."""
        counters, now = self.counters, monotonic()
        counters.seconds += now - flow.begun_at
        if flow.reason == "-":
            counters.count_answer(_CLASSES[flow.status // 100])
        else:
            counters.count_answer(flow.reason)
        log, exchange = self.access_log, flow.exchange
        if log is None:
            return
        backend = exchange.backend.name if exchange is not None and exchange.backend is not None else "-"
        pool, letter = (exchange.pool.name, exchange.found.letter) if exchange is not None else ("-", "-")
        # without the query, which may hold what nobody should read
        path = log.word(flow.head.target.partition(b"?")[0].decode("latin-1"))
        values = (
            counters.name, client.address, flow.head.method.decode("latin-1"), path, flow.status, pool,
            backend, letter, flow.reason, flow.bytes_out, round((now - flow.begun_at) * 1000, 1),
        )  # fmt: skip
        log.add(_LINE, values)
