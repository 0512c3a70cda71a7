"""Pools of backends without addresses that matter, in any state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from mfalb.balancer.config.health_models import HttpCheck, PassiveCheck, RadiusCheck
from mfalb.balancer.config.models import Backend as BackendConfig
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.values import Address
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.health_state import Health, HealthState, Thresholds
from mfalb.balancer.pools.pool import Pool

State = tuple[Health, AdminState]
states: st.SearchStrategy[State] = st.tuples(st.sampled_from(Health), st.sampled_from(AdminState))


def backend_config(name: str, weight: int = 1, *, is_backup: bool = False) -> BackendConfig:
    return BackendConfig(name=name, address=Address("10.0.0.1", 443), weight=weight, backup=is_backup)


def backend(name: str, weight: int = 1) -> Backend:
    """A backend that is up and ready."""
    return Backend("web", backend_config(name, weight), HealthState(Thresholds(), is_probed=False))


def backends(weights: Sequence[int]) -> list[Backend]:
    """Backends b0, b1, … with these weights, up and ready."""
    return [backend(f"b{index}", weight) for index, weight in enumerate(weights)]


def pool_of(
    states_by_name: Mapping[str, State], *, weights: Sequence[int] = (), passive: PassiveCheck | None = None
) -> Pool:
    """A pool with probes whose backends are in these states."""
    by_name = dict(zip(states_by_name, weights or [1] * len(states_by_name), strict=True))
    config = PoolConfig(
        backends=tuple(backend_config(name, weight) for name, weight in by_name.items()),
        health_check=HttpCheck(type="http", rise=2, fall=3),
        passive_check=passive,
    )
    pool = Pool("web", config)
    for name, (health, admin_state) in states_by_name.items():
        if health is not Health.UNKNOWN:
            pool.observe(name, is_good=health is Health.UP, reason="test", now=0.0)
        pool.set_admin_state(name, admin_state, 0.0)
    return pool


def watched_pool(*names: str, **check: object) -> Pool:
    """A pool of RADIUS backends, each with a watchdog that has been told nothing yet."""
    config = PoolConfig(
        backends=tuple(backend_config(name) for name in names),
        health_check=RadiusCheck.model_validate({"type": "radius", **check}),
    )
    return Pool("mfa", config)
