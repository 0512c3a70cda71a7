"""The part of the metrics page about TLS: when certificates expire, and whether changed files could be used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mfalb.net.live_tls import LiveServer
from mfalb.net.tls_files import Watched


def tls_metrics(watched: Sequence[Watched]) -> Iterator[Metric]:
    """`role` is listener or pool, `name` its name; a file is labelled with its path."""
    who = ["role", "name"]
    expiry = GaugeMetricFamily(
        "mfalb_tls_certificate_expiry_timestamp_seconds",
        "When the certificate in use expires, in seconds since 1970.",
        labels=[*who, "certificate"],
    )
    crl = GaugeMetricFamily(
        "mfalb_tls_crl_expiry_timestamp_seconds",
        "When the first revocation list of the file in use is out of date, in seconds since 1970.",
        labels=[*who, "crl"],
    )
    reloads = CounterMetricFamily(
        "mfalb_tls_reloads", "Changed TLS files that were taken into use, or could not be.", labels=[*who, "result"]
    )
    failing = GaugeMetricFamily(
        "mfalb_tls_files_failing", "1 while changed TLS files cannot be used and the former ones stay.", labels=who
    )
    handshakes = CounterMetricFamily(
        "mfalb_tls_handshakes", "Handshakes with clients, by how they ended.", labels=["listener", "result"]
    )
    for one in watched:
        names = [one.role, one.live.name]
        for file, end in one.live.expiries.items():
            expiry.add_metric([*names, str(file)], end)
        for file, end in one.live.crl_expiries.items():
            crl.add_metric([*names, str(file)], end)
        for result, count in one.reloads.items():
            reloads.add_metric([*names, result], count)
        failing.add_metric(names, one.is_failing)
        if isinstance(one.live, LiveServer):
            for result, count in one.live.handshakes.counts.items():
                handshakes.add_metric([one.live.name, result], count)
    yield from (expiry, crl, reloads, failing, handshakes)
