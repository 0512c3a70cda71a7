"""A bench's arithmetic and the shape of its result: what is published must not depend on running it by hand."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))

from measure import Effort, Metric, Scenario, Series, session_cpu_s, table, write_result  # noqa: E402 - path first

CONTENDERS = {"mfalb", "haproxy", "nginx", "envoy", "aiohttp_handler", "radsecproxy", "freeradius"}
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
    before_s, end_s = session_cpu_s(os.getsid(0)), time.process_time() + 0.1
    while time.process_time() < end_s:
        sum(range(100_000))
    assert session_cpu_s(os.getsid(0)) - before_s >= 0.08  # /proc counts in hundredths
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
