"""A bench's arithmetic and the shape of its result: what is published must not depend on running it by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from programs.process import wait_until

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))

import failover  # noqa: E402 - path first
import http_load  # noqa: E402
import https  # noqa: E402
import https_works  # noqa: E402
import nas  # noqa: E402
import pins  # noqa: E402
import plot  # noqa: E402
import radius  # noqa: E402
import workers  # noqa: E402
from contenders import HttpsContender  # noqa: E402
from measure import Effort, Metric, Round, Scenario, Series, session_cpu_s, table, write_result  # noqa: E402

CONTENDERS = {
    "mfalb",
    "mfalb_compiled",
    "mfalb_fast",
    "haproxy",
    "nginx",
    "envoy",
    "aiohttp_handler",
    "radsecproxy",
    "freeradius",
    "primary_secondary",
    "mfalb_valkey",
    "no_pins",
    "workers_1",
    "workers_2",
    "workers_1_compiled",
    "workers_2_compiled",
}
RATE = Metric("transactions_per_s", "1/s")


def scenario_of(**rates: list[float]) -> Scenario:
    series = {name: Series("1.0", [{RATE.name: rate} for rate in values]) for name, values in rates.items()}
    return Scenario("example", [RATE], series)


def test_a_contenders_figure_is_the_median_of_its_rounds_with_its_range() -> None:
    result = scenario_of(mfalb=[30.0, 10.0, 20.0]).result()
    metrics = result["contenders"]["mfalb"]["metrics"]
    assert metrics == {"transactions_per_s": {"median": 20.0, "min": 10.0, "max": 30.0, "unit": "1/s"}}
    assert result["rounds"] == 3


def test_a_ratio_compares_only_what_was_measured_in_the_same_round() -> None:
    # The machine became ten times faster after the first round: medians alone would give 20 / 40.
    result = scenario_of(mfalb=[2.0, 20.0, 20.0], nginx=[4.0, 40.0, 10.0]).result()
    assert result["ratios"] == {"transactions_per_s mfalb/nginx": 0.5}


def test_a_turn_that_came_to_nothing_does_not_pair_the_others_of_different_rounds() -> None:
    scenario = scenario_of(mfalb=[2.0, 20.0, 20.0], nginx=[4.0, 40.0, 40.0])
    scenario.series["nginx"].rounds[0] = {}
    assert scenario.result()["ratios"] == {"transactions_per_s mfalb/nginx": 0.5}


def test_a_contender_that_did_not_start_has_no_figures_and_no_ratio() -> None:
    scenario = scenario_of(mfalb=[1.0])
    scenario.spoil("nginx could not be started: it is not there")
    result = scenario.result()
    assert (result["valid"], result["ratios"], list(result["contenders"])) == (False, {}, ["mfalb"])
    assert any("nginx could not be started" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("contender", "generator", "responder", "is_limited"),
    [
        (1.0, 0.3, 0.3, False),
        (0.6, 0.97, 0.0, True),
        (0.6, 0.0, 0.97, True),
        (0.6, 0.5, 0.47, True),  # together they fill the one core that they share
        (0.6, 0.5, 0.4, False),
        (0.92, 0.5, 0.5, False),  # the contender had next to nothing left either
    ],
)
def test_a_turn_is_limited_by_load_when_the_load_is_at_its_end_and_the_contender_is_not(
    contender: float, generator: float, responder: float, is_limited: bool
) -> None:
    assert Effort(contender, generator, responder, 0.0).is_limited_by_load(1) is is_limited


def test_generator_and_responder_may_fill_a_core_each_where_they_have_two() -> None:
    assert not Effort(0.5, 0.9, 0.9, 0.0).is_limited_by_load(2)


@pytest.mark.parametrize(
    ("efforts", "is_valid"),
    [
        ([Effort(1.0, 0.2, 0.2, 0.1)] * 2, True),
        ([Effort(1.0, 0.2, 0.2, 0.9), *[Effort(1.0, 0.2, 0.2, 0.1)] * 2], True),  # one odd turn: the median stands
        ([Effort(0.6, 0.2, 0.2, 0.9), Effort(1.0, 0.2, 0.2, 0.1)], False),
        ([Effort(0.6, 0.97, 0.0, 0.0), Effort(1.0, 0.2, 0.2, 0.1)], False),
    ],
)
def test_half_of_the_turns_disturbed_or_limited_by_load_make_the_result_invalid(
    efforts: list[Effort], is_valid: bool
) -> None:
    scenario = scenario_of(mfalb=[1.0])
    for effort in efforts:
        scenario.note_effort("mfalb", effort)
    scenario.judge_efforts(load_cores=1)
    assert scenario.is_valid is is_valid


def test_the_cpu_time_of_a_session_grows_with_the_work_of_its_processes() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) as busy:
        try:
            wait_until(lambda: session_cpu_s(busy.pid) >= 0.1, "its CPU time to be seen")
        finally:
            busy.kill()
    assert session_cpu_s(2**30) == 0.0, "there is no such session"


def test_a_written_result_has_the_published_shape_and_prints_as_a_table(tmp_path: Path) -> None:
    scenario = scenario_of(mfalb=[1000.0], nginx=[2000.0])
    scenario.note_effort("mfalb", Effort(1.0, 0.2, 0.2, 0.0))
    scenario.judge_efforts(load_cores=1)
    path = write_result(scenario.result(), tmp_path)
    result = json.loads(path.read_text("utf-8"))
    assert_published_shape(result)
    assert path.name == "example.json"
    assert "2,000.0" in table(result)


def test_the_turns_that_spoil_a_result_are_named_once_for_each_reason() -> None:
    scenario = scenario_of(mfalb=[1.0])
    for who, strangers in (("mfalb with 8", 0.9), ("mfalb with 128", 0.0), ("nginx with 8", 0.9)):
        scenario.note_effort(who, Effort(1.0, 0.2, 0.2, strangers))
    scenario.judge_efforts(load_cores=1)
    assert "other programs were busy in mfalb with 8, nginx with 8" in scenario.notes
    assert not any("were the limit" in note for note in scenario.notes)


def test_where_cpu_time_is_the_headline_a_load_at_its_end_only_makes_rates_lower_bounds() -> None:
    scenario = scenario_of(mfalb=[1.0])
    for who, contender in (("mfalb", 1.0), ("nginx", 0.6)):
        for work in ("plain", "tls"):
            scenario.note_effort(who, Effort(contender if work == "tls" else 0.5, 0.97, 0.0, 0.0), work)
    scenario.judge_efforts(load_cores=1, is_limit_fatal=False)
    assert scenario.is_valid
    assert "generator or responder set the pace, so that rates are lower bounds, in plain (all), tls (nginx)" in (
        scenario.notes
    )
    assert "median share of a core (tls), contender/generator/responder: mfalb 100%/97%/0%, nginx 60%/97%/0%" in (
        scenario.notes
    )


def test_an_https_metric_is_named_by_work_and_load_and_64_connections_are_the_headline() -> None:
    works = https.read_plan(["--connections", "4,64"]).works
    names = [metric.name for work in works for metric in work.metrics]
    published = "requests_per_s_plain requests_per_s_tls cpu_us_per_request_plain cpu_us_per_request_tls p50_ms p99_ms"
    published += " connections_per_s_tls bytes_per_s_10mb_down bytes_per_s_10mb_up rss_kb_per_idle_tls"
    assert {*published.split(), "requests_per_s_tls@4", "p99_ms@same_rate"} <= set(names)
    assert len(names) == len(set(names))


def test_works_and_contenders_of_the_https_bench_can_be_narrowed_but_not_made_up() -> None:
    plan = https.read_plan(["--works", "plain,idle", "--connections", "512", "--contenders", "envoy"])
    assert plan.works == [https_works.KeptAlive(512, is_tls=False), https_works.Idle()]
    assert plan.contenders == ["envoy"]
    for option in ("--works", "--contenders"):
        with pytest.raises(SystemExit):
            https.read_plan([option, "plain,apache"])


def https_bench(capacity_per_s: float) -> tuple[https_works.Bench, https_works.Subject]:
    contender = HttpsContender("envoy", "1.0", None, 0, 0)  # type: ignore[arg-type]
    scenario = Scenario("https", [], {"envoy": Series("1.0")})
    bench = https_works.Bench(None, None, ROOT, 1.0, scenario, same_rate_per_s=1_000.0)  # type: ignore[arg-type]
    return bench, https_works.Subject(contender, [], capacity_per_s)


def test_a_contender_without_the_capacity_for_the_same_rate_has_no_times_at_it_which_is_a_result() -> None:
    bench, subject = https_bench(capacity_per_s=800.0)
    work = https_works.Latency(https_works.Rate.SAME)
    assert https_works.take_turn(bench, subject, work) == {}
    assert bench.scenario.notes == ["envoy cannot take 1,000/s: no times (the same rate for all)"]
    assert bench.scenario.is_valid


def test_a_turn_that_breaks_off_has_no_figures_and_spoils_the_result() -> None:
    class Broken:
        name = "10 MB down"
        metrics = (RATE,)

        def measure(self, bench: https_works.Bench, subject: https_works.Subject) -> https_works.Figures:
            raise ConnectionResetError(f"{subject.name} closed a connection after {bench.seconds} s")

    bench, subject = https_bench(capacity_per_s=800.0)
    assert https_works.take_turn(bench, subject, Broken()) == {}
    assert bench.scenario.notes == ["envoy: 10 MB down: envoy closed a connection after 1.0 s"]
    assert not bench.scenario.is_valid


def test_paced_requests_count_from_the_last_opening_to_the_first_connections_end() -> None:
    pace = http_load.Pace(rate_per_s=100.0, connections=100, seconds=1.0)  # opening takes 0.3 s
    before, after = ["0\t200\t900000\n"] * 10, ["1300000\t200\t900000\n"] * 10
    counted = [f"{300_000 + number * 5_000}\t200\t{1_000 + number}\n" for number in range(200)]
    answers = http_load.read_log([*before, *counted, *after], pace)
    assert (answers.rate_per_s, answers.p50_ms, answers.p99_ms) == (200.0, 1.1, 1.198)


@pytest.mark.parametrize("wrong", [["400000\t503\t9\n"], ["400000\t-1\t9\n"], []])
def test_a_paced_request_that_was_refused_failed_or_never_ended_is_an_error(wrong: list[str]) -> None:
    pace = http_load.Pace(rate_per_s=8.0, connections=2, seconds=1.0)
    lines = ["0\t200\t9\n"] * (pace.requests - 2) + ["500000\t200\t9\n"] + wrong
    assert http_load.read_log(lines, pace).errors == 1


def test_a_log_of_paced_requests_without_any_is_no_measurement() -> None:
    pace = http_load.Pace(rate_per_s=8.0, connections=100, seconds=1.0)
    for lines in ([], ["5\t200\t9\n"]):
        with pytest.raises(ValueError, match="logged no request"):
            http_load.read_log(lines, pace)


def test_a_radius_metric_is_named_by_load_and_by_secrets_and_128_is_the_headline() -> None:
    names = [metric.name for metric in radius._metrics([128, 1024])]
    assert names[0] == "transactions_per_s"
    assert {"p99_us@1024", "lost@same_secret", "cpu_us_per_transaction@1024@same_secret"} <= set(names)
    assert len(names) == len(set(names)) == 20


def test_load_generators_that_are_too_slow_show_in_the_notes() -> None:
    scenario = Scenario("radius", radius._metrics([8]), {"nginx": Series("1", [{"transactions_per_s@8": 30_000.0}])})
    plan = radius.Plan(1, 1.0, [8], ["nginx"], ROOT)
    bench = radius.Bench(plan, None, 0, scenario, direct={8: [40_000.0, 60_000.0, 50_000.0]})  # type: ignore[arg-type]
    bench.note_direct()
    assert scenario.notes == [
        "generator and responder alone on their core: 50,000/s with 8 outstanding (fastest contender: 60%)"
    ]


class Network:
    """Servers by port, some of which are dead; it notes who was asked."""

    def __init__(self, *dead: int) -> None:
        self.dead = set(dead)
        self.asked: list[int] = []

    def ask(self, server: nas.Server, _: nas.Patience) -> bool:
        self.asked.append(server.port)
        return server.port not in self.dead


SERVERS = [nas.Server(1, "secret"), nas.Server(2, "secret")]


def test_a_nas_without_a_dead_time_asks_the_failed_primary_for_every_user() -> None:
    network = Network(1)
    client = nas.Nas(SERVERS, network.ask, nas.Patience())
    assert [client.sign_in(60.0).is_in for _ in range(2)] == [True, True]
    assert network.asked == [1, 2, 1, 2]


def test_a_nas_with_a_dead_time_asks_a_failed_server_last_until_it_answers() -> None:
    network = Network(1)
    client = nas.Nas(SERVERS, network.ask, nas.Patience(), dead_time_s=60.0)
    assert [client.sign_in(60.0).is_in for _ in range(2)] == [True, True]
    assert network.asked == [1, 2, 2]
    network.dead = {2}
    assert [client.sign_in(60.0).is_in for _ in range(2)] == [True, True]
    assert network.asked[3:] == [2, 1, 1]


def test_a_user_whom_nobody_answers_gives_up_at_the_limit() -> None:
    network = Network(1, 2)
    sign_in = nas.Nas(SERVERS, network.ask, nas.Patience()).sign_in(limit_s=0.0)
    assert (sign_in.is_in, network.asked) == (False, [1, 2])


def test_a_user_who_was_refused_begins_again() -> None:
    network = Network(1)

    def ask(server: nas.Server, patience: nas.Patience) -> bool:
        network.dead = set() if len(network.asked) > 2 else network.dead
        return network.ask(server, patience)

    sign_in = nas.Nas(SERVERS[:1], ask, nas.Patience()).sign_in(60.0)
    assert (sign_in.is_in, sign_in.failed_attempts, network.asked) == (True, 3, [1, 1, 1, 1])


def visits_of(contender: str, *elapsed_s: float, failed_attempts: int = 0) -> list[failover.Visit]:
    first = failover.Phase.FIRST
    return [failover.Visit(contender, "nas", first, nas.SignIn(one, failed_attempts)) for one in elapsed_s]


def test_the_wait_of_every_user_counts_and_p99_is_one_that_somebody_had() -> None:
    visits = visits_of("mfalb", *(number / 1000 for number in range(200)))
    figures = failover._figures(visits, failover.Fault.SILENT)
    assert len(figures["first_ms_silent@nas"]) == 200
    assert figures["first_p99_ms_silent@nas"] == [pytest.approx(197.0)]
    assert figures["failed_attempts_silent@nas"] == [0] * 200
    assert set(figures) <= {metric.name for metric in failover._metrics()}


PNG = b"\x89PNG\r\n\x1a\n"


def test_a_radius_result_becomes_a_picture_even_when_a_contender_has_no_figures(tmp_path: Path) -> None:
    metrics = radius._metrics([8, 128])
    rounds: list[Round] = [{metric.name: float(number) for metric in metrics} for number in (1, 2)]
    series = {"mfalb": Series("1.0", rounds), "nginx": Series("1.2", [])}
    plot.radius(Scenario("radius", metrics, series).result(), tmp_path / "radius.png")
    assert (tmp_path / "radius.png").read_bytes().startswith(PNG)


def test_an_https_result_becomes_a_picture_even_when_half_of_it_was_not_measured(tmp_path: Path) -> None:
    metrics = [metric for work in https.read_plan(["--works", "plain,latency"]).works for metric in work.metrics]
    rounds: list[Round] = [{metric.name: float(number) for metric in metrics} for number in (1, 2)]
    series = {"mfalb": Series("1.0", rounds), "envoy": Series("1.2", [])}
    result = Scenario("https", metrics, series).result()
    assert_published_shape(result)
    plot.https(result, tmp_path / "https.png")
    assert (tmp_path / "https.png").read_bytes().startswith(PNG)


def test_a_failover_result_becomes_a_picture(tmp_path: Path) -> None:
    series = {
        way: Series("1.0", [{name: value} for name, values in figures.items() for value in values])
        for way in ("mfalb", "mfalb_fast", "primary_secondary")
        for figures in [failover._figures(visits_of(way, 0.002, 9.0), failover.Fault.REFUSED)]
    }
    result = Scenario("failover", failover._metrics(), series).result()
    assert_published_shape(result)
    assert result["ratios"]["first_p99_ms_refused@nas mfalb/primary_secondary"] == 1.0
    plot.failover(result, series, tmp_path / "failover.png")
    assert (tmp_path / "failover.png").read_bytes().startswith(PNG)


def test_what_a_pin_store_adds_is_the_difference_within_one_round_and_p99_is_a_time_that_somebody_had() -> None:
    alone = pins.percentiles("challenge", [10.0] * 98 + [50.0, 90.0]) | pins.percentiles("reject", [1.0])
    shared = pins.percentiles("challenge", [30.0] * 98 + [70.0, 900.0]) | pins.percentiles("reject", [2.0])
    assert (alone["challenge_p50"], alone["challenge_p99"], shared["challenge_p99"]) == (10.0, 50.0, 70.0)
    found = pins.added(shared, alone)
    assert (found["challenge_added_p50"], found["challenge_added_p99"], found["reject_added_p99"]) == (20.0, 20.0, 1.0)


def test_a_pins_result_has_the_published_shape_and_says_whether_the_targets_were_met() -> None:
    for p99, shared, stored in ((250.0, "within", "within"), (900.0, "past", "within"), (1100.0, "past", "past")):
        scenario = pins.new_scenario()
        turn = {f"{work}_{kind}": 100.0 for work in pins.WORKS for kind in pins.KINDS}
        scenario.series["no_pins"].rounds.append(turn)
        for name in ("mfalb", "mfalb_valkey"):
            scenario.series[name].rounds.append(turn | {"challenge_added_p99": p99})
        pins.judge_targets(scenario)
        result = scenario.result()
        assert_published_shape(result)
        assert result["ratios"]["challenge_p50 mfalb/no_pins"] == 1
        assert result["notes"] == [
            f"mfalb: {p99:.0f} us added to a challenge, p99: {shared} the target of 300 us",
            f"mfalb_valkey: {p99:.0f} us added to a challenge, p99: {stored} the target of 1000 us",
        ]


def test_a_table_that_is_filled_to_its_limit_holds_all_of_its_pins() -> None:
    found = pins.full_table(1000)
    assert found["table_pins"] == 1000
    assert 0 < found["table_put_p50"] <= found["table_put_p99"]
    assert 0 < found["table_find_p50"] <= found["table_find_p99"]


def test_workers_are_judged_by_what_a_unit_costs_in_the_same_round() -> None:
    plan = workers.read_plan(["--works", "radius"])
    for cost_us, verdict in ((21.0, "within"), (23.0, "past")):
        scenario = Scenario("workers", workers.RADIUS_METRICS)
        scenario.series["workers_1"] = Series("1.0", [{"cpu_us_per_transaction": 20.0}])
        scenario.series["workers_2"] = Series("1.0", [{"cpu_us_per_transaction": cost_us}])
        workers.judge(scenario, plan)
        assert_published_shape(scenario.result())
        ratio = cost_us / 20
        assert scenario.notes == [f"cpu_us_per_transaction workers_2/workers_1: {ratio} ({verdict} the target of 1.1)"]


def test_every_result_in_the_repository_has_the_published_shape() -> None:
    for path in (ROOT / "bench" / "results").glob("*.json"):
        result = json.loads(path.read_text("utf-8"))
        assert_published_shape(result)
        assert path.stem == result["scenario"]


def assert_published_shape(result: dict[str, object]) -> None:
    assert list(result) == ["scenario", "date", "machine", "rounds", "contenders", "ratios", "valid", "notes"]
    contenders = result["contenders"]
    assert isinstance(contenders, dict)
    assert contenders.keys() <= CONTENDERS
    for contender in contenders.values():
        assert contender.keys() == {"version", "metrics"}
        for summary in contender["metrics"].values():
            assert list(summary) == ["median", "min", "max", "unit"]
            assert summary["min"] <= summary["median"] <= summary["max"]
    assert result["valid"] or result["notes"], "an invalid result says why"
