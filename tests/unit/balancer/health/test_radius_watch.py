"""What a watch makes of what becomes of its probes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from unit.balancer.exchange.radius_world import World

from mfalb.balancer.health.radius_watch import RadiusWatch
from mfalb.balancer.health.status_probe import NO_ANSWER, ProbeEvents
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.watchdog import Event, Moment, Pace, Phase, Watchdog


@dataclass
class Question:
    """A probe that tells what the test says as soon as it is sent."""

    events: ProbeEvents
    becomes: str
    fault: str = NO_ANSWER
    is_closed: bool = False

    def send(self) -> None:
        if self.becomes == "unsent":
            self.fault = "Too many open files"
            self.events.probe_unsent(self)
        elif self.becomes == "answered":
            self.events.probe_answered(self)

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Watched:
    """A backend, its watchdog and its watch; `becomes` is what happens to probes from now on."""

    becomes: str = "silent"
    asked: list[Question] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = World(servers=1).pool
        self.backend: Backend = self.pool.backends["b1"]
        self.watchdog = self.backend.watchdog = Watchdog(Pace())
        self.watch = RadiusWatch(self.pool, self.backend, self.watchdog, self._question)

    def _question(self, events: ProbeEvents) -> Question:
        self.asked.append(Question(events, self.becomes))
        return self.asked[-1]

    def expire(self) -> None:
        """Let the watchdog's timer run out."""
        self.watchdog.expires_at = 0.0
        self.watch._expired()


def is_up(watched: Watched) -> bool:
    return watched.backend.is_up


def brought_to(watched: Watched, phase: Phase) -> None:
    watched.watchdog.phase = phase


def test_probes_that_did_not_leave_neither_count_nor_bring_the_backend_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        watched = Watched("unsent")
        brought_to(watched, Phase.SUSPECT)
        for _ in range(30):
            watched.expire()
        assert len(watched.asked) == 30, "it goes on trying"
        assert (watched.backend.probes_sent, watched.backend.probes_lost) == (0, 0)
        assert is_up(watched)
        watched.becomes = "silent"
        for _ in range(4):
            watched.expire()
        assert not is_up(watched), "three that left and met silence are enough"
        watched.watch.close()

    asyncio.run(scene())
    told = [record.getMessage() for record in caplog.records]
    assert told == ["cannot probe a backend", "backend down"], "a shortage is told once a minute"
    assert vars(caplog.records[0])["reason"] == "Too many open files"


def test_nobody_waits_at_the_start_for_a_probe_that_cannot_be_sent() -> None:
    async def scene() -> None:
        watched = Watched("unsent")
        watched.expire()
        watched.expire()
        assert watched.watch.is_known.is_set()
        assert watched.watchdog.phase is Phase.FIRST
        watched.watch.close()

    asyncio.run(scene())


def test_the_answer_to_a_probe_is_a_sign_of_life_like_any_reply() -> None:
    """A retransmit is no cause for suspicion after it."""

    async def scene() -> None:
        watched = Watched("answered")
        brought_to(watched, Phase.PROBED)
        before = asyncio.get_running_loop().time()
        watched.expire()
        assert watched.backend.last_reply_at >= before
        suspicions: list[Event] = []
        watched.backend.on_suspicion = lambda: suspicions.append(Event.SUSPECTED)
        watched.backend.suspect(before, before + 1)
        assert suspicions == []
        assert watched.watchdog.handle(Event.SUSPECTED, Moment(before)).verdict is None
        watched.watch.close()

    asyncio.run(scene())
