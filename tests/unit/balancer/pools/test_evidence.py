"""What a worker tells of its traffic: failures with their streaks, good answers only after failures."""

from __future__ import annotations

from typing import Any

import pytest
from unit.balancer.pools.pool_builder import pool_of

from mfalb.balancer.config.health_models import PassiveCheck
from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.ejection import LOCAL_SHORTAGE
from mfalb.balancer.pools.evidence import ReportedEvidence
from mfalb.balancer.pools.health_state import Health

UP = (Health.UP, AdminState.READY)
B1 = {"pool": "web", "backend": "b1"}


class Told:
    """A worker's evidence about b1 and b2, and what it said."""

    def __init__(self, passive: PassiveCheck | None) -> None:
        self.pool = pool_of({"b1": UP, "b2": UP}, passive=passive)
        self.words: list[dict[str, Any]] = []
        self.evidence = ReportedEvidence({"web": self.pool}, self.words.append)
        self.backend = self.pool.backends["b1"]


@pytest.fixture
def told() -> Told:
    return Told(PassiveCheck(failure_status=(503,)))


def test_each_failure_is_told_with_how_many_there_were_in_a_row(told: Told) -> None:
    told.evidence.failed(told.backend, "refused")
    told.evidence.answered(told.backend, 503)
    assert told.words == [
        {"kind": "failed", **B1, "reason": "refused", "streak": 1},
        {"kind": "failed", **B1, "status": 503, "streak": 2},
    ]


def test_a_good_answer_is_told_after_failures_only(told: Told) -> None:
    told.evidence.answered(told.backend, 200)
    assert told.words == []
    told.evidence.failed(told.backend, "refused")
    told.evidence.answered(told.backend, 200)
    told.evidence.answered(told.backend, 200)
    assert told.words[1:] == [{"kind": "good", **B1}]
    told.evidence.failed(told.backend, "refused")
    assert told.words[-1]["streak"] == 1


def test_a_streak_that_the_data_path_ended_by_itself_is_told_with_the_next_tick(told: Told) -> None:
    told.evidence.failed(told.backend, "refused")
    told.evidence.tick()
    assert len(told.words) == 1
    told.backend.consecutive_failures = 0
    told.evidence.tick()
    told.evidence.tick()
    assert told.words[1:] == [{"kind": "good", **B1}]


def test_a_shortage_of_ones_own_is_evidence_of_nothing(told: Told) -> None:
    told.evidence.failed(told.backend, LOCAL_SHORTAGE)
    assert told.words == []


def test_without_a_passive_check_there_are_no_streaks() -> None:
    told = Told(None)
    told.evidence.answered(told.backend, 503)
    told.evidence.failed(told.backend, "refused")
    told.evidence.answered(told.backend, 200)
    assert told.words == [{"kind": "failed", **B1, "reason": "refused", "streak": 0}]


def test_who_was_heard_is_told_once(told: Told) -> None:
    told.backend.last_reply_at = 5.0
    told.evidence.tick()
    told.evidence.tick()
    assert told.words == [{"kind": "replied", "heard": [["web", "b1", 5.0]]}]


def test_suspicions_and_refusals_are_told_at_once(told: Told) -> None:
    told.backend.suspected_at, told.backend.last_reply_at = 7.0, 3.0
    told.evidence.suspected(told.backend)
    told.evidence.refused(told.backend, "port_unreachable")
    assert told.words == [
        {"kind": "suspected", **B1, "suspected_at": 7.0, "replied_at": 3.0},
        {"kind": "refused", **B1, "reason": "port_unreachable"},
    ]
