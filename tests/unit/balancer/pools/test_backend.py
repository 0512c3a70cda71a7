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
