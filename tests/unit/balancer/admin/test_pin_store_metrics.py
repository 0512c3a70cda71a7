"""What the metrics page says of the shared store, and of several workers that use it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from prometheus_client import Metric

from mfalb.balancer.admin.pin_store_metrics import pin_store_metrics
from mfalb.balancer.admin.summed_metrics import Words, summed, words_of
from mfalb.balancer.upstreams.node_watch import NodeWatch
from mfalb.balancer.upstreams.pin_sharing import PinSharing
from mfalb.balancer.upstreams.store_calls import SharingCounters


@dataclass
class Sharing:
    """A worker's, as far as it is told of."""

    is_up: bool = True
    backlog: int = 0
    counters: SharingCounters = field(default_factory=SharingCounters)
    watch: NodeWatch = field(default_factory=lambda: NodeWatch("a", b"{}"))


def words(sharing: Sharing | None) -> Words:
    told: Words = json.loads(json.dumps(words_of(pin_store_metrics(cast(PinSharing, sharing)))))
    return told


def values(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_without_a_store_nothing_is_told() -> None:
    assert words(None) == []


def test_operations_failures_and_time_are_told_by_what_they_were() -> None:
    sharing = Sharing(backlog=3)
    sharing.counters.results.update({("store", "stored"): 2, ("look_up", "found"): 1})
    sharing.counters.failures.update({"silent": 1})
    sharing.counters.calls = Counter(store=2)
    sharing.counters.seconds["store"] = 0.5
    sharing.watch.differing = {"b": ("cookie_keys",), "c": ()}
    found = values(summed([words(sharing)]))
    assert found[("mfalb_pin_store_up",)] == 1
    assert found[("mfalb_pin_store_backlog",)] == 3
    assert found["mfalb_pin_store_operations_total", "store", "stored"] == 2
    assert found["mfalb_pin_store_operations_total", "look_up", "found"] == 1
    assert found["mfalb_pin_store_failures_total", "silent"] == 1
    assert found["mfalb_pin_store_calls_total", "store"] == 2
    assert found["mfalb_pin_store_seconds_total", "store"] == 0.5
    assert (found["mfalb_node_settings_differ", "b"], found["mfalb_node_settings_differ", "c"]) == (1, 0)


def test_of_several_workers_the_store_is_up_when_it_is_for_all_and_a_node_differs_once() -> None:
    one, two = Sharing(backlog=1), Sharing(is_up=False, backlog=2)
    for worker in (one, two):
        worker.watch.differing = {"b": ("cookie_keys",)}
        worker.counters.results["store", "stored"] = 4
    for order in ((one, two), (two, one)):
        found = values(summed([words(worker) for worker in order]))
        assert found[("mfalb_pin_store_up",)] == 0
        assert found[("mfalb_pin_store_backlog",)] == 3
        assert found["mfalb_node_settings_differ", "b"] == 1
        assert found["mfalb_pin_store_operations_total", "store", "stored"] == 8
    two.is_up = True
    assert values(summed([words(one), words(two)]))[("mfalb_pin_store_up",)] == 1
