import pytest

from mfalb.balancer.affinity.radius_state import BY_STATE
from mfalb.balancer.affinity.store import PinsLeft, pin_tag
from mfalb.balancer.config.models import Backend as BackendConfig
from mfalb.balancer.config.models import CookieAffinity, NoAffinity, RadiusStateAffinity
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.values import Address
from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.draining import NO_DRAIN, Drain, Drains, has_table_pins, is_done, left_at

STATES = RadiusStateAffinity(type="radius_state")
COOKIES = CookieAffinity(type="cookie")
LEFT = PinsLeft(1, 300.0)
AT_100 = Drain(100.0, is_maint_next=True)


def pool_with(affinity: NoAffinity | CookieAffinity | RadiusStateAffinity, state: AdminState) -> Pool:
    backend = BackendConfig(name="a", address=Address("10.0.0.1", 1812))
    pool = Pool("mfa", PoolConfig(backends=(backend,), affinity=affinity))
    pool.set_admin_state("a", state, 0.0)
    return pool


@pytest.mark.parametrize(
    ("affinity", "state", "active", "left", "drain", "now", "expected"),
    [
        (STATES, AdminState.DRAIN, 0, LEFT, NO_DRAIN, 50.0, False),
        (STATES, AdminState.DRAIN, 1, None, NO_DRAIN, 50.0, False),
        (STATES, AdminState.DRAIN, 0, None, NO_DRAIN, 50.0, True),
        (STATES, AdminState.READY, 0, None, NO_DRAIN, 50.0, False),
        (STATES, AdminState.MAINT, 5, LEFT, NO_DRAIN, 50.0, True),
        (STATES, AdminState.DRAIN, 5, LEFT, AT_100, 99.9, False),
        (STATES, AdminState.DRAIN, 5, LEFT, AT_100, 100.0, True),
        (NoAffinity(), AdminState.DRAIN, 0, None, NO_DRAIN, 50.0, True),
        (NoAffinity(), AdminState.DRAIN, 2, None, NO_DRAIN, 50.0, False),
        (COOKIES, AdminState.DRAIN, 0, None, NO_DRAIN, 50.0, False),
        (COOKIES, AdminState.DRAIN, 0, None, AT_100, 100.0, True),
    ],
)
def test_a_drain_has_ended_when_nothing_is_left_or_its_deadline_has_come(  # noqa: PLR0913, PLR0917 - a table's row
    affinity: NoAffinity | CookieAffinity | RadiusStateAffinity,
    state: AdminState,
    active: int,
    left: PinsLeft | None,
    drain: Drain,
    now: float,
    expected: bool,
) -> None:
    pool = pool_with(affinity, state)
    pool.backends["a"].active = active
    assert is_done(pool, pool.backends["a"], left, drain, now) is expected


def test_a_drain_is_remembered_until_another_wish_comes() -> None:
    backend = pool_with(STATES, AdminState.DRAIN).backends["a"]
    drains = Drains()
    assert drains.of(backend) is NO_DRAIN
    drains.begin(backend, AT_100)
    assert (drains.of(backend), drains.await_maint) == (AT_100, [("mfa", "a")])
    drains.begin(backend, Drain(200.0, is_maint_next=False))
    assert drains.await_maint == []
    drains.forget(backend)
    assert drains.of(backend) is NO_DRAIN


def test_what_is_left_at_a_backend_is_its_own_pool_s() -> None:
    counted = {(pin_tag(BY_STATE, "mfa"), "a"): LEFT, (pin_tag(BY_STATE, "other"), "a"): PinsLeft(7, 900.0)}
    states, cookies = pool_with(STATES, AdminState.DRAIN), pool_with(COOKIES, AdminState.DRAIN)
    assert (left_at(states, "a", counted), left_at(states, "b", counted)) == (LEFT, None)
    assert (has_table_pins(states), has_table_pins(cookies), left_at(cookies, "a", counted)) == (True, False, None)
