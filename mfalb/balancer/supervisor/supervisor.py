"""Starts the balancer's parts in order, keeps them until it is told to stop, and stops them in reverse."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, nullcontext, suppress
from typing import Any

from mfalb.balancer.admin import api_models as api
from mfalb.balancer.admin.server import AdminServer
from mfalb.balancer.config.models import Config
from mfalb.balancer.config.shares import share_for_worker
from mfalb.balancer.health.prober import Prober
from mfalb.balancer.pools.backend_state import BackendState
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.addresses import found_addresses
from mfalb.balancer.supervisor.crew import REPORT_TIMEOUT_S, Crew, Orders
from mfalb.balancer.supervisor.desks import OperatorsDesks
from mfalb.balancer.supervisor.evidence import EvidenceDesk
from mfalb.balancer.supervisor.first_looks import first_looks, look_alike, look_for_a_while
from mfalb.balancer.supervisor.formers import Formers
from mfalb.balancer.supervisor.hand_over import Backends, CannotUpgrade, Reopen
from mfalb.balancer.supervisor.kept_sockets import KeptSockets
from mfalb.balancer.supervisor.legacy import Legacy, follow_standing
from mfalb.balancer.supervisor.notify import notifier
from mfalb.balancer.supervisor.operations import SupervisorOperations
from mfalb.balancer.supervisor.pool_care import PoolCare
from mfalb.balancer.supervisor.rebriefing import Rebriefing
from mfalb.balancer.supervisor.reload_plan import CannotReload, ReloadPlan, plan_reload
from mfalb.balancer.supervisor.reports import Reports
from mfalb.balancer.supervisor.service import Service
from mfalb.balancer.supervisor.shared_memory import MemoryPlan, SharedMemory
from mfalb.balancer.supervisor.signs_of_life import SignsOfLife
from mfalb.balancer.supervisor.sockets import (
    Bound,
    CannotBind,
    bind_all,
    close_all,
    close_places,
    places_of,
    sockets_of,
)
from mfalb.balancer.supervisor.succession import Holdings, Succession, let_serve
from mfalb.balancer.supervisor.worker_process import Briefing, quiet_on_peers_faults
from mfalb.balancer.worker import Addresses, address_backends
from mfalb.errors import ConfigError
from mfalb.net.control_channel import Message
from mfalb.net.lifecycle import Tasks
from mfalb.net.ticket_keys import SECRET_BYTES
from mfalb.net.tls_files import TlsFiles

_log = logging.getLogger("mfalb.supervisor")


class Supervisor:
    """What outlives a worker: sockets, pins, the pools that decide, health, the admin port."""

    def __init__(
        self,
        config: Config,
        sockets: Bound,
        nursery: socket.socket,
        load: Callable[[], Config],
        legacy: Legacy | None = None,
    ) -> None:
        self._config = config
        self._load = load
        self._share = share_for_worker(config)
        self._sockets = sockets
        self._nursery = nursery
        self._pools = {name: Pool(name, pool, random.random) for name, pool in config.pools.items()}
        self._desk = EvidenceDesk(self._pools)
        self._legacy = legacy
        plan = MemoryPlan(config.workers, config.pins.limit) if legacy is None else legacy.offer.plan
        self._memory = SharedMemory(plan, None if legacy is None else legacy.offer.memory)
        self._kept = KeptSockets(self._pools)
        self._ticket_secret = os.urandom(SECRET_BYTES) if legacy is None else legacy.offer.secret
        self._addresses: Addresses = ()
        self._changed: dict[str, Pool] = {}
        self._care = PoolCare(self._pools)
        self._tasks = Tasks("supervisor")
        self._reloading = asyncio.Lock()
        self._tls_files = TlsFiles(self._ticket_secret, config.tls.file_check_interval_s)
        self._prober = Prober(self._tls_files)
        self._crew: Crew
        self._signs_of_life: SignsOfLife
        self._reports: Reports
        self._service: Service
        self._formers = Formers()
        self._workers_wait = legacy is not None
        self._stop = asyncio.Event()
        self._succession: Succession
        self._desks: OperatorsDesks

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Until SIGTERM or SIGINT, or until another process has taken over. Raises CannotBind and CannotUpgrade."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(quiet_on_peers_faults)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        loop.add_signal_handler(signal.SIGUSR2, lambda: self._tasks.start("upgrade", self._upgrade_quietly()))
        self._addresses = await found_addresses(self._config)
        address_backends(self._pools, self._addresses)
        self._crew = Crew(self._nursery, self._config.workers, self._brief, self._heard)
        self._signs_of_life = SignsOfLife(self._crew)
        self._reports = Reports(self._crew, self._pools)
        self._service = Service(notifier(), self._crew, self._pools)
        operations = SupervisorOperations(lambda: self._config, self._pools, self._memory.pins, self)
        self._desks = OperatorsDesks(AdminServer(self._reports, self._pools), operations)
        self._succession = Succession(self._holdings(operations))
        async with AsyncExitStack() as stack:
            stack.callback(lambda: close_all(self._sockets))
            stack.callback(self._kept.close)
            stack.callback(lambda: self._formers.close(is_end=not self._succession.is_over))
            stack.push_async_callback(self._tls_files.close)
            stack.push_async_callback(self._crew.stop)
            stack.push_async_callback(self._signs_of_life.close)
            stack.push_async_callback(self._prober.close)
            stack.push_async_callback(self._tasks.close)
            stack.push_async_callback(self._desks.close)
            self._desks.bind(self._config.admin, None if self._legacy is None else self._legacy.offer)
            await self._begin(operations)
            if self._legacy is not None:
                close_places(self._legacy.offer.places, but=places_of(self._config, self._sockets))
            facts = {"listeners": len(self._config.listeners), "pools": len(self._pools)}
            _log.info("ready", extra=facts | {"workers": self._config.workers})
            on_ready()
            self._service.start(self._tasks)
            self._signs_of_life.start()
            await self._stop.wait()
            if self._succession.is_over:
                await self._end_in_peace()
            else:
                self._service.stopping()
            _log.info("stopping")

    async def _begin(self, operations: SupervisorOperations) -> None:
        legacy = self._legacy
        if legacy is not None:
            follow_standing(self._pools, legacy.offer.states)
        for pool in self._pools.values():
            pool.on_change = self._note_change
        if legacy is None:
            await self._desks.open_port()
            await self._prober.start(self._pools.values())
        else:  # what it knew of backends stands until we know better
            await look_for_a_while(self._prober, self._pools.values())
        await self._crew.start()
        if legacy is not None:
            await self._succeed(legacy, operations)
        await self._desks.open()
        self._tls_files.start()
        self._tasks.start("tend pools", self._care.tend())
        if legacy is not None:
            await legacy.assume(self._formers)

    async def _succeed(self, legacy: Legacy, operations: SupervisorOperations) -> None:
        """Go on where the former process leaves off."""
        order = await legacy.order_to_serve()
        follow_standing(self._pools, order.states)
        operations.go_on_with(order.drains)
        for number, handed in legacy.seats.items():
            for message in handed.kept:
                self._kept.take_handed_untrusted(number, message)
            handed.kept = list(self._kept.messages(number))
        self._workers_wait = False
        self._crew.tell_all(Message({"kind": "backends", "states": _states(self._pools.values())}))
        await let_serve(self._crew, legacy.seats)

    # ------------------------------------------------------------------------------ another process takes over

    def _holdings(self, operations: SupervisorOperations) -> Holdings:
        return Holdings(
            crew=self._crew,
            kept=self._kept,
            formers=self._formers,
            memory=self._memory,
            secret=self._ticket_secret,
            desks=self._desks,
            service=self._service,
            pools=self._pools,
            drains=operations.handed_drains,
            config=lambda: self._config,
            places=lambda: places_of(self._config, self._sockets),
            let_workers_wait=self._let_workers_wait,
        )

    async def upgrade(self) -> api.Upgraded:
        """Let a new process take over, with the code that is on the disk now. Raises CannotUpgrade."""
        async with self._reloading:
            done = await self._succession.hand_over()
            await self._desks.leave()  # before the answer: who has it and asks again has to ask the other process
            self._stop.set()
            return done

    async def _upgrade_quietly(self) -> None:
        with suppress(CannotUpgrade):  # the log has it
            await self.upgrade()

    def _let_workers_wait(self, is_wanted: bool) -> None:
        self._workers_wait = is_wanted

    async def _end_in_peace(self) -> None:
        """What our workers have begun ends here; all else is the other process's."""
        self._stop.clear()
        await self._tasks.close()
        await self._prober.close()
        await self._succession.end_in_peace(self._stop)

    # ------------------------------------------------------------------------------ what only workers know

    async def refresh(self) -> None:
        """Ask them for their numbers."""
        await self._reports.refresh()

    def total(self, sample: str) -> float:
        """The sum of a metric's samples, as of the last refresh."""
        return sum(one.value for family in self._reports.families() for one in family.samples if one.name == sample)

    async def next_in_turn(self, pool: str, key: bytes) -> list[str | None]:
        """Whom each worker would give something new with this key."""
        question = Message({"kind": "peek", "pool": pool, "key": key.hex()})
        answers = await self._crew.ask_all(lambda _: question, REPORT_TIMEOUT_S)
        return [words.get("backend") for _, words in sorted(answers.items())]

    # ------------------------------------------------------------------------------ workers

    def _brief(self, number: int) -> Orders:
        briefing, descriptors = self._briefing(number, self._share, self._sockets, self._addresses)
        every = (*self._memory.descriptors, *descriptors)
        words = {"states": _states(self._pools.values()), "waits": self._workers_wait}
        return Orders(words, briefing, every, () if self._workers_wait else self._kept.messages(number))

    def _briefing(self, number: int, share: Config, bound: Bound, found: Addresses) -> tuple[Briefing, list[int]]:
        """What a worker is told, and the descriptors of its sockets."""
        sockets = sockets_of(bound, number)
        briefing = Briefing(
            number=number,
            config=share,
            ticket_secret=self._ticket_secret,
            memory=self._memory.plan,
            sockets=tuple((name, len(some)) for name, some in sockets),
            addresses=tuple(found),
        )
        return briefing, [sock.fileno() for _, some in sockets for sock in some]

    def _heard(self, number: int, message: Message) -> None:
        if message.descriptors:
            if not self._kept.take_untrusted(number, message):
                self._reports.forged += 1
        elif message.kind == "let_go":
            self._reports.forged += not self._kept.let_go_untrusted(number, message.words.get("number"))
        elif not self._desk.take_untrusted(number, message.words):
            self._reports.forged += 1

    def _note_change(self, pool: Pool) -> None:
        """Workers are told at the end of this round of the loop: what changes together is told together."""
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._tell_changes)
        self._changed[pool.name] = pool

    def _tell_changes(self) -> None:
        changed, self._changed = self._changed, {}
        states = _states(changed.values())
        self._crew.tell_all(Message({"kind": "backends", "states": states}))
        self._formers.tell(Backends(states=states))

    def _hung_up(self) -> None:
        """SIGHUP: the access log may have been renamed, and the configuration may be another one."""
        self._reopen()
        self._tasks.start("reload", self._reload_quietly())

    async def _reload_quietly(self) -> None:
        with suppress(ConfigError, CannotReload):  # the log has it
            await self.reload()

    def _reopen(self) -> None:
        if self._config.log.access_file is None or not self._config.log.access:
            _log.info("SIGHUP: there is no access_file to reopen")
            return
        self._crew.tell_all(Message({"kind": "reopen"}))
        self._formers.tell(Reopen())
        _log.info("access log reopened")

    # ------------------------------------------------------------------------------ another configuration

    async def reload(self, *, is_dry_run: bool = False) -> ReloadPlan:
        """Take up what the configuration file says now: all of it, or nothing. Returns what was (or would be) changed.

        Raises ConfigError and CannotReload with everything as it was.
        """
        async with self._reloading:
            if self._succession.is_over:
                raise CannotReload("another process serves now")
            # Announced in here: the end of one reload must not be taken for that of the next
            with nullcontext() if is_dry_run else self._service.reloading():
                return await self._reload(is_dry_run=is_dry_run)

    async def _reload(self, *, is_dry_run: bool) -> ReloadPlan:
        try:
            config = await asyncio.to_thread(self._load)
            plan = plan_reload(self._config, config)
            plan.refuse_what_is_fixed()
            if not is_dry_run and not plan.is_empty:
                await self._take_up(config)
        except (ConfigError, CannotReload) as error:
            _log.error("the new configuration is not used", extra={"reason": str(error)})
            raise
        if not is_dry_run:
            _log.info("reloaded" if plan.changes else "reloaded: nothing has changed", extra=_told(plan))
        return plan

    async def _take_up(self, config: Config) -> None:
        former_places = places_of(self._config, self._sockets)
        try:
            found = await found_addresses(config)
            bound = bind_all(config, former_places)
        except CannotBind as error:
            raise CannotReload(str(error)) from error
        fresh = places_of(config, bound)
        try:
            swaps = self._client_swaps(config)
            looks = TlsFiles(self._ticket_secret, config.tls.file_check_interval_s)
            shadows = await first_looks(self._config, config, found, looks)
            share, rebriefing = share_for_worker(config), Rebriefing(self._crew)
            await rebriefing.prepare(lambda number: self._briefing(number, share, bound, found))
        except BaseException as error:
            close_places(fresh, but=former_places)
            if isinstance(error, OSError | ValueError):
                raise CannotReload(str(error)) from error
            raise
        for swap in swaps:
            swap()
        await self._change_pools(config, shadows)
        address_backends(self._pools, found)
        self._config, self._share, self._sockets, self._addresses = config, share, bound, found
        await rebriefing.commit(_states(self._pools.values()))
        close_places(former_places, but=fresh)

    def _client_swaps(self, config: Config) -> list[Callable[[], None]]:
        """What gives checks the TLS of pools that have another now. Raises OSError and ValueError."""
        swaps = []
        for name, pool in config.pools.items():
            known = self._config.pools.get(name)
            if pool.upstream_tls is not None and (known is None or known.upstream_tls != pool.upstream_tls):
                swaps.append(self._tls_files.prepare_client(name, pool.upstream_tls.files))
        return swaps

    async def _change_pools(self, config: Config, shadows: Mapping[str, Pool]) -> None:
        for name in self._pools.keys() - config.pools.keys():
            await self._prober.forget(self._pools.pop(name))
            self._care.forget(name)
        for name, settings in config.pools.items():
            known = self._pools.get(name)
            if known is not None and known.config == settings:
                continue
            pool = known or shadows[name]
            if known is not None:
                await self._prober.forget(known)
                seen = set(known.backends)
                known.reconfigure(settings)
                look_alike(known, shadows.get(name), seen)
            self._pools[name] = pool
            pool.on_change = self._note_change
            self._prober.watch(pool)


def _told(plan: ReloadPlan) -> dict[str, object]:
    return {"changes": "; ".join(plan.changes)} if plan.changes else {}


def _states(pools: Iterable[Pool]) -> list[dict[str, Any]]:
    return [BackendState.of(backend).words() for pool in pools for backend in pool.backends.values()]
