"""Whether workers live: each is asked once a second, and one that does not answer is killed, so that another serves.

A process that stands still (an endless loop, a system call without end, SIGSTOP) has not ended: the kernel goes on
giving it connections and datagrams. Silence is counted in questions that were put and not answered, one a second, and
not by the clock: who stood still together with us (the machine was suspended, the whole service stopped) has missed
one question at most.

    5    it is told of, `/ready` says so
    10   it is killed, and replaced as one that has died
    30   the same, where one is expected to think for long: it has not begun to serve yet, or reads a configuration

Those are asked as well who end what they have begun while others sit in their seats. The answer comes from the event
loop that serves: a message a second, and nothing for what is served.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from mfalb.balancer.supervisor.crew import SILENT_AFTER, Crew, Seat
from mfalb.net.control_channel import Message
from mfalb.net.lifecycle import Tasks

ROUND_S: Final = 1.0
KILL_AFTER: Final = 10
KILL_BEGINNERS_AFTER: Final = 30
_DIE_WITHIN: Final = 5  # more rounds; who is in an uninterruptible sleep ends when that does (D in ps(1))

_log = logging.getLogger("mfalb.supervisor.signs_of_life")


class SignsOfLife:
    """Asks a crew for them until it is closed. What it finds stands in the seats."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._tasks = Tasks("signs of life")

    def start(self) -> None:
        """Every worker serves."""
        self._tasks.start("rounds", self._go_round())

    async def close(self) -> None:
        await self._tasks.close()

    async def _go_round(self) -> None:
        while True:
            for seat in self._crew.everyone:
                self._look_at(seat)
            await asyncio.sleep(ROUND_S)

    def _look_at(self, seat: Seat) -> None:
        if seat.sign is not None and seat.sign.done():
            self._has_answered(seat)
        elif seat.sign is not None or not seat.is_ready:
            self._has_not_answered(seat)
        if seat.is_ready and seat.sign is None:
            seat.sign = self._crew.ask(seat, Message({"kind": "live"}))

    @staticmethod
    def _has_answered(seat: Seat) -> None:
        if seat.is_silent:
            _log.info("a worker answers again", extra={"worker": seat.number})
        seat.sign, seat.unanswered, seat.killed_after = None, 0, 0

    def _has_not_answered(self, seat: Seat) -> None:
        seat.unanswered += 1
        if seat.is_ready:
            self._crew.seats[seat.number].silences += 1
            if seat.unanswered == SILENT_AFTER:
                _log.error("a worker does not answer", extra=_facts(seat))
        is_expected_to_think = seat.is_at_long_work or not seat.is_ready
        if seat.killed_after:
            if seat.unanswered == seat.killed_after + _DIE_WITHIN:
                _log.error("a worker was killed and does not end: another takes its place", extra=_facts(seat))
                self._crew.give_up(seat)
        elif not seat.pid:
            if seat.unanswered == KILL_BEGINNERS_AFTER:
                _log.error("the nursery does not answer: no worker can be replaced", extra={"worker": seat.number})
        elif seat.unanswered >= (KILL_BEGINNERS_AFTER if is_expected_to_think else KILL_AFTER):
            self._kill(seat)

    def _kill(self, seat: Seat) -> None:
        seat.killed_after = seat.unanswered
        self._crew.seats[seat.number].kills += 1
        _log.error("a worker that does not answer is killed", extra=_facts(seat))
        self._crew.kill(seat)


def _facts(seat: Seat) -> dict[str, object]:
    return {"worker": seat.number, "pid": seat.pid, "unanswered": seat.unanswered}
