"""A service manager hears how the crew is, once for each change; pings stop when nobody answers, and only then."""

from __future__ import annotations

import asyncio
import logging
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
from mfalb.net.control_channel import Message
from mfalb.net.lifecycle import Tasks

UP = (Health.UP, AdminState.READY)
LOOK_S = 5.0
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
    """Workers that serve; those in `still` do not answer. `meanwhile` happens while answers are awaited."""

    def __init__(self, size: int = 2) -> None:
        self.seats = [Seat(number, is_ready=True) for number in range(size)]
        self.still: set[int] = set()
        self.meanwhile: Callable[[], None] = lambda: None

    @property
    def alive(self) -> int:
        return sum(seat.is_ready for seat in self.seats)

    async def ask_all(self, question: Callable[[int], Message], _timeout_s: float) -> dict[int, dict[str, Any]]:
        assert question(0).kind == "report"
        self.meanwhile()
        return {seat.number: {} for seat in self.seats if seat.is_ready and seat.number not in self.still}


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


def test_one_silent_worker_is_told_of_once_counted_each_time_and_pings_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(world: World) -> None:
        world.crew.still = {1}
        world.manager.words()
        await looks(3)
        assert world.manager.pings() >= 3
        world.crew.still = set()
        await looks()
        assert world.manager.words() == ["2 of 2 workers serve"]

    world = World()
    with caplog.at_level(logging.INFO):
        world.run(story)
    assert [record.message for record in caplog.records] == ["a worker does not answer", "a worker answers again"]
    assert [seat.silences for seat in world.crew.seats] == [0, 3]


def test_pings_stop_while_nobody_answers_and_go_on_with_the_first_answer() -> None:
    async def story(world: World) -> None:
        world.crew.still = {0, 1}
        await looks()
        world.manager.pings()
        await asyncio.sleep(4 * WATCHDOG_S)
        assert world.manager.pings() == 0
        world.crew.still = {1}
        await looks()
        world.manager.pings()
        await asyncio.sleep(WATCHDOG_S)
        assert world.manager.pings() == 2, "twice a period"

    World().run(story)


def test_workers_that_are_gone_are_not_silent_and_their_places_do_not_stop_the_pings() -> None:
    async def story(world: World) -> None:
        for seat in world.crew.seats:
            seat.is_ready = False
        await looks()
        world.manager.pings()
        await asyncio.sleep(WATCHDOG_S)
        assert world.manager.pings() == 2
        assert [seat.silences for seat in world.crew.seats] == [0, 0]

    World().run(story)


def test_a_worker_that_was_replaced_while_it_was_asked_is_not_blamed_for_the_one_before() -> None:
    async def story(world: World) -> None:
        def replaced() -> None:
            world.crew.seats[1].born_at += 1.0

        world.crew.still, world.crew.meanwhile = {1}, replaced
        await looks(2)
        assert world.crew.seats[1].silences == 0

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
