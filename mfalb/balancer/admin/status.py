"""The status page: what each backend is worth right now, why, since when, and what happened before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import mfalb
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool


class Clocks(NamedTuple):
    """The same moment on both clocks: health is kept in monotonic seconds, people read the wall's."""

    monotonic_s: float
    wall_s: float

    def wall(self, monotonic_s: float) -> str:
        """A monotonic time as people write it: UTC, to the second."""
        moment = datetime.fromtimestamp(self.wall_s - (self.monotonic_s - monotonic_s), UTC)
        return moment.isoformat(timespec="seconds")


def status(pools: Mapping[str, Pool], clocks: Clocks) -> dict[str, object]:
    """The whole page.

    `panicking` names the pools that ignore health for new work; `failovers` has the last changes of each pool (RFC 3539
    section 3.4.2), newest first.
    """
    changes = sorted(
        ((change, pool.name) for pool in pools.values() for change in pool.changes),
        key=lambda entry: entry[0].at,
        reverse=True,
    )
    return {
        "version": mfalb.__version__,
        "pools": {pool.name: [_backend(one, clocks) for one in pool.backends.values()] for pool in pools.values()},
        "panicking": [pool.name for pool in pools.values() if pool.is_panicking],
        "failovers": [
            {
                "time": clocks.wall(change.at),
                "pool": pool,
                "backend": change.backend,
                "health": change.health.value,
                "reason": change.reason,
            }
            for change, pool in changes
        ],
    }


def _last_check(backend: Backend, clocks: Clocks) -> dict[str, object] | None:
    check = backend.last_check
    if check is None:
        return None
    return {
        "time": clocks.wall(check.at),
        "ms": round(check.seconds * 1000, 1),
        "good": check.is_good,
        "result": check.text,
    }


def _backend(backend: Backend, clocks: Clocks) -> dict[str, object]:
    health, watchdog, replied_at = backend.health, backend.watchdog, backend.last_reply_at
    return {
        "name": backend.name,
        "address": str(backend.address),
        "health": health.health.value,
        "reason": health.reason,
        "since": clocks.wall(health.changed_at) if health.changed_at else None,
        "degraded": backend.degraded or None,
        "ejected_until": clocks.wall(backend.ejected_until) if backend.is_ejected else None,
        "consecutive_failures": backend.consecutive_failures,
        "last_check": _last_check(backend, clocks),
        "watchdog": watchdog.phase.value if watchdog is not None else None,
        "last_reply_age_s": round(clocks.monotonic_s - replied_at, 1) if replied_at else None,
        "probes": {
            "sent": backend.probes_sent,
            "answered": backend.probes_answered,
            "lost": backend.probes_lost,
        },
        "weight": backend.weight,
        "share": backend.share,
        "backup": backend.is_backup,
        "admin_state": backend.admin_state.value,
        "active": backend.active,
        "requests": backend.requests,
        "failures": backend.failures,
    }
