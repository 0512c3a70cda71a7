"""Who had served for a while is replaced at once; those that die as soon as they start wait longer and longer."""

from __future__ import annotations

import pytest

from mfalb.balancer.supervisor import crew
from mfalb.balancer.supervisor.crew import Crew, Seat


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(crew, "monotonic", lambda: now[0])
    return now


def pauses(seat: Seat, clock: list[float], *lives_s: float) -> list[float]:
    """The pauses after workers that lived for so long, one after the other."""
    found = []
    for life_s in lives_s:
        seat.born_at = clock[0]
        clock[0] += life_s
        found.append(Crew._pause_s(seat))
    return found


def test_after_a_steady_life_there_is_no_pause(clock: list[float]) -> None:
    assert pauses(Seat(0), clock, 3.0, 5.0, 1000.0) == [0.0, 0.0, 0.0]


def test_the_first_quick_death_is_forgiven_and_then_pauses_double_up_to_a_bound(clock: list[float]) -> None:
    found = pauses(Seat(0), clock, *[0.5] * 12)
    assert found == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_a_steady_life_forgives_all_quick_deaths(clock: list[float]) -> None:
    assert pauses(Seat(0), clock, 0.5, 0.5, 0.5, 4.0, 0.5, 0.5) == [0.0, 0.1, 0.2, 0.0, 0.0, 0.1]


def test_a_worker_that_dies_every_five_seconds_never_waits(clock: list[float]) -> None:
    assert not any(pauses(Seat(0), clock, *[5.0] * 100))
