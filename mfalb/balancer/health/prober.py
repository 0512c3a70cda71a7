"""The loop that probes every backend, and tells its pool."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic

from mfalb.balancer.config.health_models import HttpCheck, SdkCheck, TcpCheck
from mfalb.balancer.health.check_watch import CheckWatch
from mfalb.balancer.health.probes import probe_for
from mfalb.balancer.health.radius_watch import RadiusWatch
from mfalb.balancer.health.status_probe import ProbeEvents, StatusProbe
from mfalb.balancer.health.tls_status_probe import TlsStatusProbe, TlsTarget
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.pools.watchdog import Watchdog
from mfalb.net.lifecycle import Tasks
from mfalb.net.tls_files import TlsFiles
from mfalb.wire.radius import SharedSecret


@dataclass(slots=True)
class _Watched:
    """What goes on for one pool."""

    tasks: Tasks = field(default_factory=lambda: Tasks("health"))
    watches: list[RadiusWatch] = field(default_factory=list)


class Prober:
    """One task a backend of each pool that is checked by HTTP, SDK or TCP, one watch a backend of each RADIUS pool."""

    def __init__(self, tls_files: TlsFiles) -> None:
        self._tls_files = tls_files
        self._watched: dict[Pool, _Watched] = {}
        self._watching = _Watched()

    async def start(self, pools: Iterable[Pool]) -> None:
        """Probe everybody once, then go on by intervals. Returns when each first result is in (a timeout is one)."""
        first = [known for pool in pools for known in self.watch(pool)]
        for is_known in first:
            await is_known.wait()

    async def close(self) -> None:
        for pool in list(self._watched):
            await self.forget(pool)

    async def forget(self, pool: Pool) -> None:
        """Probe nobody of this pool any more."""
        watched = self._watched.pop(pool, None)
        if watched is not None:
            for watch in watched.watches:
                watch.close()
            await watched.tasks.close()

    def watch(self, pool: Pool) -> list[asyncio.Event]:
        """Begin with each backend of a pool; returns what tells that its first result is in."""
        self._watching = self._watched[pool] = _Watched()
        check = pool.config.health_check
        if isinstance(check, HttpCheck | SdkCheck | TcpCheck):
            probe = probe_for(check, pool.config, self._context(pool))
            return [self._probe(CheckWatch(pool, one, check, probe)) for one in pool.backends.values()]
        return [self._watch_over(pool, one, one.watchdog) for one in pool.backends.values() if one.watchdog is not None]

    def _probe(self, watch: CheckWatch) -> asyncio.Event:
        self._watching.tasks.start(watch.name, watch.run())
        return watch.is_known

    def _context(self, pool: Pool) -> ssl.SSLContext | None:
        tls = pool.config.upstream_tls
        return None if tls is None else self._tls_files.client(pool.name, tls.files)

    def _watch_over(self, pool: Pool, backend: Backend, watchdog: Watchdog) -> asyncio.Event:
        secret = pool.config.radius_secret(backend.config)
        if secret is None:  # only in a pool that no listener uses: `check` sees to the others
            pool.observe(backend.name, is_good=False, reason="no secret configured", now=monotonic())
            is_known = asyncio.Event()
            is_known.set()
            return is_known
        watch = RadiusWatch(pool, backend, watchdog, self._question(pool, backend, SharedSecret(secret.reveal())))
        self._watching.watches.append(watch)
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
        tasks = self._watching.tasks
        return lambda events: TlsStatusProbe(target, tasks, events)
