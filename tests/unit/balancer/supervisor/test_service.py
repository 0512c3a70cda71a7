"""A service manager hears how the crew is, once for each change; pings stop when nobody answers, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from unit.balancer.pools.pool_builder import pool_of
from unit.still_loop import run

from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.supervisor.crew import Crew, Seat
from mfalb.balancer.supervisor.notify import Notifier
from mfalb.balancer.supervisor.service import Service
from mfalb.net.lifecycle import Tasks

UP = (Health.UP, AdminState.READY)
LOOK_S = 1.0
WATCHDOG_S = 8.0


@dataclass
class FakeManager:
    """Notes what it is told, as `Notifier` tells it."""

    watchdog_s: float = WATCHDOG_S
    heard: list[str] = field(default_factory=list)

    def ready(self, status: str) -> None:
        self.heard.append(f"ready: {status}")

    def status(self, text: str) -> None:
        self.heard.append(text)

    def reloading(self) -> None:
        self.heard.append("reloading")

    def stopping(self) -> None:
        self.heard.append("stopping")

    def alive(self) -> None:
        self.heard.append("alive")

    def words(self) -> list[str]:
        """All but the pings, since the last time."""
        words = [word for word in self.heard if word != "alive"]
        self.heard.clear()
        return words

    def pings(self) -> int:
        """Since the last time."""
        pings = self.heard.count("alive")
        self.heard.clear()
        return pings


class FakeCrew:
    """Workers that serve; those in `still` give no sign of life."""

    def __init__(self, size: int = 2) -> None:
        self.seats = [Seat(number, is_ready=True) for number in range(size)]
        self.still: set[int] = set()

    @property
    def alive(self) -> int:
        return sum(seat.is_ready for seat in self.seats)

    @property
    def silent(self) -> int:
        return sum(seat.is_ready and seat.number in self.still for seat in self.seats)


@dataclass
class World:
    """A service, and those around it."""

    manager: FakeManager = field(default_factory=FakeManager)
    crew: FakeCrew = field(default_factory=FakeCrew)

    def __post_init__(self) -> None:
        self.pools = {"web": pool_of({"b1": UP})}
        notifier, crew = cast(Notifier, self.manager), cast(Crew, self.crew)
        self.service = Service(notifier, crew, self.pools)

    def run(self, story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        """The story, while the service runs."""

        async def told() -> None:
            tasks = Tasks("test")
            self.service.start(tasks)
            await asyncio.sleep(0.1)  # the first look and the first ping are over
            await story(self)
            await tasks.close()

        run(told())


async def looks(count: int = 1) -> None:
    await asyncio.sleep(count * LOOK_S)


def test_readiness_comes_with_how_many_serve_and_a_status_only_with_a_change() -> None:
    async def story(world: World) -> None:
        await looks(3)
        assert world.manager.words() == ["ready: 2 of 2 workers serve"]
        world.crew.seats[1].is_ready = False
        await looks(2)
        assert world.manager.words() == ["1 of 2 workers serve"]
        world.crew.seats[1].is_ready = True
        await looks(2)
        assert world.manager.words() == ["2 of 2 workers serve"]

    World().run(story)


def test_pools_without_a_backend_are_named() -> None:
    async def story(world: World) -> None:
        world.manager.words()
        for _ in range(3):
            world.pools["web"].observe("b1", is_good=False, reason="test", now=0.0)
        await looks()
        assert world.manager.words() == ["2 of 2 workers serve; no backend: web"]

    World().run(story)


def test_pings_go_on_while_one_worker_of_two_is_silent_and_the_status_says_so() -> None:
    async def story(world: World) -> None:
        world.crew.still = {1}
        world.manager.heard.clear()
        await asyncio.sleep(2 * WATCHDOG_S)
        assert world.manager.heard.count("alive") == 4
        assert world.manager.words() == ["1 of 2 workers serve"]
        world.crew.still = set()
        await looks()
        assert world.manager.words() == ["2 of 2 workers serve"]

    World().run(story)


def test_pings_stop_while_nobody_answers_and_go_on_with_the_first_answer() -> None:
    async def story(world: World) -> None:
        world.crew.still = {0, 1}
        await looks()
        world.manager.pings()
        await asyncio.sleep(4 * WATCHDOG_S)
        assert world.manager.pings() == 0
        world.crew.still = {1}
        await asyncio.sleep(WATCHDOG_S)
        world.manager.pings()
        await asyncio.sleep(WATCHDOG_S)
        assert world.manager.pings() == 2, "twice a period"

    World().run(story)


def test_places_of_workers_that_are_gone_do_not_stop_the_pings() -> None:
    async def story(world: World) -> None:
        for seat in world.crew.seats:
            seat.is_ready = False
        await looks()
        world.manager.pings()
        await asyncio.sleep(WATCHDOG_S)
        assert world.manager.pings() == 2

    World().run(story)


def test_without_a_watchdog_nobody_is_pinged() -> None:
    async def story(world: World) -> None:
        await looks(3)
        assert world.manager.pings() == 0

    World(manager=FakeManager(watchdog_s=0.0)).run(story)


def test_whatever_becomes_of_a_reload_we_are_ready_afterwards() -> None:
    world = World()
    with world.service.reloading():
        assert world.manager.words() == ["reloading"]
    assert world.manager.words() == ["ready: 2 of 2 workers serve"]
    with pytest.raises(ValueError, match="a mistake"), world.service.reloading():
        raise ValueError("a mistake")
    assert world.manager.words() == ["reloading", "ready: 2 of 2 workers serve"]
    world.service.stopping()
    assert world.manager.words() == ["stopping"]
