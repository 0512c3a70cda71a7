"""What all connections of a TCP listener share, and how they tell what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mfalb.balancer.config.tcp_models import TcpListener
from mfalb.balancer.exchange.tcp import TcpExchanges
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.upstreams.tcp import TcpUpstream
from mfalb.telemetry.log import AccessLog, LineForm
from mfalb.telemetry.metrics import ListenerCounters

_LINE: Final = LineForm(
    "tcp", ("listener", "client", "sni", "pool", "backend", "reason", "bytes_in", "bytes_out", "ms")
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended. `reason` is "-" when both sides said all that they had to say.

    Names are "-" where there is none. Bytes are those that came from the client and from the backend.
    """

    client: str
    server_name: str
    pool: str
    backend: str
    reason: str
    bytes_in: int
    bytes_out: int
    seconds: float


@dataclass(slots=True)
class TcpParts:
    """What a TCP listener is wired to."""

    config: TcpListener
    exchanges: TcpExchanges
    upstreams: dict[str, TcpUpstream]
    counters: ListenerCounters
    access_log: AccessLog | None
    backend_refused: Callable[[Backend, str], None]

    def record(self, ending: Ending) -> None:
        """A connection is over: count it, and note its line for the access log."""
        counters, log = self.counters, self.access_log
        counters.seconds += ending.seconds
        if ending.backend == "-":
            counters.drops[ending.reason] += 1
        else:
            counters.count_answer("done" if ending.reason == "-" else ending.reason)
        if log is None:
            return
        values = (
            counters.name, ending.client, log.word(ending.server_name), ending.pool, ending.backend, ending.reason,
            ending.bytes_in, ending.bytes_out, round(ending.seconds * 1000, 1),
        )  # fmt: skip
        log.add(_LINE, values)
