"""Probes one backend again and again, and tells its pool."""

from __future__ import annotations

import asyncio
import logging
import random
from time import monotonic
from typing import Final

from mfalb.balancer.config.health_models import CheckTiming
from mfalb.balancer.health.outcomes import Probe, ProbeFailed, ProbeUnsent
from mfalb.balancer.pools.backend import AdminState, Backend, LastCheck
from mfalb.balancer.pools.health_state import Health, HealthState
from mfalb.balancer.pools.pool import Pool
from mfalb.telemetry.rare_log import RareLog

_JITTER: Final = 0.1  # of the interval, so that probes of many backends and nodes do not march in step

_log = logging.getLogger("mfalb.health")


def pause_s(timing: CheckTiming, state: HealthState) -> float:
    """How long to wait until the next probe, without jitter."""
    if state.is_flipping:
        return timing.fast_interval_s or timing.interval_s
    if state.health is Health.DOWN:
        return timing.down_interval_s or timing.interval_s
    return timing.interval_s


class CheckWatch:
    """The loop of one backend. `is_known` is set when its first result is in.

    A backend in maintenance is left alone. A failure that traffic meets makes the next probe come as soon as one
    would after a bad probe.
    """

    def __init__(self, pool: Pool, backend: Backend, timing: CheckTiming, probe: Probe) -> None:
        self.name = f"{pool.name}/{backend.name}"
        self.is_known = asyncio.Event()
        self._pool = pool
        self._backend = backend
        self._timing = timing
        self._probe = probe
        self._suspicion = asyncio.Event()
        self._rare_log = RareLog(_log)

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        self._backend.on_suspicion = self._suspicion.set
        try:
            while True:
                if self._backend.admin_state is not AdminState.MAINT:
                    await self._probe_once()
                self.is_known.set()
                await self._pause()
        finally:
            self._backend.on_suspicion = None

    async def _pause(self) -> None:
        """Wait for the next turn; what was agreed on is shortened when traffic contradicts it meanwhile."""
        spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads load, guards nothing
        begun_at = monotonic()
        self._suspicion.clear()
        while (left_s := begun_at + pause_s(self._timing, self._backend.health) * spread - monotonic()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    await self._suspicion.wait()
            except TimeoutError:
                return
            self._suspicion.clear()

    async def _probe_once(self) -> None:
        backend, begun_at = self._backend, monotonic()
        backend.probes_sent += 1
        degraded = ""
        try:
            works = await self._probe(backend)
        except ProbeUnsent as lack:
            backend.probes_sent -= 1  # a lack of ours is no word about the backend
            facts = {"pool": self._pool.name, "backend": backend.name, "reason": str(lack)}
            self._rare_log.warning("unsent", "cannot probe a backend", facts)
            return
        except ProbeFailed as failure:
            backend.probes_lost += 1
            reason, is_good = str(failure), False
        else:
            backend.probes_answered += 1
            reason, is_good, degraded = works.text, True, works.degraded
        now = monotonic()
        backend.last_check = LastCheck(now, now - begun_at, is_good, reason)
        self._tell(is_good=is_good, reason=reason, degraded=degraded)

    def _tell(self, *, is_good: bool, reason: str, degraded: str) -> None:
        backend = self._backend
        facts = {"pool": self._pool.name, "backend": backend.name}
        if self._pool.observe(backend.name, is_good=is_good, reason=reason, now=monotonic()):
            level, event = (logging.INFO, "backend up") if is_good else (logging.WARNING, "backend down")
            _log.log(level, event, extra=facts | {"reason": reason})
        if not is_good or backend.health.health is not Health.UP:
            return  # a server that is down lacks everything
        before = backend.degraded
        if self._pool.observe_degraded(backend, degraded):
            if degraded:
                _log.warning("backend degraded", extra=facts | {"reason": degraded})
            else:
                _log.info("backend no longer degraded", extra=facts | {"reason": before})
