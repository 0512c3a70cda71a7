"""Starts the balancer's parts in order, keeps them until it is told to stop, and stops them in reverse."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import random
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any, Final

import uvloop

from mfalb.balancer.admin.server import AdminServer
from mfalb.balancer.affinity.hub import HubPlan
from mfalb.balancer.config.models import Config
from mfalb.balancer.config.radius_models import RadiusListener
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.config.shares import share_for_worker
from mfalb.balancer.config.values import Address
from mfalb.balancer.exchange.flight_log import RING_BYTES
from mfalb.balancer.health.prober import Prober
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.backend_state import BackendState
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.crew import Crew, Orders
from mfalb.balancer.supervisor.evidence import EvidenceDesk
from mfalb.balancer.supervisor.kept_sockets import KeptSockets
from mfalb.balancer.supervisor.nursery import start_nursery
from mfalb.balancer.supervisor.reports import Reports
from mfalb.balancer.supervisor.sockets import Bound, CannotBind, bind_all, close_all, sockets_of
from mfalb.balancer.supervisor.worker_process import Briefing, quiet_on_peers_faults, run_worker
from mfalb.net.control_channel import Message
from mfalb.net.descriptors import allow_many_descriptors
from mfalb.net.lifecycle import Tasks
from mfalb.net.ticket_keys import SECRET_BYTES
from mfalb.net.tls_files import TlsFiles
from mfalb.telemetry import unraisable
from mfalb.telemetry.log_file import LogFile

_TICK_S: Final = 0.25

_log = logging.getLogger("mfalb.supervisor")


def run(config: Config, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises CannotBind before anything was served."""
    allow_many_descriptors()
    unraisable.install()
    _try_access_file(config)
    sockets = bind_all(config)
    nursery, pid = start_nursery(run_worker)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Supervisor(config, sockets, nursery).serve(on_ready))
    finally:
        nursery.close()
        os.waitpid(pid, 0)
        close_all(sockets)


class Supervisor:
    """What outlives a worker: sockets, pins, the pools that decide, health, the admin port."""

    def __init__(self, config: Config, sockets: Bound, nursery: socket.socket) -> None:
        self._config = config
        self._share = share_for_worker(config)
        self._sockets = sockets
        self._nursery = nursery
        self._pools = {name: Pool(name, pool, random.random) for name, pool in config.pools.items()}
        self._desk = EvidenceDesk(self._pools)
        self._hub = HubPlan(config.workers, config.pins.limit)
        self._hub_descriptor = os.memfd_create("mfalb-pins", os.MFD_CLOEXEC)
        os.ftruncate(self._hub_descriptor, self._hub.size_bytes)
        self._hub_memory = mmap.mmap(self._hub_descriptor, self._hub.size_bytes)
        self._flights_descriptor = os.memfd_create("mfalb-flights", os.MFD_CLOEXEC)
        os.ftruncate(self._flights_descriptor, config.workers * RING_BYTES)
        self._kept = KeptSockets(self._pools)
        self._ticket_secret = os.urandom(SECRET_BYTES)
        self._addresses: list[tuple[str, str, str, int]] = []
        self._changed: dict[str, Pool] = {}
        self._panicking: set[str] = set()
        self._tasks = Tasks("supervisor")
        self._crew: Crew
        self._reports: Reports

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Until SIGTERM or SIGINT. Raises CannotBind."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(quiet_on_peers_faults)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reopen)
        await self._resolve_radius_backends()
        self._crew = Crew(self._nursery, self._config.workers, self._brief, self._heard)
        self._reports = Reports(self._crew, self._pools)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._tasks.close)
            stack.callback(self._kept.close)
            tls_files = TlsFiles(self._ticket_secret, self._config.tls.file_check_interval_s)
            stack.push_async_callback(tls_files.close)
            stack.push_async_callback(self._crew.stop)
            prober = Prober(self._pools.values(), tls_files)
            stack.push_async_callback(prober.close)
            admin = AdminServer(self._config.admin.bind, self._reports, self._pools)
            stack.push_async_callback(admin.close)
            try:
                await admin.start()
            except OSError as error:
                raise CannotBind(f"admin: cannot bind {self._config.admin.bind}: {error.strerror or error}") from error
            for pool in self._pools.values():
                pool.on_change = self._note_change
            await prober.start()
            await self._crew.start()
            tls_files.start()
            self._tasks.start("tend pools", self._tend())
            facts = {"listeners": len(self._config.listeners), "pools": len(self._pools)}
            _log.info("ready", extra=facts | {"workers": self._config.workers})
            on_ready()
            await stop.wait()
            _log.info("stopping")

    # ------------------------------------------------------------------------------ workers

    def _brief(self, number: int) -> Orders:
        sockets = sockets_of(self._sockets, number)
        briefing = Briefing(
            number=number,
            config=self._share,
            ticket_secret=self._ticket_secret,
            hub=self._hub,
            sockets=tuple((name, len(some)) for name, some in sockets),
            addresses=tuple(self._addresses),
        )
        descriptors = [sock.fileno() for _, some in sockets for sock in some]
        backends = (one for pool in self._pools.values() for one in pool.backends.values())
        memory = (self._hub_descriptor, self._flights_descriptor)
        kept = self._kept.messages(number)
        return Orders({"states": _states(backends)}, briefing, (*memory, *descriptors), kept)

    def _heard(self, number: int, message: Message) -> None:
        if message.descriptors:
            if not self._kept.take_untrusted(number, message):
                self._reports.forged += 1
        elif not self._desk.take_untrusted(number, message.words):
            self._reports.forged += 1

    def _note_change(self, pool: Pool) -> None:
        """Workers are told at the end of this round of the loop: what changes together is told together."""
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._tell_changes)
        self._changed[pool.name] = pool

    def _tell_changes(self) -> None:
        changed, self._changed = self._changed, {}
        states = _states(one for pool in changed.values() for one in pool.backends.values())
        self._crew.tell_all(Message({"kind": "backends", "states": states}))

    def _reopen(self) -> None:
        """SIGHUP: the access log was renamed."""
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

    async def _resolve_radius_backends(self) -> None:
        """Turn host names of RADIUS backends into addresses once: the data path may not wait for a name server.

        Over TLS each connection looks its host up, and the certificate is checked against the name.
        """
        loop, config = asyncio.get_running_loop(), self._config
        for listener in config.listeners:
            if not isinstance(listener, RadiusListener | RadsecListener):
                continue
            over_udp = [self._pools[name] for name in listener.pools.values() if not config.pools[name].upstream_tls]
            for pool in over_udp:
                for backend in pool.backends.values():
                    host, port = backend.address.host, backend.address.port
                    try:
                        found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
                    except OSError as error:
                        raise CannotBind(f"pool {pool.name}: backend {backend.name}: cannot find {host}") from error
                    backend.address = Address(str(found[0][4][0]), port)
                    self._addresses.append((pool.name, backend.name, backend.address.host, port))


def _states(backends: Any) -> list[dict[str, Any]]:
    some: list[Backend] = list(backends)
    return [BackendState.of(backend).words() for backend in some]


def _try_access_file(config: Config) -> None:
    """Whether it can be written, before anything is started: each worker opens it by itself."""
    path = config.log.access_file
    if path is None or not config.log.access:
        return
    try:
        LogFile(path).close()
    except OSError as error:
        raise CannotBind(f"log: cannot write access_file {path}: {error.strerror or error}") from error
