"""The metrics page in Prometheus' text format: what the supervisor knows, and the sums over its workers.

No label value is ever a client's choice, and none names a session or a user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import mfalb
from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool


class MetricsPage(Collector):
    """Collects when asked. `summed` gives the families of the workers, added up."""

    def __init__(
        self,
        summed: Callable[[], Iterable[Metric]],
        pools: Mapping[str, Pool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._summed = summed
        self._pools = pools
        self._clock = clock
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """The page, in Prometheus' text exposition format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("mfalb_build_info", "The running version.", labels=["version"])
        build.add_metric([mfalb.__version__], 1)
        yield build
        yield from self._summed()
        yield from self._backends()
        yield self._panic()
        yield from self._health()

    def _backends(self) -> Iterator[Metric]:
        labels = ["pool", "backend"]
        up = GaugeMetricFamily("mfalb_backend_up", "1 when the backend is up.", labels=labels)
        admin = GaugeMetricFamily(
            "mfalb_backend_admin_state", "1 for the state an operator set.", labels=[*labels, "state"]
        )
        requests = CounterMetricFamily("mfalb_backend_requests", "Requests sent to the backend.", labels=labels)
        failures = CounterMetricFamily("mfalb_backend_failures", "Exchanges that the backend failed.", labels=labels)
        active = GaugeMetricFamily("mfalb_backend_active", "Exchanges under way.", labels=labels)
        share = GaugeMetricFamily(
            "mfalb_backend_share", "Part of the backend's weight that counts: below 1 in a slow start.", labels=labels
        )
        for pool in self._pools.values():
            for backend in pool.backends.values():
                names = [pool.name, backend.name]
                share.add_metric(names, backend.share)
                up.add_metric(names, backend.health.health is Health.UP)
                requests.add_metric(names, backend.requests)
                failures.add_metric(names, backend.failures)
                active.add_metric(names, backend.active)
                for state in AdminState:
                    admin.add_metric([*names, state.value], backend.admin_state is state)
        yield from (up, admin, requests, failures, active, share)

    def _panic(self) -> Metric:
        panic = GaugeMetricFamily(
            "mfalb_pool_panic", "1 while health is ignored for new work, as too few backends are up.", labels=["pool"]
        )
        for pool in self._pools.values():
            panic.add_metric([pool.name], pool.is_panicking)
        return panic

    def _health(self) -> Iterator[Metric]:
        labels, now = ["pool", "backend"], self._clock()
        sent = CounterMetricFamily("mfalb_backend_probes_sent", "Health probes sent.", labels=labels)
        answered = CounterMetricFamily(
            "mfalb_backend_probes_answered", "Health probes with a good answer.", labels=labels
        )
        lost = CounterMetricFamily("mfalb_backend_probes_lost", "Health probes without a good answer.", labels=labels)
        health = GaugeMetricFamily(
            "mfalb_backend_health_age_seconds", "For how long the backend has been up or down.", labels=labels
        )
        check = GaugeMetricFamily(
            "mfalb_backend_last_check_seconds", "How long the last health probe took, answered or not.", labels=labels
        )
        reply = GaugeMetricFamily(
            "mfalb_backend_last_reply_age_seconds", "Since a RADIUS backend was heard last.", labels=labels
        )
        for pool in self._pools.values():
            for backend in pool.backends.values():
                names = [pool.name, backend.name]
                sent.add_metric(names, backend.probes_sent)
                answered.add_metric(names, backend.probes_answered)
                lost.add_metric(names, backend.probes_lost)
                if backend.last_check is not None:
                    check.add_metric(names, backend.last_check.seconds)
                if backend.health.changed_at:
                    health.add_metric(names, now - backend.health.changed_at)
                if backend.last_reply_at:
                    reply.add_metric(names, now - backend.last_reply_at)
        yield from (sent, answered, lost, health, check, reply)
        yield from self._evidence()

    def _evidence(self) -> Iterator[Metric]:
        labels = ["pool", "backend"]
        degraded = GaugeMetricFamily(
            "mfalb_backend_degraded", "1 while the backend is up and used, but lacks something.", labels=labels
        )
        ejected = GaugeMetricFamily(
            "mfalb_backend_ejected", "1 while the backend gets nothing, since its traffic failed.", labels=labels
        )
        left = GaugeMetricFamily(
            "mfalb_backend_ejection_left_seconds", "Until an ejected backend is used again.", labels=labels
        )
        ejections = CounterMetricFamily("mfalb_backend_ejections", "Times the backend was ejected.", labels=labels)
        row = GaugeMetricFamily(
            "mfalb_backend_consecutive_failures", "Exchanges that failed since the last good one.", labels=labels
        )
        for pool in self._pools.values():
            for backend in pool.backends.values():
                names = [pool.name, backend.name]
                degraded.add_metric(names, bool(backend.degraded))
                ejected.add_metric(names, backend.is_ejected)
                ejections.add_metric(names, backend.ejections)
                row.add_metric(names, backend.consecutive_failures)
                if backend.is_ejected:
                    left.add_metric(names, max(0.0, backend.ejected_until - self._clock()))
        yield from (degraded, ejected, left, ejections, row)
