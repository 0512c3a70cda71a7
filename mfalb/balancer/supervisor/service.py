"""The balancer as a service: when it is ready, how it is, and that it is alive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.crew import Crew
from mfalb.balancer.supervisor.notify import Notifier
from mfalb.net.control_channel import Message
from mfalb.net.lifecycle import Tasks

_LOOK_S: Final = 5.0
_ANSWER_S: Final = 4.0  # a worker that takes longer stands still
_PINGS_A_PERIOD: Final = 2  # as sd_watchdog_enabled(3) recommends

_log = logging.getLogger("mfalb.supervisor.service")


class Service:
    """Tells the service manager, and looks after workers that run but do nothing.

    The watchdog is about the supervisor: one silent worker of several is logged and counted, but the pings go on, as
    a restart would end what the others carry. When none of those that should serve answers, they stop.
    """

    def __init__(self, notifier: Notifier, crew: Crew, pools: Mapping[str, Pool]) -> None:
        self._notifier = notifier
        self._crew = crew
        self._pools = pools
        self._silent: set[int] = set()
        self._nobody_answers = False
        self._told = ""

    def start(self, tasks: Tasks) -> None:
        """Every worker serves."""
        self._ready()
        tasks.start("look after workers", self._look_after_workers())
        tasks.start("ping the watchdog", self._ping())

    def _ready(self) -> None:
        self._told = self._status()
        self._notifier.ready(self._told)

    @property
    def environment(self) -> dict[str, str]:
        """What a process that replaces us needs besides."""
        return self._notifier.environment

    def replaced_by(self, pid: int) -> None:
        """Another process is the service now."""
        self._notifier.replaced_by(pid)

    def stopping(self) -> None:
        """SIGTERM has come."""
        self._notifier.stopping()

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """While another configuration is taken up; whatever comes of it, we are ready afterwards."""
        self._notifier.reloading()
        try:
            yield
        finally:
            self._ready()

    async def _look_after_workers(self) -> None:
        """Every few seconds, for ever."""
        while True:
            asked = {seat.number: seat.born_at for seat in self._crew.seats if seat.is_ready}
            answers = await self._crew.ask_all(lambda _: Message({"kind": "report"}), _ANSWER_S)
            for seat in self._crew.seats:
                if asked.get(seat.number) == seat.born_at:  # neither ended nor replaced meanwhile
                    self._heard_of(seat.number, is_silent=seat.number not in answers)
            self._silent &= asked.keys()
            self._nobody_answers = bool(asked) and not answers and bool(self._silent)
            status = self._status()
            if status != self._told:
                self._told = status
                self._notifier.status(status)
            await asyncio.sleep(_LOOK_S)

    def _heard_of(self, number: int, *, is_silent: bool) -> None:
        if is_silent:
            self._crew.seats[number].silences += 1
        if is_silent and number not in self._silent:
            self._silent.add(number)
            _log.error("a worker does not answer", extra={"worker": number, "waited_s": _ANSWER_S})
        elif not is_silent and number in self._silent:
            self._silent.remove(number)
            _log.info("a worker answers again", extra={"worker": number})

    async def _ping(self) -> None:
        """The watchdog's pings, for ever; none are sent while nobody serves."""
        while self._notifier.watchdog_s:
            if not self._nobody_answers:
                self._notifier.alive()
            await asyncio.sleep(self._notifier.watchdog_s / _PINGS_A_PERIOD)

    def _status(self) -> str:
        """One line for an operator, of nothing but our own names."""
        seats = self._crew.seats
        words = f"{self._crew.alive - len(self._silent)} of {len(seats)} workers serve"
        empty = sorted(name for name, pool in self._pools.items() if not pool.can_serve)
        return f"{words}; no backend: {', '.join(empty)}" if empty else words
