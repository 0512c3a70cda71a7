"""Ejections: each row of what a failure leads to, and what holds whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import backend_config

from mfalb.balancer.config.health_models import Failure, HttpCheck, PassiveCheck
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.ejection import LOCAL_SHORTAGE, Shown, is_refusal
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool

RULE = PassiveCheck(consecutive_failures=3, ejection_time_s=30, max_ejection_time_s=100)
REASONS = {
    "connect_refused": Failure.REFUSED,
    "connect_timeout": Failure.REFUSED,
    "tls_failed": Failure.REFUSED,
    "reset": Failure.RESET,
    "closed_early": Failure.RESET,
    "stale": Failure.RESET,
    "silent": Failure.TIMEOUT,
    "http_syntax": Failure.GARBAGE,
    "header_bytes": Failure.GARBAGE,
}


def make_pool(*names: str, rule: PassiveCheck | None = RULE, is_probed: bool = False, **more: object) -> Pool:
    """A pool whose backends are up; those called b... are backups, z... have weight 0."""
    config = PoolConfig.model_validate(
        {
            "backends": tuple(
                backend_config(name, 0 if name.startswith("z") else 1, is_backup=name.startswith("b")) for name in names
            ),
            "health_check": HttpCheck(type="http", rise=1, fall=4) if is_probed else None,
            "passive_check": rule,
            **more,
        }
    )
    pool = Pool("web", config)
    if is_probed:
        for name in names:
            pool.observe(name, is_good=True, reason="test", now=0.0)
    return pool


def fail(pool: Pool, name: str, times: int, now: float = 10.0, reason: str = "reset") -> list[Shown]:
    return [pool.observe_failure(pool.backends[name], reason, now) for _ in range(times)]


def ejected(pool: Pool) -> set[str]:
    return {backend.name for backend in pool.backends.values() if backend.is_ejected}


def takers(pool: Pool) -> set[str]:
    return {backend.name for backend in (pool.pick() for _ in range(20)) if backend is not None}


def test_so_many_failures_in_a_row_eject_and_nothing_more_goes_there() -> None:
    pool = make_pool("m1", "m2")
    assert fail(pool, "m1", 3) == [Shown.NOTHING, Shown.NOTHING, Shown.EJECTED]
    assert takers(pool) == {"m2"}
    assert pool.pinned("m1") is None
    assert pool.agreed(bytes(16)) is pool.backends["m2"]
    assert pool.backends["m1"].health.health is Health.UP, "probes and operators have said nothing"
    assert pool.backends["m1"].admin_state is AdminState.READY
    assert [(change.at, change.backend, change.reason) for change in pool.changes] == [(10.0, "m1", "ejected: reset")]


def test_a_good_answer_between_them_begins_the_count_anew() -> None:
    pool = make_pool("m1", "m2")
    fail(pool, "m1", 2)
    assert pool.observe_status(pool.backends["m1"], 500, 10.0) is Shown.NOTHING
    assert fail(pool, "m1", 2) == [Shown.NOTHING] * 2
    pool.backends["m1"].consecutive_failures = 0  # what the data path does with every answer below 500
    assert fail(pool, "m1", 3)[-1] is Shown.EJECTED


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("counted", Failure)
def test_a_failure_counts_if_its_kind_is_named(reason: str, counted: Failure) -> None:
    pool = make_pool("m1", "m2", rule=PassiveCheck(consecutive_failures=1, failures=(counted,)))
    expected = Shown.EJECTED if REASONS[reason] is counted else Shown.NOTHING
    assert fail(pool, "m1", 1, reason=reason) == [expected]
    assert is_refusal(reason) is (REASONS[reason] is Failure.REFUSED)


@pytest.mark.parametrize(("status", "is_failure"), [(500, False), (501, False), (502, True), (503, True), (504, True)])
def test_an_answer_counts_by_its_status(status: int, *, is_failure: bool) -> None:
    pool = make_pool("m1", "m2")
    shown = [pool.observe_status(pool.backends["m1"], status, 1.0) for _ in range(3)]
    assert shown[-1] is (Shown.EJECTED if is_failure else Shown.NOTHING)
    assert pool.backends["m1"].consecutive_failures == (3 if is_failure else 0)
    if is_failure:
        assert pool.changes[-1].reason == f"ejected: status_{status}"


def test_a_lack_of_our_own_says_nothing_about_a_backend() -> None:
    pool = make_pool("m1", "m2", is_probed=True)
    assert set(fail(pool, "m1", 20, reason=LOCAL_SHORTAGE)) == {Shown.NOTHING}
    backend = pool.backends["m1"]
    assert (backend.failures, backend.consecutive_failures, backend.health.streak) == (0, 0, 0)


def test_without_a_rule_traffic_ejects_nobody() -> None:
    pool = make_pool("m1", "m2", rule=None)
    assert set(fail(pool, "m1", 50)) == {Shown.NOTHING}
    assert pool.observe_status(pool.backends["m1"], 503, 1.0) is Shown.NOTHING
    assert takers(pool) == {"m1", "m2"}


def test_each_ejection_soon_after_another_lasts_twice_as_long_up_to_the_longest() -> None:
    pool, now, times = make_pool("m1", "m2"), 1000.0, []
    backend = pool.backends["m1"]
    for _ in range(4):
        assert fail(pool, "m1", 3, now)[-1] is Shown.EJECTED
        times.append(backend.ejected_until - now)
        assert pool.tick(backend.ejected_until - 0.01) == []
        now = backend.ejected_until
        assert pool.tick(now) == [backend]
        assert backend.consecutive_failures == 0
    assert times == [30, 60, 100, 100]
    assert backend.ejections == 4
    now += 100.0  # so long it was in service: at the very end it is not forgotten yet
    fail(pool, "m1", 3, now)
    assert backend.ejected_until - now == 100
    now = backend.ejected_until
    pool.tick(now)
    fail(pool, "m1", 3, now + 100.1)
    assert backend.ejected_until - (now + 100.1) == pytest.approx(30)


def test_an_ejection_of_a_backend_that_fails_for_days_is_still_of_the_longest_time() -> None:
    pool, now = make_pool("m1", "m2"), 0.0
    for _ in range(3000):
        fail(pool, "m1", 3, now)
        now = pool.backends["m1"].ejected_until
        pool.tick(now)
    assert now == 30 + 60 + 2998 * 100


def test_a_good_probe_does_not_bring_an_ejected_backend_back_before_its_time() -> None:
    pool = make_pool("m1", "m2", is_probed=True)
    fail(pool, "m1", 3)
    for now in (11.0, 20.0, 39.9):
        pool.observe("m1", is_good=True, reason="status 200", now=now)
        assert pool.tick(now) == []
        assert takers(pool) == {"m2"}
    assert [backend.name for backend in pool.tick(40.0)] == ["m1"]
    assert takers(pool) == {"m1", "m2"}


def test_a_backend_that_is_down_when_its_ejection_ends_stays_down() -> None:
    pool = make_pool("m1", "m2", is_probed=True)
    fail(pool, "m1", 3)
    for _ in range(4):
        pool.observe("m1", is_good=False, reason="timeout", now=20.0)
    assert [backend.name for backend in pool.tick(40.0)] == ["m1"]
    assert takers(pool) == {"m2"}


def test_refusals_still_count_against_rise_and_fall_and_who_is_down_is_not_ejected_as_well() -> None:
    rule = PassiveCheck(consecutive_failures=4)
    pool = make_pool("m1", "m2", rule=rule, is_probed=True)
    shown = fail(pool, "m1", 6, reason="connect_refused")
    assert shown == [Shown.NOTHING] * 3 + [Shown.DOWN] + [Shown.NOTHING] * 2
    assert pool.backends["m1"].health.health is Health.DOWN
    assert ejected(pool) == set()
    assert pool.backends["m1"].failures == 6


def test_what_came_after_a_request_was_sent_says_nothing_to_rise_and_fall() -> None:
    pool = make_pool("m1", "m2", rule=PassiveCheck(consecutive_failures=100), is_probed=True)
    fail(pool, "m1", 50, reason="silent")
    assert pool.backends["m1"].health.streak == 0
    assert pool.backends["m1"].is_up


def test_failures_of_what_was_under_way_do_not_lengthen_an_ejection() -> None:
    pool = make_pool("m1", "m2")
    fail(pool, "m1", 3, 10.0)
    assert fail(pool, "m1", 30, 35.0) == [Shown.NOTHING] * 30
    assert pool.backends["m1"].ejected_until == 40.0
    assert pool.backends["m1"].consecutive_failures == 3, "the page tells of those that led to it"
    pool.tick(40.0)
    assert fail(pool, "m1", 2, 41.0) == [Shown.NOTHING] * 2


def test_the_last_one_that_takes_new_work_is_never_ejected() -> None:
    assert set(fail(make_pool("m1"), "m1", 20)) == {Shown.NOTHING}
    pool = make_pool("m1", "m2", "m3", "m4", rule=RULE.model_copy(update={"ejection_limit": 1.0}))
    for name in ("m1", "m2", "m3"):
        assert fail(pool, name, 3)[-1] is Shown.EJECTED
    assert set(fail(pool, "m4", 20)) == {Shown.NOTHING}
    assert takers(pool) == {"m4"}


def _in_maint(pool: Pool) -> None:
    pool.set_admin_state("m2", AdminState.MAINT, 0.0)


def _draining(pool: Pool) -> None:
    pool.set_admin_state("m2", AdminState.DRAIN, 0.0)


def _down(pool: Pool) -> None:
    for _ in range(4):
        pool.observe("m2", is_good=False, reason="test", now=1.0)


@pytest.mark.parametrize("away", [_in_maint, _draining, _down])
def test_it_is_the_last_one_when_the_others_are_away(away: Callable[[Pool], None]) -> None:
    pool = make_pool("m1", "m2", is_probed=True)
    away(pool)
    assert set(fail(pool, "m1", 20)) == {Shown.NOTHING}
    assert takers(pool) == {"m1"}


def test_a_backup_may_stand_in_and_a_backend_for_pinned_work_may_not() -> None:
    assert fail(make_pool("m1", "b1"), "m1", 3)[-1] is Shown.EJECTED
    assert fail(make_pool("m1", "z1"), "m1", 3)[-1] is Shown.NOTHING


@pytest.mark.parametrize("away", [_in_maint, _down])
def test_when_nobody_else_is_left_ejected_ones_come_back_at_once(away: Callable[[Pool], None]) -> None:
    pool = make_pool("m1", "m2", is_probed=True)
    fail(pool, "m1", 3)
    away(pool)
    assert takers(pool) == {"m1"}
    assert [backend.name for backend in pool.tick(11.0)] == ["m1"], "it is told of once"
    assert pool.tick(12.0) == []


def test_a_draining_server_is_enough_to_leave_ejected_ones_out() -> None:
    pool = make_pool("m1", "m2")
    fail(pool, "m1", 3)
    _draining(pool)
    assert takers(pool) == {"m2"}


def test_who_is_down_as_well_does_not_come_back_in_need() -> None:
    pool = make_pool("m1", "m2", is_probed=True)
    fail(pool, "m1", 3)
    for name in ("m1", "m2"):
        for _ in range(4):
            pool.observe(name, is_good=False, reason="test", now=20.0)
    assert ejected(pool) == {"m1"}
    assert takers(pool) == set()


def test_an_ejected_backend_counts_as_down_for_panic_and_begins_slowly_when_it_is_back() -> None:
    pool = make_pool("m1", "m2", panic_threshold=0.6, slow_start_s=10)
    fail(pool, "m1", 3)
    assert pool.is_panicking
    assert takers(pool) == {"m1", "m2"}
    pool.tick(40.0)
    assert not pool.is_panicking
    assert pool.backends["m1"].share == pytest.approx(0.05)


@dataclass(frozen=True)
class Step:
    """Something that happens to a backend after some seconds."""

    name: str
    act: str
    seconds: float


def _do(pool: Pool, step: Step, now: float) -> Shown:
    backend = pool.backends[step.name]
    match step.act:
        case "reset" | "connect_refused" | "silent":
            return pool.observe_failure(backend, step.act, now)
        case "503":
            return pool.observe_status(backend, 503, now)
        case "good":
            backend.consecutive_failures = 0
        case "probe good" | "probe bad":
            pool.observe(step.name, is_good=step.act == "probe good", reason="test", now=now)
        case state:
            pool.set_admin_state(step.name, AdminState(state), now)
    return Shown.NOTHING


ACTS = ["reset", "connect_refused", "silent", "503", "good", "probe good", "probe bad", "ready", "drain", "maint"]
FAILING = ["reset"] * 4 + ACTS


def steps(names: list[str]) -> st.SearchStrategy[list[Step]]:
    step = st.builds(Step, st.sampled_from(names), st.sampled_from(FAILING), st.sampled_from([0.0, 0.3, 5.0]))
    return st.lists(step, max_size=60)


POOLS = [["m1", "m2"], ["m1", "b1"], ["m1", "m2", "z1"], ["m1", "m2", "m3", "m4", "b1", "z1"]]


def _could_serve(backend: Backend) -> bool:
    """Whether it could take work if traffic had shown nothing."""
    return backend.health.health is Health.UP and backend.weight > 0 and backend.admin_state is not AdminState.MAINT


@given(
    data=st.data(), names=st.sampled_from(POOLS), limit=st.sampled_from([0.2, 0.34, 0.5, 1.0]), is_probed=st.booleans()
)
@settings(max_examples=300)
def test_never_more_than_the_limit_are_out_and_never_the_last_one(
    data: st.DataObject, names: list[str], limit: float, is_probed: bool
) -> None:
    rule = PassiveCheck(consecutive_failures=2, ejection_time_s=3, max_ejection_time_s=10, ejection_limit=limit)
    pool, now = make_pool(*names, rule=rule, is_probed=is_probed), 0.0
    for step in data.draw(steps(names)):
        if not is_probed and step.act.startswith("probe"):
            continue
        now += step.seconds
        before = _states(pool)
        shown = _do(pool, step, now)
        if shown is Shown.EJECTED:
            assert any(one.takes_new for one in pool.backends.values())
        pool.tick(now)
        out = ejected(pool)
        assert len(out) <= limit * len(names)
        assert all(pool.backends[name].ejected_until > now for name in out)
        assert (shown is Shown.EJECTED) is (_states(pool)[step.name] and not before[step.name])
        if any(_could_serve(one) for one in pool.backends.values()):
            assert pool.pick() is not None
        assert not takers(pool) & out
        assert all(pool.pinned(name) is None for name in out)


def _states(pool: Pool) -> Mapping[str, bool]:
    return {name: backend.is_ejected for name, backend in pool.backends.items()}
