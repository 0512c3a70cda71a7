"""The group's data for coroutines: the disk is waited for in threads, and whoever waits for a change is woken.

A write is made here, and is told to have been made when the slaves that are in step have it as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import apsw

from mfalb.errors import MfalbError
from mfalb.reference.config.values import User
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.data.position import Change, Epoch, Position
from mfalb.reference.mfa_server.data.writes import Texts, import_users, perform
from mfalb.reference.mfa_server.group.replicas import Replicas
from mfalb.reference.mfa_server.group.standing import Standing

Clock = Callable[[], float]


class NotMaster(MfalbError):  # noqa: N818 - says what happened
    """Writes are not made here, or not any more; nothing was written."""


class Ledger:
    """One server's `PhoneFactor.pfdata` and the news of it."""

    def __init__(self, pfdata: Pfdata, standing: Standing, clock: Clock) -> None:
        """`clock` gives unix seconds."""
        self.pfdata = pfdata
        self._standing = standing
        self.clock = clock
        self.replicas = Replicas(lambda: self.position.sequence)
        self._is_news = asyncio.Condition()

    @property
    def position(self) -> Position:
        return self.pfdata.position()

    async def write(self, name: str, texts: Texts) -> tuple[dict[str, str], Position]:
        """Make a write, and see that slaves in step have it. Raises WriteRefused and NotMaster: nothing was written."""
        now = self.clock()

        def work(db: apsw.Connection) -> dict[str, str]:
            if not self._standing.is_writable:  # asked when its turn has come: what waited may be too late
                raise NotMaster("writes are made elsewhere")
            return perform(db, name, texts, now)

        given, position = await asyncio.to_thread(self.pfdata.write, work, now)
        await self._tell()
        await self.replicas.wait_for(position.sequence)  # holds up this write only: the writer is free for the next one
        return given, position

    async def settled(self) -> Position:
        """The position when every write that was begun has ended."""
        await asyncio.to_thread(self.pfdata.wait_for_writer)
        return self.position

    async def import_users(self, users: tuple[User, ...]) -> None:
        await asyncio.to_thread(self.pfdata.write, lambda db: import_users(db, users), self.clock())
        await self._tell()

    async def begin_epoch(self, number: int) -> None:
        """Raises DataError."""
        await asyncio.to_thread(self.pfdata.begin_epoch, number)

    async def adopt_history(self, history: Sequence[Epoch]) -> None:
        await asyncio.to_thread(self.pfdata.adopt_history, history)

    async def apply(self, change: Change) -> None:
        """Raises DataError."""
        await asyncio.to_thread(self.pfdata.apply, change)
        await self._tell()

    async def load_snapshot(self, path: Path) -> None:
        """Raises DataError."""
        await asyncio.to_thread(self.pfdata.load_snapshot, path)
        await self._tell()

    async def has_reached(self, sequence: int, timeout_s: float) -> bool:
        """Wait until a change is here; false when it did not come in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._is_news:
                await self._is_news.wait_for(lambda: self.position.sequence >= sequence)
                return True
        return False

    async def _tell(self) -> None:
        async with self._is_news:
            self._is_news.notify_all()
