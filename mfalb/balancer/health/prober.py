"""The loop that probes every backend, and tells its pool."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from mfalb.balancer.config.models import HttpCheck, TcpCheck
from mfalb.balancer.health.probes import Probe, ProbeFailed, probe_for
from mfalb.balancer.health.radius_watch import RadiusWatch
from mfalb.balancer.health.status_probe import ProbeEvents, StatusProbe
from mfalb.balancer.health.tls_status_probe import TlsStatusProbe, TlsTarget
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.pools.watchdog import Watchdog
from mfalb.net.lifecycle import Tasks
from mfalb.net.tls_files import TlsFiles
from mfalb.wire.radius import SharedSecret

_JITTER: Final = 0.1  # of the interval, so that probes of many backends and nodes do not march in step

_log = logging.getLogger("mfalb.health")


@dataclass(frozen=True, slots=True)
class _Checking:
    """How one backend is watched; `is_known` is set when its first result is in."""

    interval_s: float
    probe: Probe
    is_known: asyncio.Event


class Prober:
    """One task a backend of each pool that is checked by HTTP or TCP, one watch a backend of each RADIUS pool."""

    def __init__(self, pools: Iterable[Pool], tls_files: TlsFiles) -> None:
        self._pools = list(pools)
        self._tls_files = tls_files
        self._tasks = Tasks("health")
        self._watches: list[RadiusWatch] = []

    async def start(self) -> None:
        """Probe everybody once, then go on by intervals. Returns when each first result is in (a timeout is one)."""
        first = [known for pool in self._pools for known in self._begin(pool)]
        for is_known in first:
            await is_known.wait()

    async def close(self) -> None:
        for watch in self._watches:
            watch.close()
        await self._tasks.close()

    def _begin(self, pool: Pool) -> list[asyncio.Event]:
        """Start with each backend of a pool; returns what tells that its first result is in."""
        check = pool.config.health_check
        if isinstance(check, HttpCheck | TcpCheck):
            tls = pool.config.upstream_tls
            probe = probe_for(check, tls, None if tls is None else self._tls_files.client(pool.name, tls.files))
            return [self._probe(pool, one, check.interval_s, probe) for one in pool.backends.values()]
        return [self._watch_over(pool, one, one.watchdog) for one in pool.backends.values() if one.watchdog is not None]

    def _probe(self, pool: Pool, backend: Backend, interval_s: float, probe: Probe) -> asyncio.Event:
        is_known = asyncio.Event()
        watch = self._watch(pool, backend, _Checking(interval_s, probe, is_known))
        self._tasks.start(f"{pool.name}/{backend.name}", watch)
        return is_known

    def _watch_over(self, pool: Pool, backend: Backend, watchdog: Watchdog) -> asyncio.Event:
        secret = pool.config.radius_secret(backend.config)
        if secret is None:  # only in a pool that no listener uses: `check` sees to the others
            pool.observe(backend.name, is_good=False, reason="no secret configured", now=monotonic())
            is_known = asyncio.Event()
            is_known.set()
            return is_known
        watch = RadiusWatch(pool, backend, watchdog, self._question(pool, backend, SharedSecret(secret.reveal())))
        self._watches.append(watch)
        watch.start()
        return watch.is_known

    def _question(
        self, pool: Pool, backend: Backend, secret: SharedSecret
    ) -> Callable[[ProbeEvents], StatusProbe | TlsStatusProbe]:
        """What asks a backend whether it lives, by the transport of its pool."""
        tls = pool.config.upstream_tls
        if tls is None:
            # In turn (RFC 5997 section 3: a new question has a new identifier); the first of a process does not matter.
            return lambda events: StatusProbe(backend.address, backend.probes_sent % 256, secret, events)
        address = backend.config.address
        context = self._tls_files.client(pool.name, tls.files)
        target = TlsTarget(address, tls.server_name or address.host, context, secret)
        return lambda events: TlsStatusProbe(target, self._tasks, events)

    async def _watch(self, pool: Pool, backend: Backend, checking: _Checking) -> None:
        while True:
            if backend.admin_state is not AdminState.MAINT:
                await self._probe_once(pool, backend, checking.probe)
            checking.is_known.set()
            spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads load, guards nothing
            await asyncio.sleep(checking.interval_s * spread)

    async def _probe_once(self, pool: Pool, backend: Backend, probe: Probe) -> None:
        reason, is_good = "ok", True
        backend.probes_sent += 1
        try:
            await probe(backend)
            backend.probes_answered += 1
        except ProbeFailed as failure:
            backend.probes_lost += 1
            reason, is_good = str(failure), False
        if pool.observe(backend.name, is_good=is_good, reason=reason, now=monotonic()):
            level, event = (logging.INFO, "backend up") if is_good else (logging.WARNING, "backend down")
            _log.log(level, event, extra={"pool": pool.name, "backend": backend.name, "reason": reason})
