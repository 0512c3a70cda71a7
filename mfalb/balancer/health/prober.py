"""The loop that probes every backend, and tells its pool."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from mfalb.balancer.health.probes import Probe, ProbeFailed, probe_for
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.net.lifecycle import Tasks

_JITTER: Final = 0.1  # of the interval, so that probes of many backends and nodes do not march in step

_log = logging.getLogger("mfalb.health")


@dataclass(frozen=True, slots=True)
class _Checking:
    """How one backend is watched; `is_known` is set when its first result is in."""

    interval_s: float
    probe: Probe
    is_known: asyncio.Event


class Prober:
    """One task a backend of each pool that has a health check."""

    def __init__(self, pools: Iterable[Pool]) -> None:
        self._pools = list(pools)
        self._tasks = Tasks("health")

    async def start(self) -> None:
        """Probe everybody once, then go on by intervals. Returns when each first result is in (a timeout is one)."""
        first: list[asyncio.Event] = []
        for pool in self._pools:
            check = pool.config.health_check
            if check is not None:
                probe = probe_for(check, pool.config.upstream_tls)
                for backend in pool.backends.values():
                    is_known = asyncio.Event()
                    first.append(is_known)
                    watch = self._watch(pool, backend, _Checking(check.interval_s, probe, is_known))
                    self._tasks.start(f"{pool.name}/{backend.name}", watch)
        for is_known in first:
            await is_known.wait()

    async def close(self) -> None:
        await self._tasks.close()

    async def _watch(self, pool: Pool, backend: Backend, checking: _Checking) -> None:
        while True:
            if backend.admin_state is not AdminState.MAINT:
                await self._probe_once(pool, backend, checking.probe)
            checking.is_known.set()
            spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads load, guards nothing
            await asyncio.sleep(checking.interval_s * spread)

    async def _probe_once(self, pool: Pool, backend: Backend, probe: Probe) -> None:
        reason, is_good = "ok", True
        try:
            await probe(backend)
        except ProbeFailed as failure:
            reason, is_good = str(failure), False
        if pool.observe(backend.name, is_good=is_good, reason=reason, now=monotonic()):
            level, event = (logging.INFO, "backend up") if is_good else (logging.WARNING, "backend down")
            _log.log(level, event, extra={"pool": pool.name, "backend": backend.name, "reason": reason})
