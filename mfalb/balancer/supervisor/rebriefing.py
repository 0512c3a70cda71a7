"""Another configuration for workers that run: all of them, or none.

First each reads what it needs and says whether it could; then all are told to. Who has not been asked the first and
hears the second ends, and so does who was begun with the former configuration and does not serve yet: the next one
there is begun with the one in use.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Final

from mfalb.balancer.supervisor.crew import Crew
from mfalb.balancer.supervisor.reload_plan import CannotReload
from mfalb.balancer.supervisor.worker_process import Briefing
from mfalb.net.control_channel import Message

_ANSWER_S: Final = 10.0  # who takes longer stands still


class Rebriefing:
    """One attempt."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._prepared: dict[int, int] = {}  # the numbers of the questions, by those of the seats

    async def prepare(self, brief: Callable[[int], tuple[Briefing, list[int]]]) -> None:
        """Let everybody read its briefing. Raises CannotReload, and then nobody has changed anything."""

        def question(number: int) -> Message:
            briefing, descriptors = brief(number)
            return Message({"kind": "prepare"}, pickle.dumps(briefing), tuple(descriptors))

        answers = await self._crew.ask_all(question, _ANSWER_S)
        faults = [str(words.get("fault", "a worker talks nonsense")) for words in answers.values()]
        fault = next(filter(None, faults), "")
        if fault or len(answers) < self._crew.alive:
            self.abandon()
            raise CannotReload(fault or "a worker does not answer")
        self._prepared = {number: words["id"] for number, words in answers.items()}

    def abandon(self) -> None:
        """Nothing comes of it."""
        self._crew.tell_all(Message({"kind": "abandon"}))

    async def commit(self, states: list[dict[str, Any]]) -> None:
        """Let everybody do what was prepared. Whoever is begun from now on has to be begun with it."""
        self._crew.replace_beginners()
        await self._crew.ask_all(
            lambda number: Message({"kind": "commit", "prepared": self._prepared.get(number), "states": states}),
            _ANSWER_S,
        )
