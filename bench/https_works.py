"""The works of bench/https.py: what is asked of every contender in a turn, and which figures come of it.

A work has a name, the metrics that it yields, and `measure`. With `@4` and so on metrics name another number of
connections than the headline's 64, with `@same_rate` a pace that is the same for all contenders.
"""

from __future__ import annotations

import http.client
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from bulk import BODY_BYTES, Direction, move
from contenders import HttpsContender
from handshakes import Visit, connect_again_and_again, given_session
from http_load import ClosedLoop, Pace, Target, at_pace
from https_site import Site, get, tls_visitor
from measure import Metric, Scenario, Stopwatch, session_rss_kb
from programs.process import ProgramFailed

HEADLINE_CONNECTIONS: Final = 64
NEW_AT_A_TIME: Final = 64
IDLE_CONNECTIONS: Final = 500
IDLE_BEFORE: Final = 100  # connections that are open before memory is read: what the first ones take is taken once
KEPT_PACE: Final = 0.95  # of the pace asked for: with less, the times are not those of that pace

Figures = Mapping[str, float]
NOTHING: Final[Figures] = {}


class TurnFailed(Exception):  # noqa: N818 - it says what happened
    """A turn came to nothing; the message says why."""


@dataclass(slots=True)
class Subject:
    """A contender that runs, and what clients know of it from their first visits."""

    contender: HttpsContender
    cookies: Sequence[str]
    capacity_per_s: float = 0.0  # of kept-alive TLS with the headline's connections

    @property
    def name(self) -> str:
        return self.contender.name

    def target(self, *, is_tls: bool) -> Target:
        return Target(self.contender.tls_port if is_tls else self.contender.plain_port, is_tls, self.cookies)


@dataclass(slots=True)
class Bench:
    """A run in progress. `direct` holds rates of clients and backends without a contender, by work."""

    site: Site
    context: ssl.SSLContext
    run_dir: Path
    seconds: float
    scenario: Scenario
    subjects: list[Subject] = field(default_factory=list)
    same_rate_per_s: float = 0.0
    direct: dict[str, list[float]] = field(default_factory=dict)

    def watch(self, subject: Subject, generator: int | None = None) -> Stopwatch:
        return Stopwatch(subject.contender.program.pid, self.site.program.pid, generator)

    def count_requests(self) -> tuple[int, float]:
        """How many requests reached the backends from now on to the end of a turn, and how long that was."""
        before, began_s = self.site.requests(), time.perf_counter()
        time.sleep(self.seconds)
        count = self.site.requests() - before
        return count, time.perf_counter() - began_s

    def errors(self, subject: Subject, work: Work, count: int) -> None:
        """Spoils the figures when anything but the wanted answers came."""
        if count:
            self.scenario.spoil(f"{subject.name}: errors, time-outs or other answers than wanted ({work.name})")


class Work(Protocol):
    """What is asked of a contender in one turn."""

    @property
    def name(self) -> str:
        """For notes."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """Of the figures that it yields."""

    def measure(self, bench: Bench, subject: Subject) -> Figures:
        """One turn. Raises TurnFailed, OSError or subprocess.SubprocessError."""


def take_turn(bench: Bench, subject: Subject, work: Work) -> Figures:
    """A turn's figures; none, and why is noted, when it came to nothing."""
    try:
        return work.measure(bench, subject)
    except (TurnFailed, ProgramFailed, OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
        bench.scenario.spoil(f"{subject.name}: {work.name}: {str(error).splitlines()[0]}")
        return NOTHING


# -------------------------------------------------------------------------------- kept-alive requests


@dataclass(frozen=True, slots=True)
class KeptAlive:
    """Small requests, as many as go through so many connections."""

    connections: int
    is_tls: bool

    @property
    def name(self) -> str:
        return f"{self._kind} with {self.connections}"

    @property
    def _kind(self) -> str:
        return "tls" if self.is_tls else "plain"

    @property
    def metrics(self) -> Sequence[Metric]:
        end = self._kind + ("" if self.connections == HEADLINE_CONNECTIONS else f"@{self.connections}")
        return Metric(f"requests_per_s_{end}", "1/s"), Metric(f"cpu_us_per_request_{end}", "us")

    def measure(self, bench: Bench, subject: Subject) -> Figures:
        with ClosedLoop(subject.target(is_tls=self.is_tls), self.connections) as loop:
            watch = bench.watch(subject, loop.pid)
            count, elapsed_s = bench.count_requests()
            cpu_s, effort = watch.stop(elapsed_s)
        if not count:
            raise TurnFailed("no request came through")
        bench.scenario.note_effort(subject.name, effort, self.name)
        bench.errors(subject, self, loop.errors)
        return _by_name(self.metrics, count / elapsed_s, cpu_s / count * 1e6)

    def rate(self, bench: Bench, target: Target) -> float:
        """Requests a second, for calibration."""
        with ClosedLoop(target, self.connections):
            count, elapsed_s = bench.count_requests()
        return count / elapsed_s

    def measure_direct(self, bench: Bench) -> None:
        """One turn of clients and backends alone."""
        target = Target(bench.site.tls_port if self.is_tls else bench.site.ports[0], self.is_tls)
        bench.direct.setdefault(self.name, []).append(self.rate(bench, target))


# ------------------------------------------------------------------------------------ new connections


@dataclass(frozen=True, slots=True)
class NewTls:
    """Connections for one request each, with full handshakes or resuming a session."""

    is_resuming: bool

    @property
    def name(self) -> str:
        return "resumed TLS connections" if self.is_resuming else "new TLS connections"

    @property
    def metrics(self) -> Sequence[Metric]:
        end = "_resumed" if self.is_resuming else ""
        return Metric(f"connections_per_s_tls{end}", "1/s"), Metric(f"cpu_us_per_connection_tls{end}", "us")

    def measure(self, bench: Bench, subject: Subject) -> Figures:
        visit = Visit(subject.contender.tls_port, bench.context, subject.cookies[0] if subject.cookies else None)
        if self.is_resuming:  # anew for each turn: nginx believes a session for five minutes
            visit = replace(visit, session=given_session(visit))
            if visit.session is None:
                bench.scenario.note(f"{subject.name} resumes no TLS sessions")
                return NOTHING
        watch = bench.watch(subject)
        made = connect_again_and_again(visit, NEW_AT_A_TIME, bench.seconds)
        cpu_s, effort = watch.stop(made.elapsed_s)
        if not made.count:
            raise TurnFailed("no connection was served")
        bench.scenario.note_effort(subject.name, effort, self.name)
        bench.errors(subject, self, made.wrong)
        return _by_name(self.metrics, made.count / made.elapsed_s, cpu_s / made.count * 1e6)


# ---------------------------------------------------------------------------------------- large bodies


@dataclass(frozen=True, slots=True)
class Bulk:
    """Bodies of 10 MB, without TLS."""

    direction: Direction

    @property
    def name(self) -> str:
        return f"10 MB {self.direction.name.lower()}"

    @property
    def metrics(self) -> Sequence[Metric]:
        way = self.direction.name.lower()
        return Metric(f"bytes_per_s_10mb_{way}", "B/s"), Metric(f"cpu_ms_per_10mb_{way}", "ms")

    def measure(self, bench: Bench, subject: Subject) -> Figures:
        watch = bench.watch(subject)
        moved = move(subject.contender.plain_port, self.direction, bench.seconds)
        cpu_s, effort = watch.stop(moved.elapsed_s)
        if not moved.body_bytes:
            raise TurnFailed("nothing was moved")
        bench.scenario.note_effort(subject.name, effort, self.name)
        bench.errors(subject, self, moved.errors)
        rate = moved.body_bytes / moved.elapsed_s
        return _by_name(self.metrics, rate, cpu_s / (moved.body_bytes / BODY_BYTES) * 1e3)


# ---------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True, slots=True)
class Idle:
    """Open TLS connections that have served a request and wait for the next one.

    Memory that was once taken is not given back: only a contender's first turn counts, before it had any load.
    """

    name: str = "idle TLS connections"
    metrics: Sequence[Metric] = (Metric("rss_kb_per_idle_tls", "KB"),)

    def measure(self, bench: Bench, subject: Subject) -> Figures:
        program, port = subject.contender.program.pid, subject.contender.tls_port
        with ExitStack() as opened:
            sizes_kb = []
            for count in (IDLE_BEFORE, IDLE_CONNECTIONS):
                for _ in range(count):
                    get(opened.enter_context(tls_visitor(port, bench.context)))
                sizes_kb.append(session_rss_kb(program))
        grown_kb = sizes_kb[1] - sizes_kb[0]
        return _by_name(self.metrics, grown_kb / IDLE_CONNECTIONS)


# --------------------------------------------------------------------------------------------- latency


class Rate(Enum):
    """How fast requests are sent: half of the contender's capacity, or one rate for all. The value ends names."""

    HALF_OF_OWN = ""
    SAME = "@same_rate"


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of TLS requests at a fixed rate, and how much of p99 is due to the contender.

    For the latter, clients go to a backend with TLS as well, just before and at the same pace.
    """

    rate: Rate

    @property
    def name(self) -> str:
        return "half of its capacity" if self.rate is Rate.HALF_OF_OWN else "the same rate for all"

    @property
    def metrics(self) -> Sequence[Metric]:
        return [Metric(name + self.rate.value, "ms") for name in ("p50_ms", "p99_ms", "added_p99_ms")]

    def measure(self, bench: Bench, subject: Subject) -> Figures:
        rate_per_s = subject.capacity_per_s / 2 if self.rate is Rate.HALF_OF_OWN else bench.same_rate_per_s
        if rate_per_s >= subject.capacity_per_s:
            bench.scenario.note(f"{subject.name} cannot take {rate_per_s:,.0f}/s: no times ({self.name})")
            return NOTHING
        pace, log = Pace(rate_per_s, HEADLINE_CONNECTIONS, bench.seconds), bench.run_dir / "h2load.log"
        direct = at_pace(Target(bench.site.tls_port, is_tls=True), pace, log)
        watch, began_s = bench.watch(subject), time.perf_counter()
        paced = at_pace(subject.target(is_tls=True), pace, log)
        _, effort = watch.stop(time.perf_counter() - began_s)
        bench.scenario.note_effort(subject.name, effort, self.name)
        bench.errors(subject, self, direct.errors + paced.errors)
        if paced.rate_per_s < KEPT_PACE * rate_per_s:
            raise TurnFailed("the pace was not kept")
        added_ms = max(0.0, paced.p99_ms - direct.p99_ms)  # below zero is chance: nobody gives time back
        return _by_name(self.metrics, paced.p50_ms, paced.p99_ms, added_ms)


def _by_name(metrics: Sequence[Metric], *figures: float) -> Figures:
    return {metric.name: figure for metric, figure in zip(metrics, figures, strict=True)}
