"""Who had served for a while is replaced at once; those that die as soon as they start wait longer and longer.

And what workers say is taken only from whom it can be.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from unit.still_loop import run

from mfalb.balancer.supervisor import crew
from mfalb.balancer.supervisor.crew import Crew, Orders, Seat
from mfalb.net.control_channel import Message


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(crew, "monotonic", lambda: now[0])
    return now


def pauses(seat: Seat, clock: list[float], *lives_s: float) -> list[float]:
    """The pauses after workers that lived for so long, one after the other."""
    found = []
    for life_s in lives_s:
        seat.born_at = clock[0]
        clock[0] += life_s
        found.append(Crew._pause_s(seat))
    return found


def test_after_a_steady_life_there_is_no_pause(clock: list[float]) -> None:
    assert pauses(Seat(0), clock, 3.0, 5.0, 1000.0) == [0.0, 0.0, 0.0]


def test_the_first_quick_death_is_forgiven_and_then_pauses_double_up_to_a_bound(clock: list[float]) -> None:
    found = pauses(Seat(0), clock, *[0.5] * 12)
    assert found == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_a_steady_life_forgives_all_quick_deaths(clock: list[float]) -> None:
    assert pauses(Seat(0), clock, 0.5, 0.5, 0.5, 4.0, 0.5, 0.5) == [0.0, 0.1, 0.2, 0.0, 0.0, 0.1]


def test_a_worker_that_dies_every_five_seconds_never_waits(clock: list[float]) -> None:
    assert not any(pauses(Seat(0), clock, *[5.0] * 100))


# ------------------------------------------------------------------------------------ what workers say


@dataclass
class World:
    """A crew of two that serve; `heard` is what was none of the crew's business."""

    crew: Crew
    heard: list[tuple[int, Message]]

    def say(self, number: int, **words: object) -> None:
        """As if worker `number` had said it."""
        self.crew._received(self.crew.seats[number], Message(dict(words)))

    async def ask(self, say: Callable[[], None]) -> dict[int, dict[str, Any]]:
        """The answers to a question, the first of each worker, while `say` is what they say."""
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self.crew.ask_all(lambda _: Message({"kind": "report"}), 1.0))
            await asyncio.sleep(0)
            say()
        return asking.result()

    def ignored(self) -> int:
        """How many messages were nobody's, since the last time."""
        count = len(self.heard)
        self.heard.clear()
        return count


def with_crew(story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Runs a story. The nursery is the other end of a socket pair of this process, and says nothing."""

    def brief(_number: int) -> Orders:
        raise AssertionError("nobody is begun here")

    async def told() -> None:
        ours, theirs = socket.socketpair()
        heard: list[tuple[int, Message]] = []
        with theirs:
            world = World(Crew(ours, 2, brief, lambda number, message: heard.append((number, message))), heard)
            for seat in world.crew.seats:
                seat.is_ready = True
                seat.gone.set()
            await story(world)
            await world.crew.stop()

    run(told())


def test_a_question_is_answered_by_whom_it_was_put_to_and_late_answers_are_nobody_s_fault() -> None:
    async def story(world: World) -> None:
        answers = await world.ask(lambda: world.say(0, kind="answer", id=1, backend="b1"))
        assert answers == {0: {"kind": "answer", "id": 1, "backend": "b1"}}
        world.say(1, kind="answer", id=2, backend="b2")
        assert world.ignored() == 0

    with_crew(story)


@pytest.mark.parametrize("number", [None, 0, -1, 3, 2.0, "1", [], {}, [1]])
def test_an_answer_to_no_question_is_ignored_and_handed_on_to_be_counted(number: object) -> None:
    async def story(world: World) -> None:
        def forged() -> None:
            for kind in ("answer", "report"):
                world.say(0, kind=kind, id=number)

        assert await world.ask(forged) == {}
        assert world.ignored() == 2

    with_crew(story)


def test_an_answer_to_another_worker_s_question_is_not_taken_for_that_worker_s() -> None:
    async def story(world: World) -> None:
        def both() -> None:
            world.say(0, kind="report", id=2, forged=True)
            world.say(1, kind="report", id=2)

        assert await world.ask(both) == {1: {"kind": "report", "id": 2}}
        assert world.ignored() == 1

    with_crew(story)


@pytest.mark.parametrize("words", [{}, {"kind": "unheard of"}, {"kind": 5}, {"kind": ["ready"]}])
def test_what_is_no_word_of_the_crew_s_is_handed_on_with_who_said_it(words: dict[str, object]) -> None:
    async def story(world: World) -> None:
        world.say(1, **words)
        assert world.heard == [(1, Message(words))]

    with_crew(story)
