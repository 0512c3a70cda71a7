"""All workers take up what all could read, or none does; who has not read it is replaced."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from mfalb.balancer.supervisor.crew import Crew
from mfalb.balancer.supervisor.rebriefing import Rebriefing
from mfalb.balancer.supervisor.reload_plan import CannotReload
from mfalb.balancer.supervisor.worker_process import Briefing
from mfalb.net.control_channel import Message


@dataclass
class FakeCrew:
    """Workers 0 and 1 serve. `faults` are what they say, None: nothing in time; each question has the next number."""

    faults: dict[int, str | None] = field(default_factory=lambda: {0: "", 1: ""})
    asked: list[tuple[int, Message]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    last: int = 10

    @property
    def alive(self) -> int:
        return len(self.faults)

    async def ask_all(self, question: Callable[[int], Message], _timeout_s: float) -> dict[int, dict[str, Any]]:
        answers = {}
        for number, fault in self.faults.items():
            self.last += 1
            self.asked.append((number, question(number)))
            if fault is not None:
                answers[number] = {"kind": "answer", "id": self.last, "fault": fault}
        return answers

    def tell_all(self, message: Message) -> None:
        self.told.append(message.kind)

    def replace_beginners(self) -> None:
        self.told.append("beginners")


def brief(number: int) -> tuple[Briefing, list[int]]:
    return cast(Briefing, f"for {number}"), [30 + number]


def prepare(crew: FakeCrew) -> Rebriefing:
    rebriefing = Rebriefing(cast(Crew, crew))
    asyncio.run(rebriefing.prepare(brief))
    return rebriefing


def committed(crew: FakeCrew) -> dict[int, int | None]:
    """The number of the question that each was told to do what it asked for."""
    return {number: message.words["prepared"] for number, message in crew.asked if message.kind == "commit"}


def test_each_worker_reads_its_own_briefing_with_its_own_sockets() -> None:
    crew = FakeCrew()
    prepare(crew)
    read = {number: (message.data, message.descriptors) for number, message in crew.asked}
    assert read == {0: (pickle.dumps("for 0"), (30,)), 1: (pickle.dumps("for 1"), (31,))}
    assert crew.told == []


def test_what_is_committed_is_what_was_prepared_whatever_else_was_asked_in_between() -> None:
    crew = FakeCrew()
    rebriefing = prepare(crew)
    crew.last += 5  # a scrape, signs of life
    asyncio.run(rebriefing.commit([{"backend": "b1"}]))
    assert committed(crew) == {0: 11, 1: 12}
    assert all(message.words["states"] == [{"backend": "b1"}] for _, message in crew.asked if message.kind == "commit")


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ({0: "", 1: "no such file"}, "no such file"),
        ({0: "no such file", 1: None}, "no such file"),
        ({0: "", 1: None}, "a worker does not answer"),
        ({0: None, 1: None}, "a worker does not answer"),
    ],
)
def test_when_one_cannot_all_forget_it_and_the_reason_is_told(faults: dict[int, str | None], reason: str) -> None:
    crew = FakeCrew(faults)
    with pytest.raises(CannotReload, match=reason):
        prepare(crew)
    assert crew.told == ["abandon"]
    assert committed(crew) == {}


def test_who_begins_to_serve_in_between_has_prepared_nothing() -> None:
    crew = FakeCrew({0: ""})
    rebriefing = prepare(crew)
    crew.faults[1] = ""
    asyncio.run(rebriefing.commit([]))
    assert committed(crew) == {0: 11, 1: None}, "a worker ends that is told to do what it has not prepared"


def test_who_does_not_serve_yet_is_begun_anew_before_anybody_changes() -> None:
    crew = FakeCrew()
    rebriefing = prepare(crew)
    asyncio.run(rebriefing.commit([]))
    assert crew.told == ["beginners"]
