"""What several workers saw is scored as if one had seen it all; nonsense of a worker's scores nothing."""

from __future__ import annotations

from typing import Any

import pytest
from unit.balancer.pools.pool_builder import pool_of

from mfalb.balancer.config.health_models import PassiveCheck
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.supervisor.evidence import EvidenceDesk

UP = (Health.UP, AdminState.READY)
B1 = {"pool": "web", "backend": "b1"}


@pytest.fixture
def desk() -> EvidenceDesk:
    passive = PassiveCheck(consecutive_failures=4)
    return EvidenceDesk({"web": pool_of({"b1": UP, "b2": UP, "b3": UP}, passive=passive)})


@pytest.fixture
def backend(desk: EvidenceDesk) -> Backend:
    return desk.pools["web"].backends["b1"]


def fail(desk: EvidenceDesk, worker: int, streak: int) -> None:
    assert desk.take_untrusted(worker, {"kind": "failed", **B1, "reason": "broken", "streak": streak})


def test_failures_at_several_workers_are_one_streak(desk: EvidenceDesk, backend: Backend) -> None:
    for worker, streak in ((0, 1), (1, 1), (0, 2)):
        fail(desk, worker, streak)
    assert (backend.consecutive_failures, backend.is_ejected) == (3, False)
    fail(desk, 2, 1)
    assert backend.is_ejected


def test_a_good_answer_at_any_worker_ends_it(desk: EvidenceDesk, backend: Backend) -> None:
    fail(desk, 0, 1)
    fail(desk, 0, 2)
    assert desk.take_untrusted(1, {"kind": "good", **B1})
    assert backend.consecutive_failures == 0
    fail(desk, 0, 3)
    assert backend.consecutive_failures == 1


def test_a_streak_that_begins_anew_had_a_good_answer_before_it(desk: EvidenceDesk, backend: Backend) -> None:
    fail(desk, 0, 1)
    fail(desk, 1, 1)
    fail(desk, 0, 1)
    assert backend.consecutive_failures == 1


def test_the_latest_reply_and_each_suspicion_count(desk: EvidenceDesk, backend: Backend) -> None:
    suspicions: list[float] = []
    backend.on_suspicion = lambda: suspicions.append(backend.suspected_at)
    assert desk.take_untrusted(0, {"kind": "replied", "heard": [["web", "b1", 9.0], ["web", "b9", 1.0]]})
    assert desk.take_untrusted(1, {"kind": "replied", "heard": [["web", "b1", 8.0], ["none", "b1", 10.0]]})
    assert desk.take_untrusted(1, {"kind": "suspected", **B1, "suspected_at": 12.0, "replied_at": 3.0})
    assert (backend.last_reply_at, suspicions) == (9.0, [12.0])


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"kind": "good"},
        {"kind": "good", "pool": "web", "backend": "b9"},
        {"kind": "good", "pool": ["web"], "backend": "b1"},
        {"kind": "better", **B1},
        {"kind": "failed", **B1, "streak": 1},
        {"kind": "failed", **B1, "reason": "broken", "streak": "many"},
        {"kind": "suspected", **B1, "suspected_at": None, "replied_at": 1.0},
        {"kind": "suspected", **B1, "suspected_at": 1.0, "replied_at": 10**400},
        {"kind": "failed", **B1, "reason": "broken", "streak": float("inf")},
        {"kind": "replied", "heard": 5},
        {"kind": "replied", "heard": [["web"]]},
    ],
)
def test_nonsense_is_told_apart_and_scores_nothing(desk: EvidenceDesk, backend: Backend, words: dict[str, Any]) -> None:
    assert not desk.take_untrusted(0, words)
    assert backend.consecutive_failures == 0
    assert all(one.is_up for one in desk.pools["web"].backends.values())
