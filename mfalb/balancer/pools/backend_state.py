"""What is known and ordered of a backend, as one process tells it to another.

The supervisor's pools decide (probes, evidence, operators); the workers' pools follow. Times are seconds of the
monotonic clock, which is the same for all processes of a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool


@dataclass(frozen=True, slots=True)
class BackendState:
    """Everything that decides whether, and how much, a backend is used."""

    pool: str
    backend: str
    health: str
    reason: str
    changed_at: float
    degraded: str
    admin_state: str
    is_ejected: bool
    ejected_until: float
    weight: int
    warming_since: float | None

    @classmethod
    def of(cls, backend: Backend) -> Self:
        health = backend.health
        return cls(
            pool=backend.pool,
            backend=backend.name,
            health=health.health.value,
            reason=health.reason,
            changed_at=health.changed_at,
            degraded=backend.degraded,
            admin_state=backend.admin_state.value,
            is_ejected=backend.is_ejected,
            ejected_until=max(backend.ejected_until, -1e9),  # JSON has no infinity
            weight=backend.weight,
            warming_since=backend.warming_since,
        )

    @classmethod
    def from_words(cls, words: dict[str, Any]) -> Self:
        """Raises TypeError for what has other fields."""
        return cls(**words)

    def words(self) -> dict[str, Any]:
        return asdict(self)


def follow_all(pools: Mapping[str, Pool], states: Iterable[dict[str, Any]], now: float) -> None:
    """Let all pools be what the words say; those that are not here are passed over. Raises TypeError and ValueError."""
    by_pool: dict[str, list[BackendState]] = {}
    for words in states:
        state = BackendState.from_words(words)
        by_pool.setdefault(state.pool, []).append(state)
    for name, told in by_pool.items():
        if name in pools:
            follow(pools[name], told, now)


def follow(pool: Pool, states: list[BackendState], now: float) -> None:
    """Let a pool's backends be what another process says. Those that it does not have are passed over."""
    for state in states:
        backend = pool.backends.get(state.backend)
        if backend is None:
            continue
        health = backend.health
        health.health, health.reason = Health(state.health), state.reason
        health.changed_at, health.streak = state.changed_at, 0
        backend.degraded = state.degraded
        backend.admin_state = AdminState(state.admin_state)
        if backend.is_ejected and not state.is_ejected:
            backend.consecutive_failures = 0  # all is forgiven
        backend.is_ejected, backend.ejected_until = state.is_ejected, state.ejected_until
        pool.weigh(backend, state.weight, state.warming_since, now)
    pool.refresh()
