"""Metrics of several processes as one: families to words and back, and their sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import add
from typing import Any, Final

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

# What all workers tell alike (they have the same files), or what only the worst counts of
_LARGEST: Final = frozenset(
    (
        "mfalb_tls_certificate_expiry_timestamp_seconds",
        "mfalb_tls_crl_expiry_timestamp_seconds",
        "mfalb_tls_reloads",
        "mfalb_tls_files_failing",
        "mfalb_pins_evicted",  # counted in memory that they share
        "mfalb_node_settings_differ",
    )
)
_SMALLEST: Final = frozenset(("mfalb_pin_store_up",))  # a store that one of them cannot use is not up

Words = list[dict[str, Any]]


def words_of(families: Iterable[Metric]) -> Words:
    """Families as what JSON carries."""
    return [
        {
            "name": one.name,
            "text": one.documentation,
            "type": one.type,
            "samples": [[sample.name, sample.labels, float(sample.value)] for sample in one.samples],
        }
        for one in families
    ]


def summed(reports: Iterable[Words]) -> list[Metric]:
    """The sums of samples of the same name and labels. Raises KeyError, TypeError and ValueError for other words."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for words in reports:
        for told in words:
            name = str(told["name"])
            families.setdefault(name, Metric(name, str(told["text"]), str(told["type"])))
            together = max if name in _LARGEST else min if name in _SMALLEST else add
            _put_together(values.setdefault(name, {}), told["samples"], together)
    for name, family in families.items():
        family.samples = [Sample(sample, dict(labels), value) for (sample, labels), value in values[name].items()]
    return list(families.values())


def _put_together(
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float],
    samples: list[tuple[str, dict[str, str], float]],
    together: Callable[[float, float], float],
) -> None:
    for name, labels, value in samples:
        key = (str(name), tuple((str(label), str(text)) for label, text in labels.items()))
        values[key] = together(values[key], float(value)) if key in values else float(value)


def counters_of(words: Words) -> Words:
    """Of a worker that is gone: what went on being counted. Its gauges are nobody's any more."""
    return [family for family in words if family["type"] == "counter"]
