from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import State, backend_config, pool_of, states

from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool

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
    pool.set_admin_state("a", AdminState.DRAIN)
    assert [name_of(pool.pick()) for _ in range(3)] == ["b", "b", "b"]
    assert name_of(pool.pinned("a")) == "a"
    pool.set_admin_state("b", AdminState.MAINT)
    assert [name_of(pool.pick()) for _ in range(3)] == ["a", "a", "a"]
    assert pool.backends["b"].is_up
    pool.set_admin_state("b", AdminState.READY)
    assert [name_of(pool.pick()) for _ in range(3)] == ["b", "b", "b"]


def test_weights_count_among_those_who_take_new_work() -> None:
    pool = pool_of({"a": READY, "b": READY, "c": READY}, weights=[3, 1, 2])
    assert Counter(name_of(pool.pick()) for _ in range(12)) == {"a": 6, "b": 2, "c": 4}
    pool.set_admin_state("c", AdminState.DRAIN)
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
