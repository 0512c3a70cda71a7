"""Backups, panic and slow starts: who takes new work when not all is well."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import State, backend_config, states, watched_pool

from mfalb.balancer.config.balancing_models import Algorithm, HashOfRequest
from mfalb.balancer.config.health_models import TcpCheck
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.pools.watchdog import Event, Moment

READY = (Health.UP, AdminState.READY)
DOWN = (Health.DOWN, AdminState.READY)
UNKNOWN = (Health.UNKNOWN, AdminState.READY)
DRAINING = (Health.UP, AdminState.DRAIN)
MAINT = (Health.UP, AdminState.MAINT)
ALGORITHMS = {
    Algorithm.ROUND_ROBIN: {},
    Algorithm.LEAST_CONNECTIONS: {},
    Algorithm.POWER_OF_TWO: {},
    Algorithm.HASH: {"hash": HashOfRequest(key="source")},
}
by_names = st.dictionaries(st.sampled_from(["m1", "m2", "m3", "b1", "b2", "z1"]), states, min_size=1)


def make_pool(
    states_by_name: Mapping[str, State], algorithm: Algorithm = Algorithm.ROUND_ROBIN, **more: float | None
) -> Pool:
    """Backends in these states, found at second 0; those called b... are backups, z... have weight 0."""
    config = PoolConfig.model_validate(
        {
            "backends": tuple(
                backend_config(name, 0 if name.startswith("z") else 1, is_backup=name.startswith("b"))
                for name in states_by_name
            ),
            "health_check": TcpCheck(type="tcp", rise=1, fall=1),
            "algorithm": algorithm,
            **ALGORITHMS[algorithm],
            **more,
        }
    )
    draws = iter(number * 0.618 % 1 for number in range(1000))
    pool = Pool("web", config, lambda: next(draws))
    for name, (health, admin_state) in states_by_name.items():
        if health is not Health.UNKNOWN:
            pool.observe(name, is_good=health is Health.UP, reason="test", now=0.0)
        pool.set_admin_state(name, admin_state, 0.0)
    return pool


def takers(pool: Pool, tried: frozenset[str] = frozenset()) -> set[str]:
    """Everyone who is given new work, over many picks and keys."""
    picked = [pool.pick(tried, b"key%d" % number) for number in range(60)]
    return {backend.name for backend in picked if backend is not None}


def turn_down(pool: Pool, name: str, now: float = 1.0) -> None:
    pool.observe(name, is_good=False, reason="test", now=now)


def turn_up(pool: Pool, name: str, now: float = 2.0) -> None:
    pool.observe(name, is_good=True, reason="test", now=now)


# -------------------------------------------------------------------------------------------- backups


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(
    ("states_by_name", "expected"),
    [
        ({"m1": READY, "m2": READY, "b1": READY}, {"m1", "m2"}),
        ({"m1": DOWN, "m2": READY, "b1": READY}, {"m2"}),
        ({"m1": DOWN, "m2": DOWN, "b1": READY, "b2": READY}, {"b1", "b2"}),
        ({"m1": DRAINING, "m2": DOWN, "b1": READY}, {"b1"}),
        ({"m1": MAINT, "b1": DOWN, "b2": READY}, {"b2"}),
        ({"m1": DRAINING, "b1": DRAINING}, {"m1"}),
        ({"m1": DOWN, "b1": DRAINING}, {"b1"}),
        ({"m1": UNKNOWN, "b1": DOWN}, set()),
        ({"m1": DOWN, "b1": DOWN, "z1": READY}, set()),
        ({"m1": READY, "z1": READY}, {"m1"}),
    ],
)
def test_backups_work_only_while_no_other_can_and_weight_0_never_gets_new_work(
    algorithm: Algorithm, states_by_name: dict[str, State], expected: set[str]
) -> None:
    assert takers(make_pool(states_by_name, algorithm)) == expected


def test_work_that_a_backup_began_goes_on_there_when_the_others_are_back() -> None:
    pool = make_pool({"m1": DOWN, "b1": READY})
    assert takers(pool) == {"b1"}
    turn_up(pool, "m1")
    assert takers(pool) == {"m1"}
    assert pool.pinned("b1") is pool.backends["b1"]


def test_pinned_work_goes_on_at_a_backend_of_weight_0() -> None:
    pool = make_pool({"m1": READY, "z1": READY})
    assert pool.pinned("z1") is pool.backends["z1"]
    assert {pool.agreed(b"key%d" % number) for number in range(60)} == set(pool.backends.values())


def test_a_retry_comes_to_the_backups_after_all_others() -> None:
    pool = make_pool({"m1": READY, "m2": READY, "b1": READY})
    assert takers(pool, frozenset(("m1",))) == {"m2"}
    assert takers(pool, frozenset(("m1", "m2"))) == {"b1"}
    assert takers(pool, frozenset(("m1", "m2", "b1"))) == set()


# ---------------------------------------------------------------------------------------------- panic


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(
    ("states_by_name", "threshold", "expected"),
    [
        ({"m1": READY, "m2": DOWN, "m3": DOWN}, None, {"m1"}),
        ({"m1": READY, "m2": DOWN, "m3": DOWN}, 0.5, {"m1", "m2", "m3"}),
        ({"m1": READY, "m2": DOWN, "m3": DOWN}, 0.3, {"m1"}),
        ({"m1": READY, "m2": DOWN}, 0.5, {"m1"}),
        ({"m1": DOWN, "m2": DOWN}, 0.5, {"m1", "m2"}),
        ({"m1": READY, "m2": DOWN, "m3": DOWN, "b1": READY}, 0.5, {"m1", "m2", "m3"}),
        ({"m1": DOWN, "m2": DOWN, "b1": READY}, 0.5, {"b1"}),
        ({"m1": DOWN, "m2": DRAINING}, 0.5, {"m2"}),
        ({"m1": DOWN, "m2": (Health.DOWN, AdminState.DRAIN), "m3": (Health.DOWN, AdminState.MAINT)}, 0.5, {"m1"}),
        ({"m1": UNKNOWN, "m2": DOWN, "m3": DOWN}, 0.5, {"m2", "m3"}),
        ({"m1": UNKNOWN, "m2": UNKNOWN}, 1.0, set()),
        ({"m1": MAINT, "b1": DOWN}, 1.0, set()),
    ],
)
def test_in_panic_new_work_goes_to_all_that_are_ready_whatever_their_health(
    algorithm: Algorithm, states_by_name: dict[str, State], threshold: float | None, expected: set[str]
) -> None:
    assert takers(make_pool(states_by_name, algorithm, panic_threshold=threshold)) == expected


@given(by_names, st.sampled_from([0.3, 0.5, 1.0]), st.binary(min_size=1, max_size=8))
@settings(max_examples=200)
def test_panic_is_nothing_to_pinned_work(states_by_name: dict[str, State], threshold: float, key: bytes) -> None:
    calm, panicking = make_pool(states_by_name), make_pool(states_by_name, panic_threshold=threshold)
    for name in states_by_name:
        assert (calm.pinned(name) is None) == (panicking.pinned(name) is None)
    assert str(calm.agreed(key)) == str(panicking.agreed(key))


@given(by_names, st.sampled_from([0.3, 0.5, 1.0]))
@settings(max_examples=200)
def test_panic_begins_below_the_threshold_and_never_takes_work_away(
    states_by_name: dict[str, State], threshold: float
) -> None:
    pool = make_pool(states_by_name, panic_threshold=threshold)
    ready = [health for name, (health, state) in states_by_name.items() if name[0] == "m" and state is AdminState.READY]
    assert pool.is_panicking == (ready.count(Health.DOWN) > (1 - threshold) * len(ready))
    calm = takers(make_pool(states_by_name))
    assert calm <= takers(pool)
    assert pool.can_serve or not takers(pool)


def test_panic_ends_as_soon_as_enough_are_up() -> None:
    pool = make_pool({"m1": READY, "m2": READY, "m3": READY}, panic_threshold=0.5)
    turn_down(pool, "m1")
    assert (pool.is_panicking, takers(pool)) == (False, {"m2", "m3"})
    turn_down(pool, "m2")
    assert (pool.is_panicking, takers(pool)) == (True, {"m1", "m2", "m3"})
    turn_up(pool, "m1")
    assert (pool.is_panicking, takers(pool)) == (False, {"m1", "m3"})


def test_an_operator_who_takes_servers_out_causes_no_panic() -> None:
    pool = make_pool({"m1": READY, "m2": READY, "m3": READY}, panic_threshold=1.0)
    pool.set_admin_state("m1", AdminState.MAINT, 1.0)
    pool.set_admin_state("m2", AdminState.DRAIN, 1.0)
    assert not pool.is_panicking


# ----------------------------------------------------------------------------------------- slow start


def served(pool: Pool, count: int) -> Counter[str]:
    return Counter(backend.name for backend in (pool.pick() for _ in range(count)) if backend is not None)


def test_a_server_that_comes_up_gets_its_share_little_by_little() -> None:
    pool = make_pool({"m1": READY, "m2": READY}, slow_start_s=20.0)
    assert served(pool, 10) == {"m1": 5, "m2": 5}, "when the balancer starts, its servers are warm"
    turn_down(pool, "m2", 100.0)
    turn_up(pool, "m2", 200.0)
    shares = []
    for now in (200.0, 205.0, 210.0, 215.0, 219.9, 220.0):
        pool.tick(now)
        counts = served(pool, 21 * 400)
        shares.append(counts["m2"] / counts["m1"])
    assert shares == pytest.approx([0.05, 0.25, 0.5, 0.75, 0.95, 1.0], abs=0.01)


def test_one_that_is_found_up_later_than_others_was_not_there_and_one_that_is_found_up_first_was() -> None:
    pool = make_pool({"m1": READY, "m2": UNKNOWN, "m3": DOWN}, slow_start_s=20.0)
    turn_up(pool, "m2", 5.0)
    turn_up(pool, "m3", 5.0)
    assert [one.share for one in pool.backends.values()] == [1.0, 1.0, 0.05]


@pytest.mark.parametrize("state", [AdminState.DRAIN, AdminState.MAINT])
def test_a_server_that_is_made_ready_again_starts_slowly_too(state: AdminState) -> None:
    pool = make_pool({"m1": READY, "m2": READY}, slow_start_s=10.0)
    pool.set_admin_state("m2", AdminState.READY, 50.0)
    assert pool.backends["m2"].share == 1.0, "it was ready all the time"
    pool.set_admin_state("m2", state, 60.0)
    pool.set_admin_state("m2", AdminState.READY, 70.0)
    assert pool.backends["m2"].share == 0.05
    pool.tick(75.0)
    assert pool.backends["m2"].share == 0.5
    pool.tick(80.0)
    assert pool.backends["m2"].share == 1.0


def test_one_that_goes_down_in_its_slow_start_begins_it_again() -> None:
    pool = make_pool({"m1": READY, "m2": DOWN}, slow_start_s=10.0)
    turn_up(pool, "m2", 100.0)
    pool.tick(109.0)
    assert pool.backends["m2"].share == 0.9
    turn_down(pool, "m2", 109.0)
    turn_up(pool, "m2", 109.5)
    assert pool.backends["m2"].share == 0.05
    pool.tick(114.5)
    assert pool.backends["m2"].share == 0.5


def test_a_slow_start_alone_in_its_pool_still_gets_everything() -> None:
    pool = make_pool({"m1": DOWN}, slow_start_s=10.0)
    turn_up(pool, "m1", 100.0)
    assert served(pool, 5) == {"m1": 5}


def test_a_radius_server_that_its_watchdog_brings_back_starts_slowly() -> None:
    pool = watched_pool("a", rise=1, fall=1)
    pool.config = pool.config.model_copy(update={"slow_start_s": 10.0})
    a = pool.backends["a"]
    pool.watch(a, Event.EXPIRED, Moment(1.0), "")
    pool.watch(a, Event.ANSWERED, Moment(1.1), "")
    assert (a.is_up, a.share) == (True, 1.0)
    pool.watch(a, Event.REFUSED, Moment(2.0), "port_unreachable")
    assert not a.is_up
    assert a.watchdog is not None
    pool.watch(a, Event.EXPIRED, Moment(a.watchdog.expires_at), "")
    pool.watch(a, Event.ANSWERED, Moment(40.0), "")
    assert (a.is_up, a.share) == (True, 0.05)


def test_without_a_slow_start_nobody_warms_up() -> None:
    pool = make_pool({"m1": READY, "m2": DOWN})
    turn_up(pool, "m2")
    pool.tick(3.0)
    assert pool.backends["m2"].share == 1.0


# -------------------------------------------------------------------------------------- what is missing


def test_an_algorithm_without_what_it_needs_is_no_pool() -> None:
    backends = (backend_config("m1"),)
    with pytest.raises(ValueError, match="chance"):
        Pool("web", PoolConfig(backends=backends, algorithm=Algorithm.POWER_OF_TWO))
    with pytest.raises(ValueError, match="key"):
        Pool("web", PoolConfig(backends=backends, algorithm=Algorithm.HASH))
