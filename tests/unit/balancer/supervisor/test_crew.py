"""Who had served for a while is replaced at once; those that die as soon as they start wait longer and longer.

And what workers say is taken only from whom it can be.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from unit.still_loop import run

from mfalb.balancer.supervisor import crew
from mfalb.balancer.supervisor.crew import SILENT_AFTER, Crew, Orders, Seat
from mfalb.net.control_channel import ControlChannel, Message


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


class FakeChannel:
    """A control channel that notes what is said over it."""

    def __init__(self) -> None:
        self.said: list[Message] = []
        self.is_open = True

    def send(self, message: Message) -> None:
        self.said.append(message)

    def close(self) -> None:
        self.is_open = False


@dataclass
class World:
    """A crew of two that serve; `heard` is what was none of the crew's business, `begun` who was begun since."""

    crew: Crew
    nursery: socket.socket
    heard: list[tuple[int, Message]] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)

    def seat_with_channel(self, number: int) -> tuple[Seat, FakeChannel]:
        channel = FakeChannel()
        seat = self.crew.seats[number]
        seat.channel = cast(ControlChannel, channel)
        seat.ready.set()
        return seat, channel

    def nursery_says(self, **words: int) -> None:
        self.nursery.send(json.dumps(words).encode())
        self.crew._nursery_says()

    async def begin(self, number: int) -> Seat:
        """A worker that the nursery has begun, and that says nothing yet."""
        seat = self.crew.seats[number]
        self.crew._begin(seat)
        seat.ready.set()
        return seat

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


def with_crew(story: Callable[[World], Coroutine[Any, Any, None]], *, is_stopped_there: bool = False) -> None:
    """Runs a story, and stops the crew. The nursery is the other end of a socket pair, and says what a test says."""

    async def told() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def brief(number: int) -> Orders:
            world.begun.append(number)
            return Orders({}, None, ())

        def heard(number: int, message: Message) -> None:
            world.heard.append((number, message))

        with theirs:
            ours.setblocking(False)
            world = World(Crew(ours, 2, brief, heard), theirs)
            for seat in world.crew.seats:
                seat.is_ready = True
                seat.gone.set()
            await story(world)
            if is_stopped_there:
                return
            for seat in world.crew.everyone:
                cast(ControlChannel, seat.channel).close()
                seat.channel = None
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


# ------------------------------------------------------------------------------------ who stands still


def test_nobody_waits_for_the_numbers_of_a_silent_worker_but_all_else_it_is_asked() -> None:
    async def story(world: World) -> None:
        _, channel = world.seat_with_channel(1)
        world.crew.seats[1].unanswered = SILENT_AFTER
        await world.crew.reports()
        assert channel.said == []
        await world.crew.ask_all(lambda _: Message({"kind": "peek"}), 1.0)
        assert [message.kind for message in channel.said] == ["peek"]

    with_crew(story)


@pytest.mark.parametrize(
    ("kind", "is_long"),
    [("prepare", True), ("commit", True), ("serve", True), ("hand_over", True), ("live", False), ("report", False)],
)
@pytest.mark.parametrize("answered", [2, 3])
def test_who_is_asked_for_what_takes_long_is_at_long_work_until_that_or_a_later_question_is_answered(
    kind: str, is_long: bool, answered: int
) -> None:
    async def story(world: World) -> None:
        seat, _ = world.seat_with_channel(0)
        for one in ("live", kind, "live"):
            world.crew.ask(seat, Message({"kind": one}))
        world.say(0, kind="answer", id=1)
        assert seat.is_at_long_work is is_long
        world.say(0, kind="answer", id=answered)
        world.say(0, kind="answer", id=1)  # nobody knows why, but it changes nothing
        assert not seat.is_at_long_work

    with_crew(story)


def test_an_answer_to_another_worker_s_question_ends_no_long_work() -> None:
    async def story(world: World) -> None:
        seat, _ = world.seat_with_channel(0)
        world.crew.ask(seat, Message({"kind": "prepare"}))
        world.crew.ask(world.crew.seats[1], Message({"kind": "live"}))
        world.say(0, kind="answer", id=2)
        assert seat.is_at_long_work

    with_crew(story)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Whom the crew itself kills, which here it does not."""
    pids: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: pids.append(pid))
    return pids


def test_nobody_is_at_long_work_who_was_asked_for_none() -> None:
    assert not Seat(0).is_at_long_work


def test_what_a_worker_did_not_answer_while_it_began_is_forgotten_when_it_serves() -> None:
    async def story(world: World) -> None:
        seat = world.crew.seats[1]
        seat.is_ready, seat.unanswered = False, 29
        world.say(1, kind="ready")
        assert (seat.is_ready, seat.unanswered) == (True, 0)

    with_crew(story)


def test_the_nursery_is_told_whom_to_kill_and_when_it_is_gone_the_crew_kills(killed: list[int]) -> None:
    async def story(world: World) -> None:
        seat, _ = world.seat_with_channel(1)
        seat.pid = 4711
        world.crew.kill(seat)
        assert world.nursery.recv(100) == b"k4711"
        assert killed == []
        world.nursery.close()
        world.crew.kill(seat)
        assert killed == [4711]

    with_crew(story)


def test_at_the_end_those_who_do_not_stop_are_killed_and_nobody_for_one_who_is_not_born(killed: list[int]) -> None:
    async def story(world: World) -> None:
        (first, one), (unborn, other) = world.seat_with_channel(0), world.seat_with_channel(1)
        first.pid, unborn.pid = 4711, 0
        for seat in (first, unborn):
            seat.gone.clear()
        await world.crew.stop()
        assert [message.kind for message in (*one.said, *other.said)] == ["stop", "stop"]
        assert not one.is_open
        assert not other.is_open
        assert world.nursery.recv(100) == b"k4711"
        assert world.nursery.recv(100) == b""

    with_crew(story, is_stopped_there=True)
    assert killed == []


def test_the_place_of_one_that_is_given_up_is_taken_by_another_whose_silence_begins_anew() -> None:
    async def story(world: World) -> None:
        seat, channel = world.seat_with_channel(1)
        seat.unanswered, seat.killed_after = 15, 10
        seat.sign = world.crew.ask(seat, Message({"kind": "live"}))
        world.crew.give_up(seat)
        assert not channel.is_open
        assert seat.sign is None
        await asyncio.sleep(1)
        assert world.crew._questions == {}, "nobody waits for its answer"
        assert (world.begun, seat.unanswered, seat.killed_after, seat.restarts) == ([1], 0, 0, 1)

    with_crew(story)


def test_who_is_begun_and_does_not_serve_yet_is_told_to_stop_and_nobody_else() -> None:
    async def story(world: World) -> None:
        _, serving = world.seat_with_channel(0)
        beginner, channel = world.seat_with_channel(1)
        beginner.is_ready = False
        world.crew.replace_beginners()
        assert [message.kind for message in channel.said] == ["stop"]
        assert serving.said == []

    with_crew(story)


def test_those_in_the_seats_and_those_who_leave_them_are_everyone_and_what_was_counted_stays_with_the_seats() -> None:
    async def story(world: World) -> None:
        former, _ = world.seat_with_channel(0)
        former.kills, former.silences, former.restarts = 1, 12, 2
        assert world.crew.everyone == [former]
        world.crew.renew()
        assert world.crew.everyone == [former]
        seat, _ = world.seat_with_channel(0)
        assert world.crew.everyone == [seat, former]
        assert (seat.kills, seat.silences, seat.restarts, seat.unanswered) == (1, 12, 2, 0)
        former.channel = None

    with_crew(story)


# ------------------------------------------------------------------------------------ what the nursery says


def test_who_is_born_has_a_process_id_from_then_on_in_the_order_of_the_requests() -> None:
    async def story(world: World) -> None:
        first, second = await world.begin(0), await world.begin(1)
        world.nursery_says(born=100)
        assert (first.pid, second.pid) == (100, 0)
        world.nursery_says(born=101)
        assert (first.pid, second.pid) == (100, 101)

    with_crew(story)


def test_a_worker_that_cannot_be_begun_is_told_of_with_the_reason_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(world: World) -> None:
        seat = await world.begin(1)
        _, (control,), _, _ = socket.recv_fds(world.nursery, 100, 1)
        world.nursery_says(born=0, errno=errno.EAGAIN)
        socket.socket(fileno=control).close()  # as the nursery does
        await asyncio.sleep(60)
        assert world.begun == [1, 1]
        assert seat.restarts == 1

    with caplog.at_level(logging.INFO):
        with_crew(story)
    (record,) = caplog.records
    assert record.message == "a worker cannot be begun"
    assert vars(record)["reason"] == "Resource temporarily unavailable"


@pytest.mark.parametrize(
    ("status", "is_relieved", "level"),
    [(0, True, logging.INFO), (0, False, logging.ERROR), (9, True, logging.ERROR)],
    ids=["let go", "by itself", "killed"],
)
def test_the_end_of_a_worker_is_an_error_unless_it_was_let_go(
    caplog: pytest.LogCaptureFixture, status: int, is_relieved: bool, level: int
) -> None:
    async def story(world: World) -> None:
        await world.begin(0)
        world.nursery_says(born=100)
        if is_relieved:
            world.crew.replace_nobody()
        world.nursery_says(died=100, status=status)

    with caplog.at_level(logging.INFO):
        with_crew(story)
    assert [(one.message, one.levelno) for one in caplog.records] == [("a worker has ended", level)]
