"""The metrics that a worker has: what its traffic did. The page of all of them is the supervisor's (`metrics`).

No label value is ever a client's choice, and none names a session or a user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mfalb.balancer.admin.pin_store_metrics import pin_store_metrics
from mfalb.balancer.admin.tls_metrics import tls_metrics
from mfalb.balancer.affinity.store import PinCounters
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.pin_sharing import PinSharing
from mfalb.net.tls_files import Watched
from mfalb.telemetry.log import AccessLog
from mfalb.telemetry.metrics import ListenerCounters


class Pins(Protocol):
    """The pin table, as far as it is counted."""

    @property
    def counters(self) -> PinCounters: ...

    @property
    def evicted(self) -> int: ...

    def __len__(self) -> int: ...


class Source(Protocol):
    """What the metrics are made from: the worker's tables."""

    @property
    def pins(self) -> Pins: ...

    @property
    def counters(self) -> Mapping[str, ListenerCounters]: ...

    @property
    def access_log(self) -> AccessLog | None: ...

    @property
    def radius_peers(self) -> Mapping[str, tuple[Sequence[RadiusPeer], Sequence[RadiusPeer]]]: ...

    @property
    def in_flight(self) -> Mapping[str, int]: ...

    @property
    def unknown_states(self) -> Mapping[str, int]: ...

    @property
    def answers_forgotten_early(self) -> Mapping[str, int]: ...

    @property
    def listener_kernel_drops(self) -> Mapping[str, int]: ...

    @property
    def backend_kernel_drops(self) -> Mapping[tuple[str, str], int]: ...

    @property
    def tls_files(self) -> Sequence[Watched]: ...

    @property
    def pin_sharing(self) -> PinSharing | None: ...


class WorkerMetrics:
    """Collects when asked; nothing on the data path knows of it."""

    def __init__(self, source: Source, pools: Mapping[str, Pool]) -> None:
        self._source = source
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """All families of this worker."""
        yield from self._listeners()
        yield from self._radius_peers()
        yield from self._radius_tables()
        yield from self._kernel_drops()
        yield self._unhandled_hidden()
        yield from tls_metrics(self._source.tls_files)
        yield from self._pins()
        yield from pin_store_metrics(self._source.pin_sharing)
        yield from self._waiting()

    def _listeners(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "mfalb_listener_requests", "Requests and datagrams that arrived.", labels=["listener", "protocol"]
        )
        answers = CounterMetricFamily(
            "mfalb_listener_answers", "What clients were answered.", labels=["listener", "answer"]
        )
        drops = CounterMetricFamily(
            "mfalb_listener_drops", "What was discarded or refused, and why.", labels=["listener", "reason"]
        )
        seconds = CounterMetricFamily(
            "mfalb_listener_exchange_seconds", "Time from request to the end of its answer.", labels=["listener"]
        )
        connections = GaugeMetricFamily(
            "mfalb_listener_connections", "Clients' connections that are open.", labels=["listener"]
        )
        for counters in self._source.counters.values():
            requests.add_metric([counters.name, counters.protocol], counters.requests)
            seconds.add_metric([counters.name], counters.seconds)
            connections.add_metric([counters.name], counters.connections)
            for answer, count in counters.answers.items():
                answers.add_metric([counters.name, answer], count)
            for reason, count in counters.drops.items():
                drops.add_metric([counters.name, reason], count)
        in_flight = GaugeMetricFamily(
            "mfalb_listener_in_flight", "RADIUS exchanges that wait for their backend.", labels=["listener"]
        )
        for name, count in self._source.in_flight.items():
            in_flight.add_metric([name], count)
        yield from (requests, answers, drops, seconds, connections, in_flight)
        log = self._source.access_log
        if log is not None:
            yield CounterMetricFamily(
                "mfalb_access_log_left_out",
                "Access log lines left out: overload, or a disk that took none.",
                value=log.left_out,
            )

    def _radius_peers(self) -> Iterator[Metric]:
        labels = ["listener", "role", "peer", "reason"]
        drops = CounterMetricFamily(
            "mfalb_radius_peer_drops",
            "What was discarded, by whose it was: who cannot sign, who floods.",
            labels=labels,
        )
        for listener, (clients, backends) in self._source.radius_peers.items():
            for role, peers in (("client", clients), ("backend", backends)):
                for (name, reason), count in _drops_by_name(peers).items():
                    drops.add_metric([listener, role, name, reason], count)
        yield drops

    def _radius_tables(self) -> Iterator[Metric]:
        states = CounterMetricFamily(
            "mfalb_radius_unknown_states",
            "Requests with a State that no pin is known for: made up, expired, or of another node.",
            labels=["listener"],
        )
        answers = CounterMetricFamily(
            "mfalb_radius_answers_forgotten_early",
            "Stored answers that gave way to newer ones before answer_cache was over: raise answer_cache_limit.",
            labels=["listener"],
        )
        for name, count in self._source.unknown_states.items():
            states.add_metric([name], count)
        for name, count in self._source.answers_forgotten_early.items():
            answers.add_metric([name], count)
        yield from (states, answers)

    def _unhandled_hidden(self) -> Metric:
        passed = CounterMetricFamily(
            "mfalb_radius_unhandled_hidden_attributes",
            "Attributes hidden with the shared secret that passed to a peer with another secret as they were.",
            labels=["listener", "attribute"],
        )
        for counters in self._source.counters.values():
            for attribute, count in counters.unhandled_hidden.items():
                passed.add_metric([counters.name, attribute], count)
        return passed

    def _kernel_drops(self) -> Iterator[Metric]:
        clients = CounterMetricFamily(
            "mfalb_listener_kernel_drops",
            "Datagrams from RADIUS clients that the kernel dropped: the receive buffer was full.",
            labels=["listener"],
        )
        backends = CounterMetricFamily(
            "mfalb_backend_kernel_drops",
            "Datagrams from RADIUS backends that the kernel dropped: the receive buffer was full.",
            labels=["pool", "backend"],
        )
        for name, count in self._source.listener_kernel_drops.items():
            clients.add_metric([name], count)
        for names, count in self._source.backend_kernel_drops.items():
            backends.add_metric(names, count)
        yield from (clients, backends)

    def _pins(self) -> Iterator[Metric]:
        pins = self._source.pins
        yield GaugeMetricFamily("mfalb_pins", "Pins in the table.", value=len(pins))
        yield CounterMetricFamily("mfalb_pins_made", "Pins made.", value=pins.counters.made)
        yield CounterMetricFamily("mfalb_pins_ended", "Pinned sign-ins that have ended.", value=pins.counters.ended)
        yield CounterMetricFamily("mfalb_pins_hit", "Pins found.", value=pins.counters.hits)
        yield CounterMetricFamily(
            "mfalb_pins_evicted", "Pins that gave way to newer ones before their time.", value=pins.evicted
        )
        yield CounterMetricFamily("mfalb_pins_missed", "Pins looked for in vain.", value=pins.counters.misses)

    def _waiting(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "mfalb_pool_waiting", "HTTP requests that wait for a backend with a free connection.", labels=["pool"]
        )
        retries = CounterMetricFamily("mfalb_pool_retries", "HTTP requests that were tried anew.", labels=["pool"])
        denied = CounterMetricFamily(
            "mfalb_pool_retries_denied",
            "HTTP requests that were not, as the retry budget was used up.",
            labels=["pool"],
        )
        for pool in self._pools.values():
            waiting.add_metric([pool.name], pool.line.waiting)
            retries.add_metric([pool.name], pool.retries.spent)
            denied.add_metric([pool.name], pool.retries.denied)
        yield from (waiting, retries, denied)


def _drops_by_name(peers: Sequence[RadiusPeer]) -> Counter[tuple[str, str]]:
    """What was discarded, by peer and reason. A server is one peer in each of a listener's pools, under one name."""
    drops: Counter[tuple[str, str]] = Counter()
    for peer in peers:
        for reason, count in peer.drops.items():
            drops[peer.name, reason] += count
    return drops
