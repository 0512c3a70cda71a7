import pytest
from unit.balancer.pools.pool_builder import backend

from mfalb.balancer.pools.backend import AdminState
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
