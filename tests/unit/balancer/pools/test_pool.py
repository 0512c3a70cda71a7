from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import State, backend_config, pool_of, states, watched_pool

from mfalb.balancer.config.balancing_models import Algorithm, HashOfRequest
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import CHANGES_KEPT, Change, Pool
from mfalb.balancer.pools.watchdog import Ask, Event, Moment, Phase

READY = (Health.UP, AdminState.READY)
DRAINING = (Health.UP, AdminState.DRAIN)
NAMES = ("a", "b", "c", "d")

pools = st.lists(states, min_size=1, max_size=4).map(lambda found: dict(zip(NAMES, found, strict=False)))
tried_sets = st.frozensets(st.sampled_from(NAMES))


def allowed(states_by_name: dict[str, State], tried: frozenset[str]) -> set[str | None]:
    """Those who may take new work by the order of last resort; None alone when nobody may."""
    for wanted in (READY, DRAINING):
        found: set[str | None] = {
            name for name, state in states_by_name.items() if state == wanted and name not in tried
        }
        if found:
            return found
    return {None}


def name_of(backend: Backend | None) -> str | None:
    return None if backend is None else backend.name


@given(pools, tried_sets)
@settings(max_examples=100)
def test_new_work_goes_to_those_up_and_ready_then_up_and_draining_then_nobody(
    states_by_name: dict[str, State], tried: frozenset[str]
) -> None:
    pool = pool_of(states_by_name)
    assert {name_of(pool.pick(tried)) for _ in range(8)} == allowed(states_by_name, tried)


@given(pools)
@settings(max_examples=100)
def test_a_retry_on_each_failure_reaches_everyone_who_is_up_and_in_service(states_by_name: dict[str, State]) -> None:
    pool = pool_of(states_by_name)
    tried: list[str] = []
    while (backend := pool.pick(frozenset(tried))) is not None:
        tried.append(backend.name)
    assert len(tried) == len(set(tried))
    ready = [name for name in tried if states_by_name[name] == READY]
    assert tried[: len(ready)] == ready  # those draining come last
    assert set(tried) == {name for name, state in states_by_name.items() if state in (READY, DRAINING)}


@pytest.mark.parametrize("health", Health)
@pytest.mark.parametrize("admin_state", AdminState)
def test_pinned_work_goes_on_unless_its_backend_is_down_unknown_gone_or_in_maint(
    health: Health, admin_state: AdminState
) -> None:
    pool = pool_of({"a": (health, admin_state), "b": READY})
    expected = "a" if health is Health.UP and admin_state is not AdminState.MAINT else None
    assert name_of(pool.pinned("a")) == expected
    assert pool.pinned("gone") is None


@given(pools, st.binary(min_size=16, max_size=16))
@settings(max_examples=100)
def test_work_whose_pin_is_not_known_goes_where_every_node_agrees_it_may_go_on(
    states_by_name: dict[str, State], key: bytes
) -> None:
    chosen = name_of(pool_of(states_by_name).agreed(key))
    candidates = {name for name, state in states_by_name.items() if state in (READY, DRAINING)}
    assert (chosen in candidates) if candidates else chosen is None
    assert name_of(pool_of(dict(reversed(states_by_name.items()))).agreed(key)) == chosen


def test_health_changes_move_the_turns_at_once() -> None:
    pool = pool_of({"a": READY, "b": READY, "c": (Health.UNKNOWN, AdminState.READY)})
    assert pool.observe("c", is_good=True, reason="200", now=1.0)
    assert Counter(name_of(pool.pick()) for _ in range(9)) == {"a": 3, "b": 3, "c": 3}
    assert [pool.observe_refusal(pool.backends["a"], "refused", now=2.0) for _ in range(3)] == [False, False, True]
    assert pool.backends["a"].failures == 3
    assert Counter(name_of(pool.pick()) for _ in range(8)) == {"b": 4, "c": 4}
    assert [pool.observe("a", is_good=True, reason="200", now=3.0) for _ in range(2)] == [False, True]
    assert Counter(name_of(pool.pick()) for _ in range(9)) == {"a": 3, "b": 3, "c": 3}


def test_an_operators_word_moves_the_turns_at_once_and_does_not_touch_health() -> None:
    pool = pool_of({"a": READY, "b": READY})
    pool.set_admin_state("a", AdminState.DRAIN, 0.0)
    assert [name_of(pool.pick()) for _ in range(3)] == ["b", "b", "b"]
    assert name_of(pool.pinned("a")) == "a"
    pool.set_admin_state("b", AdminState.MAINT, 0.0)
    assert [name_of(pool.pick()) for _ in range(3)] == ["a", "a", "a"]
    assert pool.backends["b"].is_up
    pool.set_admin_state("b", AdminState.READY, 0.0)
    assert [name_of(pool.pick()) for _ in range(3)] == ["b", "b", "b"]


def test_weights_count_among_those_who_take_new_work() -> None:
    pool = pool_of({"a": READY, "b": READY, "c": READY}, weights=[3, 1, 2])
    assert Counter(name_of(pool.pick()) for _ in range(12)) == {"a": 6, "b": 2, "c": 4}
    pool.set_admin_state("c", AdminState.DRAIN, 0.0)
    assert Counter(name_of(pool.pick()) for _ in range(12)) == {"a": 9, "b": 3}


def test_a_pool_without_health_checks_takes_all_for_up_whatever_traffic_meets() -> None:
    pool = Pool("web", PoolConfig(backends=(backend_config("a"), backend_config("b"))))
    for _ in range(10):
        assert not pool.observe_refusal(pool.backends["a"], "refused", now=1.0)
    assert {name_of(pool.pick()) for _ in range(2)} == {"a", "b"}


def test_a_dead_backend_that_nobody_probes_burdens_all_others_alike() -> None:
    pool = Pool("web", PoolConfig(backends=tuple(backend_config(name) for name in NAMES)))
    served: Counter[str | None] = Counter()
    for _ in range(120):
        first = pool.pick()
        assert first is not None
        served[first.name if first.name != "a" else name_of(pool.pick(frozenset("a")))] += 1
    assert served == {"b": 40, "c": 40, "d": 40}


def watched(pool: Pool, name: str, *events: tuple[Event, float]) -> Backend:
    """The backend after these events, each with its time."""
    backend = pool.backends[name]
    for event, now in events:
        pool.watch(backend, event, Moment(now, backend.last_reply_at), "no answer")
    return backend


def expire(pool: Pool, backend: Backend, times: int) -> None:
    """Let the watchdog's timer run out so often; nothing comes from the backend."""
    assert backend.watchdog is not None
    for _ in range(times):
        now = max(backend.watchdog.expires_at, 1.0)
        pool.watch(backend, Event.EXPIRED, Moment(now, backend.last_reply_at), "no answer")


def test_only_pools_that_are_checked_by_radius_have_watchdogs() -> None:
    assert watched_pool("a").backends["a"].watchdog is not None
    unwatched = pool_of({"a": READY})
    assert unwatched.backends["a"].watchdog is None
    with pytest.raises(ValueError, match="no watchdog"):
        unwatched.watch(unwatched.backends["a"], Event.EXPIRED, Moment(0.0), "")


def test_d5_health_and_the_turns_follow_the_watchdog_s_verdicts() -> None:
    pool = watched_pool("a", "b")
    assert pool.pick() is None
    a = watched(pool, "a", (Event.EXPIRED, 1.0), (Event.ANSWERED, 1.1))
    assert (a.is_up, a.health.reason, a.health.changed_at) == (True, "ok", 1.1)
    assert [name_of(pool.pick()) for _ in range(2)] == ["a", "a"]
    watched(pool, "b", (Event.EXPIRED, 1.0), (Event.ANSWERED, 1.1))
    expire(pool, a, 5)
    assert (a.is_up, a.health.reason) == (False, "no answer")
    assert [name_of(pool.pick()) for _ in range(2)] == ["b", "b"]


def test_d5_the_way_back_is_told_as_a_reason() -> None:
    pool = watched_pool("a")
    a = pool.backends["a"]
    expire(pool, a, 5)
    watched(pool, "a", (Event.ANSWERED, 5.1))
    assert (a.is_up, a.health.reason) == (False, "1 of 3 probes answered")
    expire(pool, a, 1)
    watched(pool, "a", (Event.ANSWERED, 35.1))
    assert a.health.reason == "2 of 3 probes answered"
    expire(pool, a, 2)
    assert a.health.reason == "no answer"


def test_d5_refusals_that_traffic_meets_reach_the_watchdog_at_once() -> None:
    pool = watched_pool("a", "b", fall=2)
    for name in ("a", "b"):
        watched(pool, name, (Event.EXPIRED, 1.0), (Event.ANSWERED, 1.1))
    a, woken = pool.backends["a"], list[str]()
    a.on_suspicion = lambda: woken.append("a")
    assert not pool.observe_refusal(a, "port_unreachable", 2.0)
    assert pool.observe_refusal(a, "port_unreachable", 2.0)
    assert (a.is_up, a.health.reason, a.failures) == (False, "port_unreachable", 2)
    assert woken == ["a", "a"], "its timer stands elsewhere now"
    assert not pool.observe_refusal(a, "port_unreachable", 2.1)
    assert [name_of(pool.pick()) for _ in range(2)] == ["b", "b"]


def test_d4_a_reply_between_two_refusals_starts_the_count_afresh() -> None:
    pool = watched_pool("a", fall=2)
    a = watched(pool, "a", (Event.EXPIRED, 1.0), (Event.ANSWERED, 1.1))
    for now in (2.0, 3.0, 4.0):
        assert not pool.observe_refusal(a, "port_unreachable", now)
        a.last_reply_at = now + 0.5
    assert a.is_up


def test_d4_a_suspicion_asks_and_never_judges() -> None:
    pool = watched_pool("a")
    a = watched(pool, "a", (Event.EXPIRED, 1.0), (Event.ANSWERED, 1.1), (Event.SUSPECTED, 8.0))
    assert a.is_up
    assert pool.watch(a, Event.EXPIRED, Moment(8.0), "").ask is Ask.ALSO
    assert a.is_up
    assert a.watchdog is not None
    assert a.watchdog.phase is Phase.SUSPECT


def test_each_change_of_health_is_kept_with_its_reason() -> None:
    pool = pool_of({"a": (Health.UNKNOWN, AdminState.READY), "b": (Health.UNKNOWN, AdminState.READY)})
    pool.observe("a", is_good=True, reason="ok", now=1.0)
    pool.observe("a", is_good=True, reason="ok", now=2.0)
    pool.observe("b", is_good=False, reason="timeout", now=3.0)
    assert list(pool.changes) == [Change(1.0, "a", Health.UP, "ok"), Change(3.0, "b", Health.DOWN, "timeout")]


def test_the_table_of_changes_has_a_limit() -> None:
    pool = watched_pool("a", rise=1, fall=1)
    now = 1.0
    for _ in range(CHANGES_KEPT + 5):
        a = watched(pool, "a", (Event.EXPIRED, now), (Event.ANSWERED, now + 1), (Event.REFUSED, now + 2))
        assert a.watchdog is not None
        now = a.watchdog.expires_at
    assert len(pool.changes) == CHANGES_KEPT
    assert pool.changes[-1] == Change(pool.changes[-1].at, "a", Health.DOWN, "no answer")
    assert pool.changes[0].at > 30


def pool_by(algorithm: Algorithm, weights: list[int]) -> Pool:
    by = HashOfRequest(key="source") if algorithm is Algorithm.HASH else None
    backends = tuple(backend_config(f"b{index}", weight) for index, weight in enumerate(weights))
    return Pool("web", PoolConfig(algorithm=algorithm, hash=by, backends=backends), lambda: 0.5)


@given(
    st.sampled_from([Algorithm.ROUND_ROBIN, Algorithm.LEAST_CONNECTIONS, Algorithm.HASH]),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.lists(st.sampled_from([b"", b"10.0.0.1", b"10.0.0.2"]), min_size=1, max_size=12),
)
@settings(max_examples=150)
def test_a_peek_tells_whom_a_pick_will_give_and_takes_nobody_s_turn(
    algorithm: Algorithm, weights: list[int], keys: list[bytes]
) -> None:
    pool, never_looked_at = pool_by(algorithm, weights), pool_by(algorithm, weights)
    for key in keys:
        expected = [name_of(pool.peek(key)) for _ in range(3)]
        picked = pool.pick(key=key)
        assert expected == [name_of(picked)] * 3
        assert name_of(picked) == name_of(never_looked_at.pick(key=key))
        for one in (picked, never_looked_at.backends.get(name_of(picked) or "")):
            if one is not None:
                one.active += 1


def test_what_chance_decides_cannot_be_told_beforehand() -> None:
    pool = pool_by(Algorithm.POWER_OF_TWO, [1, 1])
    assert pool.peek() is None
    assert [one.name for one in pool.candidates] == ["b0", "b1"]
    pool.set_admin_state("b0", AdminState.DRAIN, 1.0)
    assert name_of(pool.peek()) == "b1"
    assert [one.name for one in pool.candidates] == ["b1"]


def test_a_weight_set_at_run_time_changes_the_turns_at_once_and_0_takes_none() -> None:
    pool = pool_of({"a": READY, "b": READY})
    pool.set_weight("a", 3)
    assert Counter(name_of(pool.pick()) for _ in range(8)) == {"a": 6, "b": 2}
    assert pool.backends["a"].share == 1.0
    pool.set_weight("a", 0)
    assert Counter(name_of(pool.pick()) for _ in range(8)) == {"b": 8}
    assert name_of(pool.pinned("a")) == "a"
    pool.set_weight("a", 1)
    assert Counter(name_of(pool.pick()) for _ in range(8)) == {"a": 4, "b": 4}


def test_a_slow_start_goes_on_from_its_step_when_the_weight_changes() -> None:
    config = PoolConfig(backends=(backend_config("a", 2), backend_config("b", 2)), slow_start_s=20.0)
    pool = Pool("web", config)
    pool.set_admin_state("a", AdminState.MAINT, 0.0)
    pool.set_admin_state("a", AdminState.READY, 0.0)
    pool.tick(10.0)
    assert pool.backends["a"].share == 0.5
    pool.set_weight("a", 4)
    assert pool.backends["a"].share == 0.5
    pool.tick(20.0)
    assert pool.backends["a"].share == 1.0
