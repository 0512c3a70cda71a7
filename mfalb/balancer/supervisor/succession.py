"""Handing the service over to another process while everybody is served, and going on where that fails."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import mfalb
from mfalb.balancer.admin import api_models as api
from mfalb.balancer.config.models import Config, HttpListener
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.config.tcp_models import TcpListener
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.crew import Crew
from mfalb.balancer.supervisor.desks import OperatorsDesks
from mfalb.balancer.supervisor.formers import Formers, HandedSeat
from mfalb.balancer.supervisor.hand_over import (
    Backends,
    CannotUpgrade,
    Exchanges,
    HandedDrain,
    Kept,
    Released,
    Reopen,
    Serve,
    Stop,
    said,
)
from mfalb.balancer.supervisor.heir import SERVE_TIMEOUT_S, Heir
from mfalb.balancer.supervisor.kept_sockets import KeptSockets
from mfalb.balancer.supervisor.legacy import standing_of
from mfalb.balancer.supervisor.offer import Offer
from mfalb.balancer.supervisor.service import Service
from mfalb.balancer.supervisor.shared_memory import SharedMemory, free_generation
from mfalb.balancer.supervisor.sockets import CannotBind, Places
from mfalb.net.control_channel import Message
from mfalb.net.lifecycle import Tasks

_HAND_OVER_TIMEOUT_S: Final = 5.0
_LEAST_STAY_S: Final = 1.0

_log = logging.getLogger("mfalb.supervisor")


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a supervisor has and can.

    `let_workers_wait`: whether workers that are begun from now on wait to be allowed to serve.
    """

    crew: Crew
    kept: KeptSockets
    formers: Formers
    memory: SharedMemory
    secret: bytes
    desks: OperatorsDesks
    service: Service
    pools: Mapping[str, Pool]
    drains: Callable[[], list[HandedDrain]]
    config: Callable[[], Config]
    places: Callable[[], Places]
    let_workers_wait: Callable[[bool], None]


class Succession:
    """Of one supervisor, who has one heir at most."""

    def __init__(self, holdings: Holdings) -> None:
        self._has = holdings
        self._heir: Heir | None = None

    @property
    def is_over(self) -> bool:
        """Whether another process serves."""
        return self._heir is not None

    async def hand_over(self) -> api.Upgraded:
        """Let another process take over. Raises CannotUpgrade with everything served as before."""
        if self._heir is not None:
            raise CannotUpgrade(f"process {self._heir.pid} has taken over already")
        try:
            heir, sockets = await self._hand_over()
        except CannotUpgrade as error:
            _log.error("nobody took over, this process serves on", extra={"reason": str(error)})
            raise
        self._heir = heir
        _log.info("another process serves now", extra={"pid": heir.pid})
        self._has.service.replaced_by(heir.pid)
        heir.tell(Released())
        return api.Upgraded(
            pid=heir.pid,
            former_pid=os.getpid(),
            addresses=len(self._has.places()),
            upstream_sockets=sockets,
            drains=len(self._has.drains()),
            drain_s=self._has.config().drain_timeout_s,
        )

    async def _hand_over(self) -> tuple[Heir, int]:
        """Returns who took over, and how many sockets towards backends it got."""
        heir, seats = await self._begin_another(), dict[int, HandedSeat]()
        try:
            await self._collect(seats)
            _tell(heir, seats)
            heir.tell(Serve(states=standing_of(self._has.pools.values()), drains=self._has.drains()))
            await heir.serving()
        except CannotUpgrade:
            await heir.give_up()  # before anybody else reads its sockets
            await self._go_on(seats)
            raise
        finally:
            for handed in seats.values():
                handed.close()
        return heir, sum(len(message.descriptors) for handed in seats.values() for message in handed.kept)

    async def _begin_another(self) -> Heir:
        """Up to where it could serve; until then nothing has changed here."""
        formers, heir = self._has.formers, Heir()
        generation = free_generation({self._has.memory.plan.generation, *formers.generations})
        if generation is None:
            pids = ", ".join(map(str, formers.pids))
            raise CannotUpgrade(f"former processes still end their connections: {pids}; wait, or send them SIGTERM")
        await heir.start(self._offer(generation).messages(), {**os.environ, **self._has.service.environment})
        try:
            await heir.prepared()
        except BaseException:
            await heir.give_up()
            raise
        return heir

    def _offer(self, generation: int) -> Offer:
        has = self._has
        return Offer(
            version=mfalb.__version__,
            pid=os.getpid(),
            own_generation=has.memory.plan.generation,
            plan=replace(has.memory.plan, generation=generation),
            memory=has.memory.descriptors,
            secret=has.secret,
            places=has.places(),
            admin_port=has.desks.port,
            admin_socket=has.desks.socket,
            kin=has.formers.handed_on(),
            states=standing_of(has.pools.values()),
            drains=has.drains(),
        )

    async def _collect(self, seats: dict[int, HandedSeat]) -> None:
        """From here on our workers begin nothing more."""
        crew, config = self._has.crew, self._has.config()
        words = {"kind": "hand_over", "drain_s": config.drain_timeout_s, "linger_s": _longest_opening_s(config)}
        alive = crew.alive
        crew.replace_nobody()
        answers = await crew.ask_all(lambda _: Message(words), _HAND_OVER_TIMEOUT_S)
        for number, told in answers.items():
            kept = self._has.kept.messages(number, told["owners"])
            seats[number] = HandedSeat(list(kept), told.get("descriptors", ()), told["last_socket"])
        if len(answers) < alive:
            raise CannotUpgrade("a worker does not answer")

    async def _go_on(self, seats: Mapping[int, HandedSeat]) -> None:
        """Others of ours sit down where those sat who have handed over."""
        _log.error("the new process has failed: workers of ours go on")
        self._has.let_workers_wait(True)
        self._has.crew.renew()
        try:
            await self._has.crew.start()
            await let_serve(self._has.crew, seats)
        except CannotBind as error:
            raise CannotUpgrade(str(error)) from error
        finally:
            self._has.let_workers_wait(False)

    async def end_in_peace(self, stop: asyncio.Event) -> None:
        """Until our workers have ended what they began, or may not go on with it any longer, or `stop` is set."""
        if self._heir is None:
            return
        self._has.formers.close(is_end=False)
        tasks = Tasks("in peace")
        tasks.start("follow the heir", self._follow(self._heir, stop))
        tasks.start("wait for workers", self._stop_when_all_gone(stop))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._has.config().drain_timeout_s + _HAND_OVER_TIMEOUT_S):
                await stop.wait()
        await tasks.close()

    async def _stop_when_all_gone(self, stop: asyncio.Event) -> None:
        await self._has.crew.all_gone()
        stop.set()

    async def _follow(self, heir: Heir, stop: asyncio.Event) -> None:
        """Our workers go by what it knows of backends. When it ends, they stay as they are."""
        while (word := await heir.next_word()) is not None:
            if isinstance(word, Backends):
                self._has.crew.tell_all(Message({"kind": "backends", "states": word.states}))
            elif isinstance(word, Reopen):
                self._has.crew.tell_all(Message({"kind": "reopen"}))
            elif isinstance(word, Stop):
                stop.set()


def _longest_opening_s(config: Config) -> float:
    """How long a connection may have been accepted before it is known to whoever counts connections."""
    longest = _LEAST_STAY_S
    for one in config.listeners:
        if isinstance(one, HttpListener | TcpListener) and one.proxy_protocol is not None:
            header_s = one.limits.header_timeout_s if isinstance(one, HttpListener) else one.limits.hello_timeout_s
            longest = max(longest, header_s)
        if isinstance(one, HttpListener | RadsecListener) and one.tls is not None:
            longest = max(longest, one.limits.handshake_timeout_s)
    return longest


def _tell(heir: Heir, seats: Mapping[int, HandedSeat]) -> None:
    for number, handed in seats.items():
        for message in handed.kept:
            sockets = [tuple(one) for one in message.words["sockets"]]
            heir.send(said(Kept(seat=number, sockets=sockets), descriptors=message.descriptors))
        heir.tell(Exchanges(seat=number, last_socket=handed.last_socket), handed.memory)


async def let_serve(crew: Crew, seats: Mapping[int, HandedSeat]) -> None:
    """Workers that wait begin to serve, each where another has left off. Raises CannotUpgrade when one does not."""
    for seat in crew.seats:
        for message in seats[seat.number].kept if seat.number in seats else ():
            if seat.channel is not None:
                seat.channel.send(message)

    def order(number: int) -> Message:
        handed = seats.get(number, HandedSeat([]))
        return Message({"kind": "serve", "last_socket": handed.last_socket}, descriptors=handed.memory)

    answers = await crew.ask_all(order, SERVE_TIMEOUT_S)
    if len(answers) < len(crew.seats):
        raise CannotUpgrade("a worker does not begin to serve")
