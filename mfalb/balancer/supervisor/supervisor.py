"""Starts the balancer's parts in order, keeps them until it is told to stop, and stops them in reverse."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import random
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, nullcontext, suppress
from time import monotonic
from typing import Any, Final

import uvloop

from mfalb.balancer.admin.api import AdminApi
from mfalb.balancer.admin.server import AdminServer
from mfalb.balancer.config.models import Config
from mfalb.balancer.config.shares import share_for_worker
from mfalb.balancer.health.prober import Prober
from mfalb.balancer.pools.backend_state import BackendState
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.activation import given_places
from mfalb.balancer.supervisor.addresses import found_addresses
from mfalb.balancer.supervisor.admin_socket import bind_admin
from mfalb.balancer.supervisor.crew import REPORT_TIMEOUT_S, Crew, Orders
from mfalb.balancer.supervisor.evidence import EvidenceDesk
from mfalb.balancer.supervisor.kept_sockets import KeptSockets
from mfalb.balancer.supervisor.notify import notifier
from mfalb.balancer.supervisor.nursery import start_nursery
from mfalb.balancer.supervisor.operations import SupervisorOperations
from mfalb.balancer.supervisor.reload_plan import CannotReload, ReloadPlan, plan_reload
from mfalb.balancer.supervisor.reports import Reports
from mfalb.balancer.supervisor.service import Service
from mfalb.balancer.supervisor.shared_memory import SharedMemory
from mfalb.balancer.supervisor.sockets import (
    Bound,
    CannotBind,
    bind_all,
    close_all,
    close_places,
    places_of,
    sockets_of,
)
from mfalb.balancer.supervisor.worker_process import Briefing, quiet_on_peers_faults, run_worker
from mfalb.balancer.worker import Addresses, address_backends
from mfalb.errors import ConfigError
from mfalb.net.control_channel import Message
from mfalb.net.descriptors import allow_many_descriptors
from mfalb.net.lifecycle import Tasks
from mfalb.net.ticket_keys import SECRET_BYTES
from mfalb.net.tls_files import TlsFiles
from mfalb.telemetry import unraisable
from mfalb.telemetry.log_file import LogFile

_TICK_S: Final = 0.25
_FIRST_LOOK_S: Final = 5.0  # a reload waits no longer for new backends
_ANSWER_S: Final = 10.0  # a worker that takes longer stands still

_log = logging.getLogger("mfalb.supervisor")


def run(config: Config, on_ready: Callable[[], None], load: Callable[[], Config]) -> None:
    """Serve until SIGTERM or SIGINT. Raises CannotBind before anything was served.

    `load` reads the configuration anew, for a reload; it may raise ConfigError.
    """
    allow_many_descriptors()
    unraisable.install()
    _try_access_file(config)
    given = given_places(config)
    # Before anything is bound: it would hold all sockets open, and a listener that is removed would refuse nobody
    nursery, pid = start_nursery(run_worker)
    try:
        sockets = bind_all(config, given)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Supervisor(config, sockets, nursery, load).serve(on_ready))
    finally:
        nursery.close()
        os.waitpid(pid, 0)


class Supervisor:
    """What outlives a worker: sockets, pins, the pools that decide, health, the admin port."""

    def __init__(self, config: Config, sockets: Bound, nursery: socket.socket, load: Callable[[], Config]) -> None:
        self._config = config
        self._load = load
        self._share = share_for_worker(config)
        self._sockets = sockets
        self._nursery = nursery
        self._pools = {name: Pool(name, pool, random.random) for name, pool in config.pools.items()}
        self._desk = EvidenceDesk(self._pools)
        self._memory = SharedMemory(config.workers, config.pins.limit)
        self._kept = KeptSockets(self._pools)
        self._ticket_secret = os.urandom(SECRET_BYTES)
        self._addresses: Addresses = ()
        self._changed: dict[str, Pool] = {}
        self._panicking: set[str] = set()
        self._tasks = Tasks("supervisor")
        self._reloading = asyncio.Lock()
        self._tls_files = TlsFiles(self._ticket_secret, config.tls.file_check_interval_s)
        self._prober = Prober(self._tls_files)
        self._crew: Crew
        self._reports: Reports
        self._service: Service

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Until SIGTERM or SIGINT. Raises CannotBind."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(quiet_on_peers_faults)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        self._addresses = await found_addresses(self._config)
        address_backends(self._pools, self._addresses)
        self._crew = Crew(self._nursery, self._config.workers, self._brief, self._heard)
        self._reports = Reports(self._crew, self._pools)
        self._service = Service(notifier(), self._crew, self._pools)
        async with AsyncExitStack() as stack:
            stack.callback(lambda: close_all(self._sockets))
            stack.callback(self._kept.close)
            stack.push_async_callback(self._tls_files.close)
            stack.push_async_callback(self._crew.stop)
            stack.push_async_callback(self._prober.close)
            stack.push_async_callback(self._tasks.close)
            admin = AdminServer(self._config.admin.bind, self._reports, self._pools)
            stack.push_async_callback(admin.close)
            try:
                await admin.start()
            except OSError as error:
                raise CannotBind(f"admin: cannot bind {self._config.admin.bind}: {error.strerror or error}") from error
            for pool in self._pools.values():
                pool.on_change = self._note_change
            await self._prober.start(self._pools.values())
            await self._crew.start()
            await self._serve_operators(stack)
            self._tls_files.start()
            self._tasks.start("tend pools", self._tend())
            facts = {"listeners": len(self._config.listeners), "pools": len(self._pools)}
            _log.info("ready", extra=facts | {"workers": self._config.workers})
            on_ready()
            self._service.start(self._tasks)
            await stop.wait()
            self._service.stopping()
            _log.info("stopping")

    async def _serve_operators(self, stack: AsyncExitStack) -> None:
        """The admin API, where it has a socket."""
        bound = bind_admin(self._config.admin)
        if bound is None:
            return
        path, sock = bound
        stack.callback(path.unlink, missing_ok=True)
        operations = SupervisorOperations(lambda: self._config, self._pools, self._memory.pins, self)
        stack.push_async_callback(operations.close)
        operations.start()
        api = AdminApi(operations)
        stack.push_async_callback(api.close)
        await api.start(sock)

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
        return Orders({"states": _states(self._pools.values())}, briefing, every, self._kept.messages(number))

    def _briefing(self, number: int, share: Config, bound: Bound, found: Addresses) -> tuple[Briefing, list[int]]:
        """What a worker is told, and the descriptors of its sockets."""
        sockets = sockets_of(bound, number)
        briefing = Briefing(
            number=number,
            config=share,
            ticket_secret=self._ticket_secret,
            hub=self._memory.plan,
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
        _log.info("access log reopened")

    # ------------------------------------------------------------------------------ pools

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            now = monotonic()
            for pool in self._pools.values():
                for backend in pool.tick(now):
                    _log.info("backend back from ejection", extra={"pool": pool.name, "backend": backend.name})
                if pool.is_panicking is not (pool.name in self._panicking):
                    self._tell_of_panic(pool)

    def _tell_of_panic(self, pool: Pool) -> None:
        facts: dict[str, Any] = {"pool": pool.name, "threshold": pool.config.panic_threshold}
        if pool.is_panicking:
            self._panicking.add(pool.name)
            _log.warning("panic: too few backends are up, health is ignored for new work", extra=facts)
        else:
            self._panicking.remove(pool.name)
            _log.info("panic is over", extra=facts)

    # ------------------------------------------------------------------------------ another configuration

    async def reload(self, *, is_dry_run: bool = False) -> ReloadPlan:
        """Take up what the configuration file says now: all of it, or nothing. Returns what was (or would be) changed.

        Raises ConfigError and CannotReload with everything as it was.
        """
        async with self._reloading:
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
            shadows = await self._first_looks(config, found)
            await self._prepare_workers(config, bound, found)
        except BaseException as error:
            close_places(fresh, but=former_places)
            if isinstance(error, OSError | ValueError):
                raise CannotReload(str(error)) from error
            raise
        for swap in swaps:
            swap()
        await self._change_pools(config, shadows)
        address_backends(self._pools, found)
        self._config, self._share, self._sockets, self._addresses = config, share_for_worker(config), bound, found
        await self._commit_workers()
        close_places(former_places, but=fresh)

    def _client_swaps(self, config: Config) -> list[Callable[[], None]]:
        """What gives checks the TLS of pools that have another now. Raises OSError and ValueError."""
        swaps = []
        for name, pool in config.pools.items():
            known = self._config.pools.get(name)
            if pool.upstream_tls is not None and (known is None or known.upstream_tls != pool.upstream_tls):
                swaps.append(self._tls_files.prepare_client(name, pool.upstream_tls.files))
        return swaps

    async def _first_looks(self, config: Config, found: Addresses) -> dict[str, Pool]:
        """Pools that are new, or have new backends, with what a first probe says of each: before they get any work."""
        shadows = {}
        for name, settings in config.pools.items():
            known = self._config.pools.get(name)
            places = {one.name: one.address for one in known.backends} if known is not None else {}
            if any(places.get(one.name) != one.address for one in settings.backends):
                shadows[name] = Pool(name, settings, random.random)
        address_backends(shadows, [one for one in found if one[0] in shadows])
        looks = Prober(TlsFiles(self._ticket_secret, config.tls.file_check_interval_s))
        try:
            async with asyncio.timeout(_FIRST_LOOK_S):
                await looks.start(shadows.values())
        except TimeoutError:
            _log.warning("not every new backend has answered its first probe")
        finally:
            await looks.close()
        return shadows

    async def _prepare_workers(self, config: Config, bound: Bound, found: Addresses) -> None:
        share = share_for_worker(config)

        def question(number: int) -> Message:
            briefing, descriptors = self._briefing(number, share, bound, found)
            return Message({"kind": "prepare"}, pickle.dumps(briefing), tuple(descriptors))

        answers = await self._crew.ask_all(question, _ANSWER_S)
        faults = [str(words.get("fault", "a worker talks nonsense")) for words in answers.values()]
        fault = next(filter(None, faults), "")
        if fault or len(answers) < self._crew.alive:
            self._crew.tell_all(Message({"kind": "abandon"}))
            raise CannotReload(fault or "a worker does not answer")

    async def _commit_workers(self) -> None:
        prepared = {seat.number: seat.asked for seat in self._crew.seats}
        states = _states(self._pools.values())
        await self._crew.ask_all(
            lambda number: Message({"kind": "commit", "prepared": prepared[number], "states": states}), _ANSWER_S
        )

    async def _change_pools(self, config: Config, shadows: Mapping[str, Pool]) -> None:
        for name in self._pools.keys() - config.pools.keys():
            await self._prober.forget(self._pools.pop(name))
            self._panicking.discard(name)
        for name, settings in config.pools.items():
            known = self._pools.get(name)
            if known is not None and known.config == settings:
                continue
            pool = known or shadows[name]
            if known is not None:
                await self._prober.forget(known)
                seen = set(known.backends)
                known.reconfigure(settings)
                _look_alike(known, shadows.get(name), seen)
            self._pools[name] = pool
            pool.on_change = self._note_change
            self._prober.watch(pool)


def _look_alike(pool: Pool, shadow: Pool | None, seen: set[str]) -> None:
    """Backends that are new to a pool are as their first probe has found them."""
    for name, backend in pool.backends.items():
        if shadow is not None and name not in seen:
            found = shadow.backends[name].health
            backend.health.decide(found.health, found.reason, found.changed_at)
    pool.refresh()


def _told(plan: ReloadPlan) -> dict[str, object]:
    return {"changes": "; ".join(plan.changes)} if plan.changes else {}


def _states(pools: Iterable[Pool]) -> list[dict[str, Any]]:
    return [BackendState.of(backend).words() for pool in pools for backend in pool.backends.values()]


def _try_access_file(config: Config) -> None:
    """Whether it can be written, before anything is started: each worker opens it by itself."""
    path = config.log.access_file
    if path is None or not config.log.access:
        return
    try:
        LogFile(path).close()
    except OSError as error:
        raise CannotBind(f"log: cannot write access_file {path}: {error.strerror or error}") from error
