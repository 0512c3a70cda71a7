"""The part of the metrics page about pins that nodes share: the store's health, what it was asked for, other nodes."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mfalb.balancer.upstreams.pin_sharing import PinSharing


def pin_store_metrics(sharing: PinSharing | None) -> Iterator[Metric]:
    """Nothing where no store is configured. Nodes' names come from the store, and are checked there."""
    if sharing is None:
        return
    counters = sharing.counters
    yield GaugeMetricFamily("mfalb_pin_store_up", "1 while the store of shared pins is used.", value=sharing.is_up)
    yield GaugeMetricFamily(
        "mfalb_pin_store_backlog", "Pins that the store gets when it is back.", value=sharing.backlog
    )
    operations = CounterMetricFamily(
        "mfalb_pin_store_operations",
        "Answers whose pins were to be stored, and messages whose pins were looked up, by what came of it.",
        labels=["operation", "result"],
    )
    for (operation, result), count in counters.results.items():
        operations.add_metric([operation, result], count)
    failures = CounterMetricFamily(
        "mfalb_pin_store_failures", "Times that the store did not do what it was asked for.", labels=["reason"]
    )
    for reason, count in counters.failures.items():
        failures.add_metric([reason], count)
    calls = CounterMetricFamily("mfalb_pin_store_calls", "Calls to the store.", labels=["operation"])
    seconds = CounterMetricFamily("mfalb_pin_store_seconds", "Time that calls to the store took.", labels=["operation"])
    for operation, spent_s in counters.seconds.items():
        calls.add_metric([operation], counters.calls[operation])
        seconds.add_metric([operation], spent_s)
    differ = GaugeMetricFamily(
        "mfalb_node_settings_differ",
        "1 when another node's pools, affinities, backends or cookie keys differ from ours; the log says which.",
        labels=["node"],
    )
    for node, differences in sharing.watch.differing.items():
        differ.add_metric([node], bool(differences))
    yield from (operations, failures, calls, seconds, differ)
