"""Workers' numbers are added up, those of workers that are gone as well; what is no number is ignored and counted."""

from __future__ import annotations

from typing import Any, cast

import pytest
from unit.balancer.pools.pool_builder import pool_of
from unit.still_loop import run

from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.supervisor.crew import SILENT_AFTER, Crew, Seat
from mfalb.balancer.supervisor.reports import Reports

UP = (Health.UP, AdminState.READY)


class FakeCrew:
    """Two workers that report what a test says."""

    def __init__(self) -> None:
        self.seats = [Seat(number, is_ready=True, born_at=1.0) for number in range(2)]
        self.told: dict[int, dict[str, Any]] = {}

    @property
    def alive(self) -> int:
        return sum(seat.is_ready for seat in self.seats)

    @property
    def silent(self) -> int:
        return sum(seat.is_silent for seat in self.seats)

    async def reports(self) -> dict[int, dict[str, Any]]:
        return self.told


class World:
    """Reports of a crew about one pool."""

    def __init__(self) -> None:
        self.crew = FakeCrew()
        self.pool = pool_of({"b1": UP})
        self.reports = Reports(cast(Crew, self.crew), {"web": self.pool})

    def refresh(self, *told: dict[str, Any]) -> None:
        self.crew.told = dict(enumerate(told))
        run(self.reports.refresh())

    def total(self, name: str) -> float:
        return sum(one.value for family in self.reports.families() for one in family.samples if one.name == name)


@pytest.fixture
def world() -> World:
    return World()


def report(requests: int, under_way: int = 0, **more: object) -> dict[str, Any]:
    samples = [["requests_total", {"listener": "web"}, float(requests)]]
    return {
        "families": [{"name": "requests", "text": "Requests.", "type": "counter", "samples": samples}],
        "suspects": {"suspects": [{"time": f"2026-01-01T00:00:{requests:02}"}]},
        "backends": [["web", "b1", under_way, requests]],
        **more,
    }


def test_numbers_are_added_up_and_the_newest_suspects_come_first(world: World) -> None:
    world.refresh(report(3, under_way=1), report(4, under_way=2))
    backend = world.pool.backends["b1"]
    assert world.total("requests_total") == 7
    assert (backend.requests, backend.active) == (7, 3)
    assert [one["time"][-2:] for one in cast("Any", world.reports.suspects()["suspects"])] == ["04", "03"]


def test_what_a_worker_that_is_gone_had_counted_still_counts(world: World) -> None:
    world.refresh(report(3, under_way=1), report(4))
    world.crew.seats[0].born_at = 2.0
    world.refresh(report(1), report(4))
    assert world.total("requests_total") == 8
    assert (world.pool.backends["b1"].requests, world.pool.backends["b1"].active) == (8, 0)


def test_workers_that_do_not_serve_are_missing(world: World) -> None:
    assert world.reports.missing == 0
    world.crew.seats[1].is_ready = False
    assert (world.reports.missing, world.total("mfalb_workers")) == (1, 1)


def test_workers_that_give_no_sign_of_life_are_silent_and_do_not_serve(world: World) -> None:
    world.crew.seats[1].unanswered = SILENT_AFTER - 1
    assert (world.reports.silent, world.total("mfalb_workers")) == (0, 2)
    world.crew.seats[1].unanswered = SILENT_AFTER
    assert (world.reports.silent, world.reports.missing) == (1, 0)
    assert (world.total("mfalb_workers"), world.total("mfalb_workers_silent")) == (1, 1)


def test_silences_and_kills_are_counted_by_place(world: World) -> None:
    world.crew.seats[1].silences, world.crew.seats[1].kills = 12, 1
    found = {
        (one.name, one.labels["worker"]): one.value
        for family in world.reports.families()
        for one in family.samples
        if one.name in ("mfalb_worker_silences_total", "mfalb_worker_kills_total")
    }
    assert found == {
        ("mfalb_worker_silences_total", "0"): 0,
        ("mfalb_worker_silences_total", "1"): 12,
        ("mfalb_worker_kills_total", "0"): 0,
        ("mfalb_worker_kills_total", "1"): 1,
    }


@pytest.mark.parametrize(
    "forged",
    [
        {},
        report(9, families=None),
        report(9, families=[{}]),
        report(9, families=[{"name": "x", "text": "", "type": "no type", "samples": []}]),
        report(9, families=[{"name": "x", "text": "", "type": "gauge", "samples": [["x", {}, "many"]]}]),
        report(9, families=[{"name": "x", "text": "", "type": "gauge", "samples": [["x", 5, 1.0]]}]),
        report(9, families=[{"name": "x", "text": "", "type": "gauge", "samples": [["x", {}, 10**400]]}]),
        report(9, backends=None),
        report(9, backends=[["web", "b1", 1]]),
        report(9, backends=[["web", "b1", "1", 2]]),
        report(9, backends=[[["web"], "b1", 1, 2]]),
        report(9, suspects=[]),
        report(9, suspects={"suspects": None}),
        report(9, suspects={"suspects": [{}]}),
        report(9, suspects={"suspects": [5]}),
    ],
)
def test_forged_numbers_are_ignored_and_counted_and_the_last_good_ones_stand(
    world: World, forged: dict[str, Any]
) -> None:
    world.refresh(report(3), report(4))
    world.refresh(forged, report(5))
    assert world.total("mfalb_control_messages_ignored_total") == 1
    assert world.total("requests_total") == 3 + 5
    assert world.pool.backends["b1"].requests == 3 + 5
    assert len(cast("Any", world.reports.suspects()["suspects"])) == 2
