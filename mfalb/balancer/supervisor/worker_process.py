"""A worker as a process: what its supervisor says, and what it says itself.

From the supervisor: `kept` (before `begin`; a predecessor's sockets towards RADIUS backends), `begin` (once; the
configuration, the states of backends, descriptors of the shared memory and the sockets), `backends` (states that have
changed), `live` (asks for a sign of life), `report` (asks for numbers), `peek` (asks whose turn is next), `reopen`
(the access log was renamed), `prepare`, `commit` and `abandon` (another configuration, in two steps), `stop`. When the
balancer's code is exchanged (`hand_over`) the former supervisor's workers hear `hand_over` (begin nothing more, tell
what a successor needs, end when nothing is left); the new one's are told by `begin` to wait, read what they need, and
serve from `serve` on.
From the worker: `ready` or `unfit` after `begin`, `report`, `answer`, `handed` (with a memory descriptor),
`keep` and `let_go` (a socket towards a RADIUS backend, to be held for a successor, or no more), and evidence
(`pools.evidence`). When the channel ends the supervisor is gone, and the worker goes, too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import random
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from time import monotonic, time
from typing import Any, Final

import uvloop

from mfalb.balancer.admin.summed_metrics import words_of
from mfalb.balancer.admin.suspects import suspects
from mfalb.balancer.admin.worker_metrics import WorkerMetrics
from mfalb.balancer.affinity.hub import Hub
from mfalb.balancer.config.models import Config, HttpListener, LogFormat
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.exchange.flight_log import FlightLog
from mfalb.balancer.pools.backend_state import follow_all
from mfalb.balancer.pools.evidence import ReportedEvidence
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.shared_memory import MemoryPlan
from mfalb.balancer.supervisor.worker_descriptors import (
    handed_memory,
    handed_services,
    kept_sockets,
    listening_sockets,
    mapped,
)
from mfalb.balancer.upstreams.custody import KeptSocket, SocketKeeper
from mfalb.balancer.worker import Worker, WorkerParts, address_backends
from mfalb.net.control_channel import ControlChannel, Message
from mfalb.net.lifecycle import Tasks
from mfalb.net.tls_files import TlsFiles
from mfalb.telemetry import unraisable
from mfalb.telemetry.log import AccessLog, is_journal
from mfalb.telemetry.log_file import LogFile, StandardError

_MARK_BYTES: Final = 8
_LEFT_LOOK_S: Final = 0.2

_log = logging.getLogger("mfalb.worker")


@dataclass(frozen=True, slots=True)
class Briefing:
    """What a worker begins with. Goes from the supervisor to its workers only, so pickle may carry it.

    `sockets` has how many of the descriptors are each listener's, in order; before them are two of shared memory: the
    pins and the flights.
    """

    number: int
    config: Config
    ticket_secret: bytes
    memory: MemoryPlan
    sockets: tuple[tuple[str, int], ...]
    addresses: tuple[tuple[str, str, str, int], ...]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A configuration that can be put into use. `message` has the descriptors of its sockets."""

    number: int
    briefing: Briefing
    swaps: list[Callable[[], None]]
    message: Message


def run_worker(control: int) -> None:
    """The process's life, with the descriptor of its control channel."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the supervisor sees to its workers
    unraisable.install()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(WorkerProcess(control).run())


class WorkerProcess:
    """The worker's end of the control channel."""

    def __init__(self, control: int) -> None:
        self._control = control
        self._stop = asyncio.Event()
        self._briefed: asyncio.Future[Message | None] | None = None
        self._worker: Worker | None = None
        self._evidence: ReportedEvidence | None = None
        self._access_file: LogFile | None = None
        self._pools: dict[str, Pool] = {}
        self._prepared: _Prepared | None = None
        self._tasks = Tasks("worker process")
        self._kept: list[KeptSocket] = []
        self._may_serve: asyncio.Future[Message | None] | None = None
        self._keeper: SocketKeeper | None = None
        self._channel: ControlChannel

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(quiet_on_peers_faults)
        loop.add_signal_handler(signal.SIGTERM, self._end)
        self._briefed = loop.create_future()
        self._channel = ControlChannel(socket.socket(fileno=self._control), self._received, self._end)
        message = await self._briefed
        if message is not None:
            async with AsyncExitStack() as stack:
                await self._begin(message, stack)
                await self._stop.wait()
                await self._tasks.close()
        self._channel.close()

    def _end(self) -> None:
        """The supervisor is gone, or does not want us any more."""
        self._stop.set()
        for awaited in (self._briefed, self._may_serve):
            if awaited is not None and not awaited.done():
                awaited.set_result(None)

    # ------------------------------------------------------------------------------ what is said

    def _received(self, message: Message) -> None:
        kind = message.kind
        if kind == "begin" and self._briefed is not None and not self._briefed.done():
            self._briefed.set_result(message)
        elif kind == "kept":
            self._kept += kept_sockets(message)
        elif kind == "serve" and self._may_serve is not None and not self._may_serve.done():
            self._may_serve.set_result(message)
        elif kind == "hand_over":
            self._tasks.start("hand over", self._hand_over(message))
        elif kind == "stop":
            self._end()
        else:
            self._asked(message)

    def _asked(self, message: Message) -> None:
        kind = message.kind
        if kind == "backends":
            self._follow(message.words["states"])
        elif kind == "live":
            self._channel.send(Message({"kind": "answer", "id": message.words["id"]}))
        elif kind == "report":
            if self._evidence is not None:
                self._evidence.tick()
            self._channel.send(Message({"kind": "report", "id": message.words["id"], **self._report()}))
        elif kind == "peek":
            pool = self._pools.get(message.words["pool"])
            next_one = None if pool is None else pool.peek(bytes.fromhex(message.words["key"]))
            name = None if next_one is None else next_one.name
            self._channel.send(Message({"kind": "answer", "id": message.words["id"], "backend": name}))
        elif kind == "prepare":
            self._prepare(message)
        elif kind == "abandon":
            self._abandon()
        elif kind == "commit":
            self._tasks.start("commit", self._commit(message))
        elif kind == "reopen":
            self._reopen()

    async def _begin(self, message: Message, stack: AsyncExitStack) -> None:
        briefing: Briefing = pickle.loads(message.data)  # noqa: S301 - only the supervisor has the other end
        hub_descriptor, flights_descriptor, *descriptors = message.descriptors
        config = briefing.config
        self._pools = {name: Pool(name, pool, random.random, follows=True) for name, pool in config.pools.items()}
        address_backends(self._pools, briefing.addresses)
        evidence = self._evidence = ReportedEvidence(self._pools, lambda words: self._channel.send(Message(words)))
        self._report_suspicions(evidence)
        self._follow(message.words["states"])
        for one in self._pools.values():
            for _ in range(briefing.number):  # workers that all began with the first backend would favour it
                one.pick()
        plan, region = briefing.memory, briefing.memory.region(briefing.number)
        memory = mapped(hub_descriptor, plan.hub.size_bytes)
        flights = mapped(flights_descriptor, plan.flights_bytes)
        tls_files = TlsFiles(briefing.ticket_secret, config.tls.file_check_interval_s)
        stack.push_async_callback(tls_files.close)
        access_log = self._access_log(config, stack)
        try:
            order = await self._wait_for_our_turn(config, tls_files) if message.words["waits"] else None
            if self._stop.is_set():
                return
            keeper = self._keeper = SocketKeeper(FlightLog(flights, region), self._kept, self._keep, self._let_go)
            parts = WorkerParts(
                config=config,
                pools=self._pools,
                sockets=listening_sockets(briefing.sockets, descriptors),
                pins=Hub(memory, plan.hub, region),
                evidence=evidence,
                tls_files=tls_files,
                access_log=access_log,
                keeper=keeper,
                mark=partial(_mark, briefing.ticket_secret),
                handed=handed_services(order, keeper),
            )
            self._worker = Worker(parts)
            stack.push_async_callback(self._worker.close)
            await self._worker.start()
        except (OSError, ssl.SSLError, ValueError) as error:
            self._channel.send(Message({"kind": "unfit", "reason": str(error)}))
            self._stop.set()
            return
        tls_files.start()
        answer = {"kind": "ready"} if order is None else {"kind": "answer", "id": order.words["id"], "fault": ""}
        self._channel.send(Message(answer))

    async def _wait_for_our_turn(self, config: Config, tls_files: TlsFiles) -> Message | None:
        """Say that we could serve, once all is read that can fail; returns the order to, None when it does not come.

        Raises OSError, ssl.SSLError and ValueError.
        """
        for listener in config.listeners:
            if isinstance(listener, HttpListener | RadsecListener) and listener.tls is not None:
                tls_files.server(listener.name, listener.tls.files)
        for name, pool in config.pools.items():
            if pool.upstream_tls is not None:
                tls_files.client(name, pool.upstream_tls.files)
        self._may_serve = asyncio.get_running_loop().create_future()
        self._channel.send(Message({"kind": "ready"}))
        return await self._may_serve

    async def _hand_over(self, message: Message) -> None:
        """Another worker goes on here; what is under way over TCP ends here, and then this process."""
        worker, keeper = self._worker, self._keeper
        if worker is None or keeper is None:
            return
        services = await worker.hand_over()
        memory = handed_memory(services)  # open until the end: it may take a while to be sent
        words = {"kind": "handed", "id": message.words["id"], "last_socket": keeper.last}
        self._channel.send(Message(words | {"owners": [one.owner for one in services]}, descriptors=(memory,)))
        begun_at = monotonic()
        while worker.left or monotonic() - begun_at < message.words["linger_s"]:
            if monotonic() - begun_at >= message.words["drain_s"]:
                break
            await asyncio.sleep(_LEFT_LOOK_S)
        self._end()

    def _report_suspicions(self, evidence: ReportedEvidence) -> None:
        for pool in self._pools.values():
            for backend in pool.backends.values():
                backend.on_suspicion = partial(evidence.suspected, backend)

    # ------------------------------------------------------------------------------ another configuration

    def _prepare(self, message: Message) -> None:
        """Read what a new configuration needs, and say whether that is possible. Nothing changes yet."""
        briefing: Briefing = pickle.loads(message.data)  # noqa: S301 - only the supervisor has the other end
        number, worker = message.words["id"], self._worker
        if worker is None:
            return  # it is asked only when it has said that it is ready
        try:
            swaps = worker.prepare(briefing.config)
        except (OSError, ssl.SSLError, ValueError) as error:
            for descriptor in message.descriptors:
                os.close(descriptor)
            self._channel.send(Message({"kind": "answer", "id": number, "fault": str(error) or type(error).__name__}))
            return
        self._prepared = _Prepared(number, briefing, swaps, message)
        self._channel.send(Message({"kind": "answer", "id": number, "fault": ""}))

    def _abandon(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            for descriptor in prepared.message.descriptors:
                os.close(descriptor)

    async def _commit(self, message: Message) -> None:
        """Do what was prepared."""
        prepared, self._prepared = self._prepared, None
        worker, evidence = self._worker, self._evidence
        if prepared is None or worker is None or evidence is None or prepared.number != message.words["prepared"]:
            self._end()  # we are not what the others are: the next worker will be
            return
        config = prepared.briefing.config
        for swap in prepared.swaps:
            swap()
        new = {
            name: Pool(name, pool, random.random, follows=True)
            for name, pool in config.pools.items()
            if name not in self._pools
        }
        sockets = listening_sockets(prepared.briefing.sockets, list(prepared.message.descriptors))
        await worker.change(config, new, sockets, prepared.briefing.addresses)
        self._report_suspicions(evidence)
        self._follow(message.words["states"])
        self._channel.send(Message({"kind": "answer", "id": message.words["id"], "fault": ""}))

    def _keep(self, opened: KeptSocket) -> None:
        words = {"kind": "keep", "number": opened.number, "owner": opened.owner, "backend": opened.backend}
        self._channel.send(Message(words, descriptors=(opened.socket.fileno(),)))

    def _let_go(self, number: int) -> None:
        self._channel.send(Message({"kind": "let_go", "number": number}))

    # ------------------------------------------------------------------------------ health and numbers

    def _follow(self, states: list[dict[str, Any]]) -> None:
        follow_all(self._pools, states, monotonic())

    def _report(self) -> dict[str, Any]:
        worker = self._worker
        if worker is None:
            return {"families": [], "suspects": {"suspects": []}, "backends": []}
        backends = [one for pool in self._pools.values() for one in pool.backends.values()]
        return {
            "families": words_of(WorkerMetrics(worker, self._pools).collect()),
            "suspects": suspects(worker.suspicions),
            "backends": [[one.pool, one.name, one.active, one.requests] for one in backends],
        }

    # ------------------------------------------------------------------------------ the access log

    def _access_log(self, config: Config, stack: AsyncExitStack) -> AccessLog | None:
        if not config.log.access:
            return None
        if config.log.access_file is not None:
            self._access_file = LogFile(config.log.access_file)
            stack.callback(self._access_file.close)
        stream = self._access_file or StandardError()
        for_journal = self._access_file is None and is_journal()
        return AccessLog(is_json=config.log.format is LogFormat.JSON, stream=stream, for_journal=for_journal)

    def _reopen(self) -> None:
        """It was renamed. What has gathered still belongs into it, all else into a new file."""
        if self._access_file is not None and self._worker is not None and self._worker.access_log is not None:
            self._worker.access_log.flush(time())
            self._access_file.reopen()


def _mark(secret: bytes, name: str) -> bytes:
    """What a service of a listener knows its own requests by: another with each start, and the same in all workers.

    What one has sent another one must know for its own, and send with the same bytes again.
    """
    return blake2b(name.encode(), digest_size=_MARK_BYTES, key=secret, person=b"mark").digest()


def quiet_on_peers_faults(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """What the event loop reports. A broken connection or handshake is a peer's doing: one line, no traceback."""
    error = context.get("exception")
    if isinstance(error, OSError | ssl.SSLError | EOFError):
        _log.debug("connection failed", extra={"reason": type(error).__name__})
    else:
        _log.error(
            "unexpected failure",
            extra={"context": context.get("message", "")},
            exc_info=error if isinstance(error, BaseException) else None,
        )
