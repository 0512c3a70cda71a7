from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from unit.balancer.affinity.node_pins import pin_hub

from mfalb.balancer.admin.metrics import MetricsPage
from mfalb.balancer.admin.summed_metrics import summed, words_of
from mfalb.balancer.admin.worker_metrics import WorkerMetrics
from mfalb.balancer.affinity.hub import Hub
from mfalb.balancer.affinity.store import Pin, PinEnd
from mfalb.balancer.config.health_models import PassiveCheck, TcpCheck
from mfalb.balancer.config.http_models import Retries
from mfalb.balancer.config.models import Backend
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.values import Address
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.pools.backend import AdminState, LastCheck
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.pin_sharing import PinSharing
from mfalb.net.tls_files import Watched
from mfalb.telemetry.log import AccessLog, LineForm
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.wire.radius import SharedSecret

Sample = tuple[str, frozenset[tuple[str, str]]]


@dataclass
class Source:
    """A worker's tables."""

    pins: Hub = field(default_factory=lambda: pin_hub(10))
    counters: Mapping[str, ListenerCounters] = field(default_factory=dict)
    access_log: AccessLog | None = None
    in_flight: Mapping[str, int] = field(default_factory=dict)
    unknown_states: Mapping[str, int] = field(default_factory=dict)
    answers_forgotten_early: Mapping[str, int] = field(default_factory=dict)
    listener_kernel_drops: Mapping[str, int] = field(default_factory=dict)
    backend_kernel_drops: Mapping[tuple[str, str], int] = field(default_factory=dict)
    radius_peers: Mapping[str, tuple[list[RadiusPeer], list[RadiusPeer]]] = field(default_factory=dict)
    tls_files: Sequence[Watched] = ()
    pin_sharing: PinSharing | None = None


def make_pool() -> Pool:
    config = PoolConfig(
        backends=tuple(Backend(name=name, address=Address("192.0.2.1", 443)) for name in ("b1", "b2")),
        health_check=TcpCheck(type="tcp", rise=1, fall=1),
        passive_check=PassiveCheck(),
    )
    return Pool("web", config)


def page_of(source: Source, pools: Mapping[str, Pool], now: float) -> MetricsPage:
    """The page of a supervisor with one worker, which has said what JSON carries."""
    said = json.loads(json.dumps(words_of(WorkerMetrics(source, pools).collect())))
    return MetricsPage(lambda: summed([said]), pools, lambda: now)


def samples(source: Source, pools: Mapping[str, Pool] | None = None, *, now: float = 100.0) -> dict[Sample, float]:
    """The page as a scraper reads it; a sample that stands twice fails."""
    text = page_of(source, pools or {}, now).text().decode()
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            key = (one.name, frozenset(one.labels.items()))
            assert key not in found, f"{key} stands twice"
            found[key] = one.value
    return found


def sample(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


def test_a_listener_s_counters_are_told_by_answer_and_reason() -> None:
    counters = ListenerCounters("web", "https", requests=5, seconds=1.5, connections=2)
    counters.answers.update({"2xx": 3, "no_backend": 1})
    counters.drops["header_bytes"] += 4
    page = samples(Source(counters={"web": counters}))
    assert page[sample("mfalb_listener_requests_total", listener="web", protocol="https")] == 5
    assert page[sample("mfalb_listener_answers_total", listener="web", answer="2xx")] == 3
    assert page[sample("mfalb_listener_answers_total", listener="web", answer="no_backend")] == 1
    assert page[sample("mfalb_listener_drops_total", listener="web", reason="header_bytes")] == 4
    assert page[sample("mfalb_listener_exchange_seconds_total", listener="web")] == 1.5
    assert page[sample("mfalb_listener_connections", listener="web")] == 2


def test_unknown_states_and_answers_that_gave_way_are_told_by_listener() -> None:
    page = samples(Source(unknown_states={"edge": 3}, answers_forgotten_early={"edge": 5, "vpn": 0}))
    assert page[sample("mfalb_radius_unknown_states_total", listener="edge")] == 3
    assert page[sample("mfalb_radius_answers_forgotten_early_total", listener="edge")] == 5
    assert page[sample("mfalb_radius_answers_forgotten_early_total", listener="vpn")] == 0


def test_health_and_admin_state_are_two_facts() -> None:
    pool = make_pool()
    pool.observe("b1", is_good=True, reason="ok", now=0.0)
    pool.set_admin_state("b1", AdminState.DRAIN, 0.0)
    page = samples(Source(), {"web": pool})
    assert page[sample("mfalb_backend_up", pool="web", backend="b1")] == 1
    assert page[sample("mfalb_backend_up", pool="web", backend="b2")] == 0
    states = {
        state.value: page[sample("mfalb_backend_admin_state", pool="web", backend="b1", state=state.value)]
        for state in AdminState
    }
    assert states == {"ready": 0, "drain": 1, "maint": 0}


def test_what_traffic_and_the_last_check_have_shown_is_told() -> None:
    pool = make_pool()
    for name in ("b1", "b2"):
        pool.observe(name, is_good=True, reason="ok", now=0.0)
    pool.observe_degraded(pool.backends["b2"], "does not reach the master")
    pool.backends["b1"].last_check = LastCheck(99.0, 0.25, is_good=True, text="status 200")
    for _ in range(5):
        pool.observe_failure(pool.backends["b1"], "reset", 90.0)
    page = samples(Source(), {"web": pool})
    expected = {
        "mfalb_backend_degraded": (0, 1),
        "mfalb_backend_ejected": (1, 0),
        "mfalb_backend_ejection_left_seconds": (20, None),
        "mfalb_backend_ejections_total": (1, 0),
        "mfalb_backend_consecutive_failures": (5, 0),
        "mfalb_backend_last_check_seconds": (0.25, None),
    }
    for metric, values in expected.items():
        found = [page.get(sample(metric, pool="web", backend=name)) for name in ("b1", "b2")]
        assert tuple(found) == values, metric


def test_a_backend_s_work_is_told() -> None:
    pool = make_pool()
    backend = pool.backends["b1"]
    backend.requests, backend.failures, backend.active = 7, 2, 1
    page = samples(Source(), {"web": pool})
    names = {"pool": "web", "backend": "b1"}
    assert page[sample("mfalb_backend_requests_total", **names)] == 7
    assert page[sample("mfalb_backend_failures_total", **names)] == 2
    assert page[sample("mfalb_backend_active", **names)] == 1


def test_a_backend_s_probes_and_ages_are_told() -> None:
    pool, told = make_pool(), {"pool": "web", "backend": "b1"}
    backend = pool.backends["b1"]
    backend.probes_sent, backend.probes_answered, backend.probes_lost = 9, 6, 2
    pool.observe("b1", is_good=True, reason="ok", now=10.0)
    backend.last_reply_at = 37.5
    page = samples(Source(), {"web": pool}, now=40.0)
    counts = {name: page[sample(f"mfalb_backend_probes_{name}_total", **told)] for name in ("sent", "answered", "lost")}
    assert counts == {"sent": 9, "answered": 6, "lost": 2}
    assert page[sample("mfalb_backend_health_age_seconds", **told)] == 30.0
    assert page[sample("mfalb_backend_last_reply_age_seconds", **told)] == 2.5
    ages = {one for one in page if one[0].endswith("age_seconds")}
    assert {dict(labels)["backend"] for _, labels in ages} == {"b1"}, "b2 was never heard of"


def test_pins_are_counted_and_never_shown() -> None:
    pins = pin_hub(10)
    pins.put(Pin(b"a key of sixteen", "b1", 10.0), 0.0)
    pins.find(b"a key of sixteen", 0.0)
    pins.find(b"another sixteen.", 0.0)
    pins.end(PinEnd(b"a key of sixteen", "b1", 0.0), 0.0)
    source = Source(pins=pins)
    page = samples(source)
    counts = [page[sample(name)] for name in ("mfalb_pins", "mfalb_pins_made_total")]
    assert counts == [1, 1]
    assert page[sample("mfalb_pins_ended_total")] == 1
    assert page[sample("mfalb_pins_hit_total")] == 1
    assert page[sample("mfalb_pins_missed_total")] == 1
    assert b"sixteen" not in page_of(source, {}, 0.0).text()


def test_lines_left_out_of_the_access_log_are_told_when_there_is_one() -> None:
    log = AccessLog(is_json=False, stream=io.StringIO())
    form = LineForm("request", ("status",))
    for _ in range(AccessLog.LIMIT + 3):
        log.add(form, (200,))
    name = sample("mfalb_access_log_left_out_total")
    assert samples(Source(access_log=log))[name] == 3
    assert name not in samples(Source())


def test_no_label_is_one_that_clients_could_choose() -> None:
    counters = ListenerCounters("web", "https", requests=1)
    counters.count_answer("2xx")
    counters.drops["no_host"] += 1
    page = samples(Source(counters={"web": counters}, in_flight={"radius": 3}), {"web": make_pool()})
    labels = {name for _, pairs in page for name, _ in pairs}
    assert labels <= {"version", "listener", "protocol", "answer", "reason", "pool", "backend", "state"}


def test_hidden_attributes_that_passed_as_they_were_are_told_by_name() -> None:
    counters = ListenerCounters("radius", "radius")
    counters.unhandled_hidden["WiMAX-MSK"] += 2
    page = samples(Source(counters={"radius": counters}))
    name = "mfalb_radius_unhandled_hidden_attributes_total"
    assert page[sample(name, listener="radius", attribute="WiMAX-MSK")] == 2


def test_names_with_quotes_and_newlines_cannot_break_the_page() -> None:
    counters = ListenerCounters('we"b\n', "http", requests=1)
    page = samples(Source(counters={"web": counters}))
    assert page[sample("mfalb_listener_requests_total", listener='we"b\n', protocol="http")] == 1


def test_the_radius_peers_whose_packets_were_discarded_are_named_by_role() -> None:
    vpn, mfa1 = (RadiusPeer(name, SharedSecret(b"x"), requires_message_authenticator=True) for name in ("vpn", "mfa1"))
    vpn.drops["missing_message_authenticator"] += 3
    mfa1.drops["foreign_proxy_state"] += 1
    page = samples(Source(radius_peers={"radius": ([vpn], [mfa1])}))
    name = "mfalb_radius_peer_drops_total"
    reason = "missing_message_authenticator"
    assert page[sample(name, listener="radius", role="client", peer="vpn", reason=reason)] == 3
    assert page[sample(name, listener="radius", role="backend", peer="mfa1", reason="foreign_proxy_state")] == 1


def test_a_server_that_is_in_two_pools_of_a_listener_is_one_peer_of_its() -> None:
    secret = SharedSecret(b"unused")
    for_sign_ins, for_records = (RadiusPeer("mfa1", secret, requires_message_authenticator=False) for _ in range(2))
    for_sign_ins.drops["truncated"] += 1
    for_records.drops["truncated"] += 2
    for_records.drops["unexpected_answer_code"] += 4
    page = samples(Source(radius_peers={"radsec": ([], [for_sign_ins, for_records])}))
    labels = {"listener": "radsec", "role": "backend", "peer": "mfa1"}
    assert page[sample("mfalb_radius_peer_drops_total", **labels, reason="truncated")] == 3
    assert page[sample("mfalb_radius_peer_drops_total", **labels, reason="unexpected_answer_code")] == 4


def test_datagrams_that_the_kernel_dropped_are_told_by_listener_and_by_backend() -> None:
    drops = {("mfa", "mfa1"): 0, ("mfa", "mfa2"): 5}
    page = samples(Source(listener_kernel_drops={"radius": 7}, backend_kernel_drops=drops))
    assert page[sample("mfalb_listener_kernel_drops_total", listener="radius")] == 7
    assert page[sample("mfalb_backend_kernel_drops_total", pool="mfa", backend="mfa1")] == 0
    assert page[sample("mfalb_backend_kernel_drops_total", pool="mfa", backend="mfa2")] == 5


def test_panic_and_slow_starts_are_told() -> None:
    config = make_pool().config.model_copy(update={"panic_threshold": 0.9, "slow_start_s": 10.0})
    pool = Pool("web", config)
    for name, is_good, now in (("b1", True, 1.0), ("b2", False, 1.0)):
        pool.observe(name, is_good=is_good, reason="test", now=now)
    share = sample("mfalb_backend_share", pool="web", backend="b2")
    page = samples(Source(), {"web": pool})
    assert (page[sample("mfalb_pool_panic", pool="web")], page[share]) == (1, 1.0)
    pool.observe("b2", is_good=True, reason="test", now=20.0)
    pool.tick(25.0)
    page = samples(Source(), {"web": pool})
    assert (page[sample("mfalb_pool_panic", pool="web")], page[share]) == (0, 0.5)


def test_waiting_requests_and_retries_are_told_by_pool() -> None:
    config = make_pool().config.model_copy(update={"retries": Retries(budget=0.2, reserve=2)})
    pool = Pool("web", config)
    pool.line.join(object())
    spent = [pool.retries.spend() for _ in range(3)]
    page = samples(Source(), {"web": pool})
    names = ("mfalb_pool_waiting", "mfalb_pool_retries_total", "mfalb_pool_retries_denied_total")
    assert spent == [True, True, False]
    assert [page[sample(name, pool="web")] for name in names] == [1, 2, 1]
