"""The balancer as a service: when it is ready, how it is, and that it is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.crew import Crew
from mfalb.balancer.supervisor.notify import Notifier
from mfalb.net.lifecycle import Tasks

_LOOK_S: Final = 1.0
_PINGS_A_PERIOD: Final = 2  # as sd_watchdog_enabled(3) recommends


class Service:
    """Tells the service manager.

    The watchdog is about the supervisor: while one of several workers gives no sign of life the pings go on, as a
    restart would end what the others carry. While none of those that should serve does, they stop.
    """

    def __init__(self, notifier: Notifier, crew: Crew, pools: Mapping[str, Pool]) -> None:
        self._notifier = notifier
        self._crew = crew
        self._pools = pools
        self._told = ""

    def start(self, tasks: Tasks) -> None:
        """Every worker serves."""
        self._ready()
        tasks.start("tell the status", self._tell_status())
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

    async def _tell_status(self) -> None:
        """Whenever it has changed, for ever."""
        while True:
            status = self._status()
            if status != self._told:
                self._told = status
                self._notifier.status(status)
            await asyncio.sleep(_LOOK_S)

    async def _ping(self) -> None:
        """The watchdog's pings, for ever; none are sent while nobody serves."""
        while self._notifier.watchdog_s:
            if not 0 < self._crew.alive == self._crew.silent:
                self._notifier.alive()
            await asyncio.sleep(self._notifier.watchdog_s / _PINGS_A_PERIOD)

    def _status(self) -> str:
        """One line for an operator, of nothing but our own names."""
        seats = self._crew.seats
        words = f"{self._crew.alive - self._crew.silent} of {len(seats)} workers serve"
        empty = sorted(name for name, pool in self._pools.items() if not pool.can_serve)
        return f"{words}; no backend: {', '.join(empty)}" if empty else words
