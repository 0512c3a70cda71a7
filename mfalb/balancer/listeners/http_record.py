"""What became of an exchange, for metrics and the access log."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.forwarding import ClientFacts
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.listeners.http_ending import Ending, Phase
from mfalb.balancer.listeners.http_flow import HttpFlow
from mfalb.balancer.listeners.http_parts import HttpParts
from mfalb.telemetry.log import LineForm

_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx")
_LINE: Final = LineForm(
    "http",
    (
        "listener", "client", "method", "path", "status", "pool", "backend", "end", "pin", "reason", "id", "bytes_in",
        "bytes", "ms",
    ),
    varying=4,
)  # fmt: skip


def record_unread(parts: HttpParts, refusal: Refusal, client: ClientFacts) -> None:
    """A request was refused that was not read: count the answer, and note a line that says only why."""
    counters = parts.counters
    counters.count_answer(_CLASSES[refusal.status.value // 100])
    log = parts.access_log
    if log is None:
        return
    ending = Ending.PROXY
    if refusal is refusals.HEADER_TIMEOUT:
        ending = Ending.CLIENT_TIME
    elif refusal.status is HTTPStatus.SERVICE_UNAVAILABLE:
        ending = Ending.RESOURCE
    parts.log_line(
        log,
        _LINE,
        (
            counters.name, client.address, "-", "-", refusal.status.value, "-", "-",
            ending.value + Phase.REQUEST.value, "--", refusal.reason, "-", 0, 0, 0.0,
        ),
    )  # fmt: skip


def record(parts: HttpParts, flow: HttpFlow, client: ClientFacts) -> None:
    """An exchange is over: count it, and note its line for the access log."""
    counters = parts.counters
    seconds = parts.clock.now - flow.begun_at
    counters.seconds += seconds
    counters.count_answer(_CLASSES[flow.status // 100] if flow.reason == "-" else flow.reason)
    log, exchange = parts.access_log, flow.exchange
    if log is None:
        return
    backend = pool = request_id = "-"
    pin = "--"
    if exchange is not None:
        pool = exchange.pool.name
        pin = exchange.found.letter + exchange.given
        if exchange.backend is not None:
            backend = exchange.backend.name
        if exchange.request_id:
            request_id = exchange.request_id.decode("ascii")
    head = flow.head
    # without the query, which may hold what nobody should read
    path = head.path
    if exchange is not None and exchange.found.key is not None:
        path = exchange.affinity.shown_path(path)
    parts.log_line(
        log,
        _LINE,
        (
            counters.name, client.address, log.wire_word(head.method), log.wire_word(path), flow.status, pool, backend,
            flow.termination, pin, flow.reason, request_id, flow.bytes_in, flow.bytes_out, seconds * 1000,
        ),
    )  # fmt: skip
