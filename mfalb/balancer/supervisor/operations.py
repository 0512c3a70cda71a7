"""What operators can ask: done on the supervisor's pools, which the workers follow, and on the node's pins."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

import mfalb
from mfalb.balancer.admin import api_models as api
from mfalb.balancer.admin.operations import Refused, find_backends, find_pool
from mfalb.balancer.admin.why import Peek, read_source, why_cookie, why_request_id, why_source, why_state
from mfalb.balancer.affinity.cookie import CookieSealer
from mfalb.balancer.affinity.pin_tags import pin_tags
from mfalb.balancer.affinity.store import Pin, PinsLeft
from mfalb.balancer.config.models import Config, CookieAffinity
from mfalb.balancer.config.radius_models import RadiusListener
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.choice import NO_KEY
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.draining import Drain, Drains, has_table_pins, is_done, left_at
from mfalb.balancer.supervisor.hand_over import CannotUpgrade, HandedDrain
from mfalb.balancer.supervisor.reload_plan import CannotReload, ReloadPlan
from mfalb.errors import ConfigError
from mfalb.net.lifecycle import Tasks

_TEND_S: Final = 0.5
_COUNTING_SHARE: Final = 20  # a million pins take most of a second to count: never more than a twentieth of the time

_log = logging.getLogger("mfalb.operations")


class NodePins(Protocol):
    """The pins of all workers, without a trace."""

    @property
    def made(self) -> int: ...

    def look(self, key: bytes, now: float) -> Pin | None: ...

    def by_backend(self, now: float) -> dict[tuple[bytes, str], PinsLeft]: ...


class Workers(Protocol):
    """What only workers know."""

    async def refresh(self) -> None:
        """Let the pools' backends have the workers' numbers of exchanges."""

    def total(self, sample: str) -> float:
        """The sum of a metric's samples, as of the last refresh."""

    async def next_in_turn(self, pool: str, key: bytes) -> list[str | None]:
        """Whom each worker would give something new with this key; None where chance decides, or there is nobody."""

    async def reload(self, *, is_dry_run: bool) -> ReloadPlan:
        """Take up what the configuration file says. Raises ConfigError and CannotReload."""

    async def upgrade(self) -> api.Upgraded:
        """Let another process take over. Raises CannotUpgrade."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Monotonic seconds, and seconds since 1970."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class SupervisorOperations:
    """`Operations` of a supervisor. `config` gives the configuration in use, which a reload exchanges."""

    def __init__(
        self,
        config: Callable[[], Config],
        pools: Mapping[str, Pool],
        pins: NodePins,
        workers: Workers,
        clocks: Clocks = Clocks(),
    ) -> None:
        self._settings = config
        self._pools = pools
        self._pins = pins
        self._workers = workers
        self._monotonic = clocks.monotonic
        self._wall = clocks.wall
        self._drains = Drains()
        self._tasks = Tasks("operations")
        self._left: dict[tuple[bytes, str], PinsLeft] = {}
        self._count_again_at = 0.0

    @property
    def _config(self) -> Config:
        return self._settings()

    @property
    def _sealer(self) -> CookieSealer | None:
        keys = [key.reveal() for key in self._config.pins.cookie_keys]
        return CookieSealer(keys) if keys else None

    def start(self) -> None:
        """Look after drains from now on."""
        self._tasks.start("drains", self._tend_drains())

    async def close(self) -> None:
        await self._tasks.close()

    async def _tend_drains(self) -> None:
        while True:
            await asyncio.sleep(_TEND_S)
            if self._drains.await_maint:
                await self._workers.refresh()
                self.tend()

    def tend(self) -> None:
        """Put into maint whose drain has ended and was to be followed by that."""
        for pool_name, name in self._drains.await_maint:
            pool = self._pools.get(pool_name)
            backend = None if pool is None else pool.backends.get(name)
            if pool is None or backend is None:  # a reload has removed it
                self._drains.drop(pool_name, name)
                continue
            if self._remaining(pool, backend)[1]:
                self._set(backend, AdminState.MAINT)

    def _remaining(self, pool: Pool, backend: Backend) -> tuple[PinsLeft | None, bool]:
        """The sign-ins that are pinned to a backend, and whether its drain has ended.

        It has not because an older count found none: what was under way then may have made a pin since.
        """
        left = left_at(pool, backend.name, self._pins_left())
        is_over = is_done(pool, backend, left, self._drains.of(backend), self._monotonic())
        if is_over and left is None and has_table_pins(pool):
            self._count_again_at = 0.0
            left = left_at(pool, backend.name, self._pins_left())
            is_over = is_done(pool, backend, left, self._drains.of(backend), self._monotonic())
        return left, is_over

    def _pins_left(self) -> dict[tuple[bytes, str], PinsLeft]:
        """The sign-ins by tag and backend; of a large table it may be some seconds old."""
        began = self._monotonic()
        if began >= self._count_again_at:
            self._left = self._pins.by_backend(began)
            took_s = self._monotonic() - began
            self._count_again_at = began + took_s * _COUNTING_SHARE
        return {whose: left for whose, left in self._left.items() if left.last_expires_at > began}

    # ---------------------------------------------------------------------------------- operations

    async def status(self) -> api.Status:
        """All pools and backends as they are."""
        await self._workers.refresh()
        pools = self._pools.values()
        return api.Status(
            version=mfalb.__version__,
            workers=self._workers_status(),
            pools=tuple(map(_pool_status, pools)),
            backends=tuple(_backend_status(backend) for pool in pools for backend in pool.backends.values()),
        )

    def _workers_status(self) -> api.WorkersStatus:
        return api.WorkersStatus(
            configured=self._config.workers,
            serving=int(self._workers.total("mfalb_workers")),
            silent=int(self._workers.total("mfalb_workers_silent")),
            restarts=int(self._workers.total("mfalb_worker_restarts_total")),
            kills=int(self._workers.total("mfalb_worker_kills_total")),
        )

    async def set_admin_state(self, change: api.AdminStateChange) -> api.Changed:
        """As `Operations` says."""
        state = AdminState(change.state)
        if state is not AdminState.DRAIN and (change.deadline_s is not None or change.then is not None):
            raise Refused(f"deadline_s and then are for state drain, not {change.state}; leave them out")
        backends = find_backends(self._pools, change.backend)
        for backend in backends:
            is_by_cookie = isinstance(self._pools[backend.pool].config.affinity, CookieAffinity)
            if change.then is not None and change.deadline_s is None and is_by_cookie:
                raise Refused(f"pool '{backend.pool}' pins by cookie, whose sessions end unseen: give a deadline, too")
        for backend in backends:
            self._set(backend, state)
            if state is AdminState.DRAIN:
                now = self._monotonic()
                deadline_at = None if change.deadline_s is None else now + change.deadline_s
                self._drains.begin(backend, Drain(deadline_at, is_maint_next=change.then is not None))
        return api.Changed(backends=tuple(map(_backend_status, backends)))

    def _set(self, backend: Backend, state: AdminState) -> None:
        self._drains.forget(backend)
        self._pools[backend.pool].set_admin_state(backend.name, state, self._monotonic())
        _log.info("admin state", extra={"pool": backend.pool, "backend": backend.name, "state": state.value})

    async def set_weight(self, change: api.WeightChange) -> api.Changed:
        """As `Operations` says."""
        backends = find_backends(self._pools, change.backend)
        for backend in backends:
            weight = backend.config.weight if change.weight is None else change.weight
            self._pools[backend.pool].set_weight(backend.name, weight)
            _log.info("weight", extra={"pool": backend.pool, "backend": backend.name, "weight": weight})
        return api.Changed(backends=tuple(map(_backend_status, backends)))

    async def leaving(self, backend: str) -> api.Leavings:
        """As `Operations` says."""
        await self._workers.refresh()
        found = find_backends(self._pools, backend)
        return api.Leavings(backends=tuple(map(self._leaving, found)))

    def _leaving(self, backend: Backend) -> api.Leaving:
        pool, now = self._pools[backend.pool], self._monotonic()
        is_counted = has_table_pins(pool)
        left, is_over = self._remaining(pool, backend)
        drain = self._drains.of(backend)
        longest_s = 0.0 if left is None else round(left.last_expires_at - now, 1)
        return api.Leaving(
            pool=pool.name,
            backend=backend.name,
            admin_state=backend.admin_state.value,
            active=backend.active,
            pins=(0 if left is None else left.count) if is_counted else None,
            longest_s=longest_s if is_counted else None,
            deadline_in_s=None if drain.deadline_at is None else round(max(drain.deadline_at - now, 0.0), 1),
            then="maint" if drain.is_maint_next else None,
            is_done=is_over,
            needs_deadline=isinstance(pool.config.affinity, CookieAffinity),
            text=_leaving_text(pool),
        )

    async def pins(self, pool: str | None) -> api.Pins:
        """As `Operations` says."""
        if pool is not None:
            find_pool(self._pools, pool)
        await self._workers.refresh()
        now, counted = self._monotonic(), self._pins_left()
        return api.Pins(
            total=sum(left.count for left in counted.values()),
            limit=self._config.pins.limit,
            made=self._pins.made,
            hits=int(self._workers.total("mfalb_pins_hit_total")),
            misses=int(self._workers.total("mfalb_pins_missed_total")),
            backends=tuple(
                api.PinCount(
                    pool=owner or None, backend=name, pins=left.count, longest_s=round(left.last_expires_at - now, 1)
                )
                for (owner, name), left in sorted(self._by_pool(counted).items())
                if pool in (None, owner)
            ),
            cookie_pools=tuple(
                one.name for one in self._pools.values() if isinstance(one.config.affinity, CookieAffinity)
            ),
        )

    def _by_pool(self, counted: Mapping[tuple[bytes, str], PinsLeft]) -> dict[tuple[str, str], PinsLeft]:
        """By pool and backend. What is pinned for a pool that is no longer there stands under an empty name."""
        owners: dict[bytes, list[str]] = {}
        for pool in self._pools.values():
            for tag in pin_tags(pool.name, pool.config.affinity):
                owners.setdefault(tag, []).append(pool.name)
        found: dict[tuple[str, str], list[PinsLeft]] = {}
        for (tag, name), left in counted.items():
            for owner in owners.get(tag, [""]):
                found.setdefault((owner, name), []).append(left)
        return {whose: PinsLeft.sum(lefts) for whose, lefts in found.items()}

    async def reload(self, order: api.ReloadOrder) -> api.Reloaded:
        """As `Operations` says."""
        pools, left = dict(self._pools), self._pins_left()
        try:
            plan = await self._workers.reload(is_dry_run=order.dry_run)
        except (ConfigError, CannotReload) as error:
            raise Refused(str(error)) from error
        leaving = []
        for pool, name in plan.leaving:
            counted = left_at(pools[pool], name, left)
            pins = (0 if counted is None else counted.count) if has_table_pins(pools[pool]) else None
            leaving.append(api.LostPins(pool=pool, backend=name, pins=pins))
        return api.Reloaded(is_dry_run=order.dry_run, changes=plan.changes, leaving=tuple(leaving))

    async def upgrade(self, _order: api.UpgradeOrder) -> api.Upgraded:
        """As `Operations` says."""
        try:
            return await self._workers.upgrade()
        except CannotUpgrade as error:
            raise Refused(f"{error}. The running process serves on") from None

    def handed_drains(self) -> list[HandedDrain]:
        """For who takes over."""
        return [
            HandedDrain(pool=pool, backend=name, deadline_at=one.deadline_at, is_maint_next=one.is_maint_next)
            for (pool, name), one in self._drains.under_way.items()
        ]

    def go_on_with(self, drains: Iterable[HandedDrain]) -> None:
        """What operators have asked a predecessor for. Backends that are not here are passed over."""
        for one in drains:
            pool = self._pools.get(one.pool)
            backend = None if pool is None else pool.backends.get(one.backend)
            if backend is not None:
                self._drains.begin(backend, Drain(one.deadline_at, one.is_maint_next))

    async def why(self, question: api.Question) -> api.Verdicts:
        """As `Operations` says."""
        if isinstance(question, api.SourceQuestion):
            source = read_source(question.source)
            pools = [find_pool(self._pools, question.pool)] if question.pool is not None else self._pools.values()
            return api.Verdicts(verdicts=tuple([await self._why_source(pool, source) for pool in pools]))
        pool = find_pool(self._pools, question.pool)
        turns = await self._workers.next_in_turn(pool.name, NO_KEY)
        peek = Peek(self._pins.look, self._sealer, self._monotonic(), self._wall(), turns)
        match question:
            case api.CookieQuestion():
                verdict = why_cookie(pool, question, peek)
            case api.StateQuestion():
                verdict = why_state(pool, question, peek)
                self._check_client(pool, question.client)
            case api.RequestIdQuestion():
                verdict = why_request_id(pool, question, peek)
        return api.Verdicts(verdicts=(verdict,))

    async def _why_source(self, pool: Pool, source: IPv4Address | IPv6Address) -> api.Verdict:
        key = self._source_key(pool, source)
        return why_source(pool, key, await self._workers.next_in_turn(pool.name, key or NO_KEY))

    def _check_client(self, pool: Pool, name: str) -> None:
        """A mistyped client would be told that no pin is known, which is true and no help. Raises Refused."""
        listeners = [one for one in self._config.listeners if not hasattr(one, "routes")]
        known = {client.name for one in listeners if pool.name in one.pools.values() for client in one.clients}
        if name not in known:
            raise Refused(f"no RADIUS client of pool '{pool.name}' has this name; clients: {', '.join(sorted(known))}")

    def _source_key(self, pool: Pool, source: IPv4Address | IPv6Address) -> bytes | None:
        """What the pool's hash is made of for a client at this address, if the address alone tells."""
        by = pool.config.hash
        if by is None:
            return None
        if by.key == "source":
            return str(source).encode()
        if by.key != "client":
            return None
        clients = [
            client
            for listener in self._config.listeners
            if isinstance(listener, RadiusListener) and pool.name in listener.pools.values()
            for client in listener.clients
            if source in client.network
        ]
        nearest = max(clients, key=lambda client: client.network.prefixlen, default=None)
        return None if nearest is None else nearest.name.encode()


def _pool_status(pool: Pool) -> api.PoolStatus:
    return api.PoolStatus(
        name=pool.name,
        algorithm=pool.config.algorithm.value,
        affinity=pool.config.affinity.type,
        is_panicking=pool.is_panicking,
        can_serve=pool.can_serve,
        waiting=pool.line.waiting,
    )


def _backend_status(backend: Backend) -> api.BackendStatus:
    return api.BackendStatus(
        pool=backend.pool,
        name=backend.name,
        address=str(backend.address),
        health=backend.health.health.value,
        reason=backend.health.reason,
        admin_state=backend.admin_state.value,
        weight=backend.weight,
        configured_weight=backend.config.weight,
        share=backend.share,
        is_backup=backend.is_backup,
        is_ejected=backend.is_ejected,
        degraded=backend.degraded,
        active=backend.active,
        requests=backend.requests,
        failures=backend.failures,
    )


def _leaving_text(pool: Pool) -> str:
    if isinstance(pool.config.affinity, CookieAffinity):
        return (
            "Sessions live in cookies and cannot be counted; one that is not used for "
            f"{pool.config.affinity.idle_timeout_s:g} s has ended."
        )
    return ""
