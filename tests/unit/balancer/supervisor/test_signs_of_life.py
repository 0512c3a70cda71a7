"""A worker that misses five questions in a row is silent, at ten it is killed; who may think for long has thirty."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from unit.still_loop import run

from mfalb.balancer.supervisor.crew import Crew, Seat
from mfalb.balancer.supervisor.signs_of_life import SignsOfLife
from mfalb.net.control_channel import ControlChannel, Message

A_CHANNEL = cast(ControlChannel, object())
PID = 100  # of the first


@dataclass
class FakeCrew:
    """Two that serve; those in `still` answer later, if ever."""

    seats: list[Seat] = field(default_factory=lambda: [serving(number) for number in range(2)])
    leaving: list[Seat] = field(default_factory=list)
    still: set[Seat] = field(default_factory=set)
    killed: list[int] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    asked: int = 0

    @property
    def everyone(self) -> list[Seat]:
        return [seat for seat in (*self.seats, *self.leaving) if seat.channel is not None]

    def ask(self, seat: Seat, question: Message) -> asyncio.Future[dict[str, Any]]:
        assert question.kind == "live"
        self.asked += 1
        answer = asyncio.get_running_loop().create_future()
        if seat not in self.still:
            self.answered(seat, answer)
        return answer

    def answered(self, seat: Seat, answer: asyncio.Future[dict[str, Any]]) -> None:
        seat.heard = self.asked
        answer.set_result({"id": self.asked})

    def wake(self, seat: Seat) -> None:
        """It answers what it was asked, and all that follows."""
        self.still.discard(seat)
        if seat.sign is not None and not seat.sign.done():
            self.answered(seat, seat.sign)

    def kill(self, seat: Seat) -> None:
        self.killed.append(seat.pid)

    def give_up(self, seat: Seat) -> None:
        self.given_up.append(seat.pid)
        seat.channel = None


def serving(number: int) -> Seat:
    return Seat(number, channel=A_CHANNEL, pid=PID + number, is_ready=True)


def with_crew(story: Callable[[FakeCrew], Coroutine[Any, Any, None]]) -> FakeCrew:
    """The story, while signs of life are asked for: it starts between two rounds, the first of which is over."""
    crew = FakeCrew()

    async def told() -> None:
        signs = SignsOfLife(cast(Crew, crew))
        signs.start()
        await asyncio.sleep(0.5)
        await story(crew)
        await signs.close()

    run(told())
    return crew


async def rounds(count: int) -> None:
    await asyncio.sleep(count)


async def still_for(crew: FakeCrew, seat: Seat, missed: int) -> None:
    """It stands still until it has missed so many questions in a row."""
    crew.still.add(seat)
    await rounds(1)  # asks what will be missed
    await rounds(missed)


def test_who_answers_is_asked_once_a_second_for_ever_and_nothing_is_said_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(_crew: FakeCrew) -> None:
        await rounds(99)

    with caplog.at_level(logging.INFO):
        crew = with_crew(story)
    assert crew.asked == 2 * 100
    assert [seat.silences for seat in crew.seats] == [0, 0]
    assert not caplog.records


def test_five_missed_questions_make_a_worker_silent_and_an_answer_makes_it_one_that_serves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(crew: FakeCrew) -> None:
        seat = crew.seats[1]
        await still_for(crew, seat, 4)
        assert not seat.is_silent
        await rounds(1)
        assert seat.is_silent
        assert not crew.seats[0].is_silent
        crew.wake(seat)
        await rounds(1)
        assert not seat.is_silent

    with caplog.at_level(logging.INFO):
        crew = with_crew(story)
    assert [record.message for record in caplog.records] == ["a worker does not answer", "a worker answers again"]
    assert [seat.silences for seat in crew.seats] == [0, 5]
    assert crew.killed == []


def test_who_was_slow_is_silent_only_after_five_more(caplog: pytest.LogCaptureFixture) -> None:
    async def story(crew: FakeCrew) -> None:
        seat = crew.seats[1]
        for _ in range(3):
            await still_for(crew, seat, 4)
            crew.wake(seat)
            await rounds(1)

    with_crew(story)
    assert not caplog.records


def test_the_tenth_missed_question_kills_once_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def story(crew: FakeCrew) -> None:
        await still_for(crew, crew.seats[1], 9)
        assert crew.killed == []
        await rounds(1)
        assert crew.killed == [PID + 1]
        await rounds(4)

    crew = with_crew(story)
    assert crew.killed == [PID + 1]
    assert [seat.kills for seat in crew.seats] == [0, 1]
    assert crew.given_up == []
    (_, killed) = caplog.records
    assert killed.message == "a worker that does not answer is killed"
    assert vars(killed).items() >= {"worker": 1, "pid": PID + 1, "unanswered": 10}.items()


def test_the_place_of_one_that_was_killed_and_does_not_end_is_taken_after_five_more() -> None:
    async def story(crew: FakeCrew) -> None:
        await still_for(crew, crew.seats[0], 14)
        assert crew.given_up == []
        await rounds(1)
        assert crew.given_up == [PID]
        await rounds(50)

    crew = with_crew(story)
    assert (crew.killed, crew.given_up) == ([PID], [PID])


def test_one_that_should_have_been_killed_and_answers_after_all_begins_anew() -> None:
    async def story(crew: FakeCrew) -> None:
        for times in (1, 2):
            await still_for(crew, crew.seats[0], 10)
            assert crew.killed == [PID] * times
            crew.wake(crew.seats[0])
            await rounds(1)
        await rounds(20)

    crew = with_crew(story)
    assert crew.given_up == []


def test_however_long_everybody_stood_still_together_it_is_one_missed_question_at_most() -> None:
    async def story(crew: FakeCrew) -> None:
        for _ in range(20):  # each time nobody, the supervisor included, does anything for a minute
            loop = asyncio.get_running_loop()
            crew.still = set(crew.seats)
            await rounds(1)
            loop._hurry.now += 60.0  # type: ignore[attr-defined]
            await rounds(1)
            assert max(seat.unanswered for seat in crew.seats) == 1
            for seat in crew.seats:
                crew.wake(seat)
            await rounds(1)

    crew = with_crew(story)
    assert crew.killed == []
    assert crew.asked > 20


def test_who_was_asked_for_long_work_has_thirty_until_it_has_answered_that_or_a_later_question() -> None:
    async def story(crew: FakeCrew) -> None:
        seat = crew.seats[1]
        crew.asked += 1
        seat.long_work = crew.asked
        await still_for(crew, seat, 29)
        assert seat.is_silent, "it serves nobody meanwhile"
        assert crew.killed == []
        crew.wake(seat)
        await rounds(1)
        await still_for(crew, seat, 10)
        assert crew.killed == [PID + 1]

    with_crew(story)


def test_an_answer_to_a_question_from_before_the_long_work_does_not_shorten_it() -> None:
    async def story(crew: FakeCrew) -> None:
        seat = crew.seats[1]
        crew.still.add(seat)
        await rounds(1)
        assert seat.sign is not None
        crew.answered(seat, seat.sign)
        crew.asked += 1
        seat.long_work = crew.asked
        await rounds(1)
        await rounds(20)
        assert crew.killed == []
        await rounds(10)
        assert crew.killed == [PID + 1]

    with_crew(story)


def test_who_was_begun_and_does_not_serve_has_thirty_and_is_not_called_silent() -> None:
    async def story(crew: FakeCrew) -> None:
        seat = crew.seats[1]
        seat.is_ready = False
        seat.forget_silence()
        await rounds(29)
        assert crew.killed == []
        assert not seat.is_silent
        await rounds(1)
        assert crew.killed == [PID + 1]

    crew = with_crew(story)
    assert [seat.silences for seat in crew.seats] == [0, 0]


def test_a_nursery_that_begins_nobody_is_told_of_and_asked_to_kill_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def story(crew: FakeCrew) -> None:
        seat = crew.seats[1]
        seat.is_ready, seat.pid = False, 0
        seat.forget_silence()
        await rounds(60)

    crew = with_crew(story)
    assert (crew.killed, crew.given_up) == ([], [])
    assert [record.message for record in caplog.records] == ["the nursery does not answer: no worker can be replaced"]


def test_those_are_asked_too_who_end_while_others_sit_in_their_seats_and_count_there() -> None:
    async def story(crew: FakeCrew) -> None:
        former = crew.seats[1]
        crew.leaving.append(former)
        crew.seats[1] = Seat(1, channel=A_CHANNEL, pid=200, is_ready=True)
        await still_for(crew, former, 10)
        assert crew.killed == [PID + 1]

    crew = with_crew(story)
    assert (crew.seats[1].kills, crew.seats[1].silences) == (1, 10)


def test_seats_in_which_nobody_sits_are_passed_over() -> None:
    async def story(crew: FakeCrew) -> None:
        crew.seats[1].channel, crew.seats[1].is_ready = None, False
        crew.seats[1].forget_silence()
        await rounds(100)

    crew = with_crew(story)
    assert crew.killed == []
    assert crew.asked == 1 + 101
