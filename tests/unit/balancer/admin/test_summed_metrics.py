"""What several workers count is one number for who reads the metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mfalb.balancer.admin.summed_metrics import Words, counters_of, summed, words_of


def report(count: float, active: float, name: str = "web") -> Words:
    requests = CounterMetricFamily("mfalb_requests", "Requests.", labels=("listener",))
    requests.add_metric((name,), count)
    gauge = GaugeMetricFamily("mfalb_active", "Active.", active)
    words: Words = json.loads(json.dumps(words_of((requests, gauge))))
    return words


def values(families: list[Metric]) -> dict[tuple[str, str], float]:
    return {(one.name, one.labels.get("listener", "")): one.value for family in families for one in family.samples}


def test_samples_of_the_same_labels_are_added_up_and_others_stand_apart() -> None:
    families = summed((report(3, 1), report(4, 2), report(5, 0, "other")))
    assert values(families) == {
        ("mfalb_requests_total", "web"): 7,
        ("mfalb_requests_total", "other"): 5,
        ("mfalb_active", ""): 3,
    }
    assert [(one.name, one.type, one.documentation) for one in families] == [
        ("mfalb_requests", "counter", "Requests."),
        ("mfalb_active", "gauge", "Active."),
    ]


def test_what_all_tell_alike_is_not_added_up() -> None:
    reports = [words_of((CounterMetricFamily("mfalb_pins_evicted", "Evicted.", value),)) for value in (3, 5, 4)]
    assert values(summed(reports)) == {("mfalb_pins_evicted_total", ""): 5}


def test_of_a_worker_that_is_gone_only_its_counters_go_on() -> None:
    assert [family["name"] for family in counters_of(report(3, 1))] == ["mfalb_requests"]


@pytest.mark.parametrize("words", [{}, {"name": "x", "text": "", "type": "gauge", "samples": [["x", {}, "much"]]}])
def test_other_words_are_told_apart(words: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        summed(([words],))
