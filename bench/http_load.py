"""Clients that send small requests: wrk, as many as go through, and h2load, so many a second.

wrk tells no fixed rate and h2load no percentiles; h2load's log of single requests has them.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from programs.ports import LOOPBACK
from programs.process import ProgramFailed, find_program

_LUA: Final = Path(__file__).with_name("wrk.lua")
_GRACE_S: Final = 30
# h2load's timers all tick every 10 ms or less often: connections that open together would send in bursts of all of
# them, and the time spent waiting for one another is all that would be seen. Opened one by one, they spread.
_BETWEEN_OPENINGS_MS: Final = 3
_LOGGED_FIELDS: Final = 3
_SETTLING_S: Final = 0.2
_LONGEST_S: Final = 600  # a closed loop is ended from here, long before


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and the Cookie values that they carry in turn, as those of browsers do."""

    port: int
    is_tls: bool
    cookies: Sequence[str] = ()

    @property
    def url(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{LOOPBACK}:{self.port}/"


@dataclass(frozen=True, slots=True)
class PacedAnswers:
    """What came back while all connections were open; `rate_per_s` is what was really sent, a second."""

    rate_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


class ClosedLoop:
    """Connections, kept alive, each of which has one request under way all the time; a context manager.

    Entered when all of them are open (handshakes must not pass for requests); how many requests go through then is for
    the backends to say. `errors` are known at the end: time-outs, broken connections, other answers than 200.
    """

    def __init__(self, target: Target, connections: int) -> None:
        self._opening_s: Final = _SETTLING_S + _opening_s(connections) * target.is_tls
        load = ("-t", "1", "-c", str(connections), "-d", f"{_LONGEST_S}s", "--timeout", "10s")
        self._command: Final = [find_program("wrk"), *load, "-s", str(_LUA), target.url, "--", *target.cookies]
        self._process: subprocess.Popen[str] | None = None
        self.errors = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        time.sleep(self._opening_s)
        return self

    @property
    def pid(self) -> int:
        """Of wrk, and of its session."""
        if self._process is None:
            raise ProgramFailed("wrk was not started")
        return self._process.pid

    def __exit__(self, *_error: object) -> None:
        """Ends wrk. Raises ProgramFailed with its words when it had ended by itself."""
        process = self._process
        if process is None:
            return
        has_ended = process.poll() is not None
        process.send_signal(signal.SIGINT)  # then it sums up
        try:
            said, _ = process.communicate(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        if has_ended or process.returncode:
            raise ProgramFailed(f"wrk ended with {process.returncode}: {said.strip()}")
        self.errors = json.loads(said.splitlines()[-1])["errors"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many requests a second, over how many kept-alive connections, and for how long once all are open."""

    rate_per_s: float
    connections: int
    seconds: float

    @property
    def opening_s(self) -> float:
        return _opening_s(self.connections)

    @property
    def requests(self) -> int:
        """How many are sent in all; every connection sends as many as the others."""
        each = math.ceil(self.rate_per_s * (self.seconds + self.opening_s) / self.connections)
        return each * self.connections


def _opening_s(connections: int) -> float:
    return connections * _BETWEEN_OPENINGS_MS / 1e3


def at_pace(target: Target, pace: Pace, log: Path) -> PacedAnswers:
    """Requests at fixed times, whether or not those before were quick. `log` is a file to use, overwritten.

    h2load has one set of headers: all requests carry the first cookie, and go to its server.
    """
    log.unlink(missing_ok=True)
    cookie = [word for value in target.cookies[:1] for word in ("-H", f"Cookie: {value}")]
    _run(
        [
            *("h2load", "--h1", "-c", str(pace.connections), "-n", str(pace.requests)),
            *("--rps", f"{pace.rate_per_s / pace.connections:.3f}"),
            *("-r", "1", f"--rate-period={_BETWEEN_OPENINGS_MS}ms"),
            *(f"--log-file={log}", *cookie, target.url),
        ],
        pace.seconds + pace.opening_s,
    )
    with log.open(encoding="ascii") as lines:
        return read_log(lines, pace)


def read_log(lines: Iterable[str], pace: Pace) -> PacedAnswers:
    """Figures of h2load's log: start in µs since the epoch, status (-1: failed), µs until the end of the answer.

    Requests count that began after the last connection opened and before the first had sent its last one. Raises
    ValueError when there is none.
    """
    rows = [tuple(int(field) for field in line.split("\t")[:_LOGGED_FIELDS]) for line in lines]
    if not rows:
        raise ValueError("h2load logged no request")
    began_us = min(start_us for start_us, _, _ in rows) + pace.opening_s * 1e6
    ended_us = began_us + pace.seconds * 1e6
    times_us = sorted(time_us for start_us, _, time_us in rows if began_us <= start_us < ended_us)
    if not times_us:
        raise ValueError("h2load logged no request after its connections were open")
    errors = sum(status != 200 for _, status, _ in rows) + pace.requests - len(rows)
    p50_us, p99_us = (times_us[len(times_us) * percent // 100] for percent in (50, 99))
    return PacedAnswers(len(times_us) / pace.seconds, p50_us / 1e3, p99_us / 1e3, errors)


def _run(command: Sequence[str], seconds: float) -> str:
    """What a client printed. Raises subprocess.SubprocessError when it fails or hangs."""
    finished = subprocess.run(
        [find_program(command[0]), *command[1:]],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + _GRACE_S,
    )
    return finished.stdout
