import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import backend

from mfalb.balancer.pools.backend import WARM_STEPS, AdminState
from mfalb.balancer.pools.health_state import Health


@pytest.mark.parametrize(
    ("health", "admin_state", "takes_new", "takes_pinned"),
    [
        (Health.UP, AdminState.READY, True, True),
        (Health.UP, AdminState.DRAIN, False, True),
        (Health.UP, AdminState.MAINT, False, False),
        *((health, state, False, False) for health in (Health.DOWN, Health.UNKNOWN) for state in AdminState),
    ],
)
def test_what_a_backend_takes_follows_from_two_facts(
    health: Health, admin_state: AdminState, *, takes_new: bool, takes_pinned: bool
) -> None:
    one = backend("mfa1")
    one.health.health = health
    one.admin_state = admin_state
    assert (one.takes_new, one.takes_pinned) == (takes_new, takes_pinned)
    assert repr(one) == "Backend(web/mfa1)"


@pytest.mark.parametrize(("last_reply_at", "is_suspected"), [(0.0, True), (9.9, True), (10.0, False), (11.0, False)])
def test_d4_a_backend_is_suspected_only_when_nothing_came_from_it_since_the_request_was_sent(
    last_reply_at: float, *, is_suspected: bool
) -> None:
    one, heard = backend("mfa1"), list[str]()
    one.on_suspicion = lambda: heard.append("woken")
    one.last_reply_at = last_reply_at
    one.suspect(sent_at=10.0, now=13.0)
    assert one.suspected_at == (13.0 if is_suspected else 0.0)
    assert heard == (["woken"] if is_suspected else [])
    assert one.is_up, "a suspicion is no verdict"


def test_a_backend_that_nobody_watches_may_be_suspected_too() -> None:
    one = backend("mfa1")
    one.suspect(sent_at=10.0, now=13.0)
    assert one.suspected_at == 13.0


@given(st.floats(0, 25), st.integers(1, 256))
def test_in_a_slow_start_the_share_grows_linearly_in_steps_that_are_never_late_by_more_than_one(
    passed_s: float, weight: int
) -> None:
    one = backend("mfa1", weight)
    one.warm_up(100.0)
    one.warm(100.0 + passed_s, 20.0)
    ideal = min(passed_s / 20.0, 1.0)
    assert ideal - 1 / WARM_STEPS <= one.share <= max(ideal, 1 / WARM_STEPS) + 1e-9
    assert one.pull == round(one.share * weight * WARM_STEPS)


def test_a_slow_start_begins_small_and_ends() -> None:
    one = backend("mfa1", 3)
    assert (one.pull, one.share) == (60, 1.0)
    one.warm_up(100.0)
    assert (one.pull, one.share) == (3, 0.05)
    assert not one.warm(100.4, 10.0), "nothing has changed yet"
    assert one.warm(105.0, 10.0)
    assert (one.pull, one.share) == (30, 0.5)
    assert one.warm(110.0, 10.0)
    assert (one.pull, one.warming_since) == (60, None)
    assert not one.warm(111.0, 10.0)


def test_a_backend_of_weight_0_takes_pinned_work_only() -> None:
    one = backend("mfa1", 0)
    assert (one.is_up, one.takes_pinned, one.takes_new, one.share) == (True, True, False, 1.0)
