"""Drains under way: when each one has ended, and what is to happen then.

No clock and no task of its own: the time comes in, and `tend` is called a few times a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mfalb.balancer.affinity.pin_tags import pin_tags
from mfalb.balancer.affinity.store import PinsLeft
from mfalb.balancer.config.models import CookieAffinity
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.pool import Pool


@dataclass(frozen=True, slots=True)
class Drain:
    """A drain that an operator asked for. `deadline_at`: monotonic seconds, None for none."""

    deadline_at: float | None
    is_maint_next: bool


NO_DRAIN = Drain(None, is_maint_next=False)


def has_table_pins(pool: Pool) -> bool:
    """Whether this pool's pins are in the pin table."""
    return bool(pin_tags(pool.name, pool.config.affinity))


def left_at(pool: Pool, name: str, counted: Mapping[tuple[bytes, str], PinsLeft]) -> PinsLeft | None:
    """The sign-ins that are pinned to one backend of a pool, of all that were counted; None for none."""
    tags = pin_tags(pool.name, pool.config.affinity)
    found = [counted[tag, name] for tag in tags if (tag, name) in counted]
    return PinsLeft.sum(found) if found else None


def is_done(pool: Pool, backend: Backend, left: PinsLeft | None, drain: Drain, now: float) -> bool:
    """Whether there is nothing left to wait for. `left` is what `left_at` says.

    When the sessions of cookies have ended nobody can know: there, only a deadline ends a drain that still has any.
    """
    if drain.deadline_at is not None and now >= drain.deadline_at:
        return True
    if backend.admin_state is AdminState.MAINT:
        return True
    if backend.admin_state is AdminState.READY or isinstance(pool.config.affinity, CookieAffinity):
        return False
    return backend.active == 0 and left is None


class Drains:
    """The drains under way, by pool and backend."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, str], Drain] = {}

    def begin(self, backend: Backend, drain: Drain) -> None:
        """From now on this one; an earlier one of the same backend is forgotten."""
        self._under_way[backend.pool, backend.name] = drain

    def forget(self, backend: Backend) -> None:
        """An operator wants something else of this backend."""
        self._under_way.pop((backend.pool, backend.name), None)

    def drop(self, pool: str, backend: str) -> None:
        """It is no longer there."""
        self._under_way.pop((pool, backend), None)

    def of(self, backend: Backend) -> Drain:
        return self._under_way.get((backend.pool, backend.name), NO_DRAIN)

    @property
    def under_way(self) -> dict[tuple[str, str], Drain]:
        """All of them, by pool and backend."""
        return dict(self._under_way)

    @property
    def await_maint(self) -> list[tuple[str, str]]:
        """Pool and name of the backends that are to be in maint when their drain has ended."""
        return [names for names, drain in self._under_way.items() if drain.is_maint_next]
