"""What a user waits for when a RADIUS server fails: a NAS with two servers beside the same NAS with mfalb before them.

    python bench/failover.py [--repetitions 5] [--window 60] [--every 3] [--users 4]

`primary_secondary`: the NAS knows both servers and turns to the secondary after 3 tries of 3 s at the primary, which is
the one that fails. `mfalb`: the NAS knows only mfalb, with both servers behind it; after tries in vain it refuses the
user, who begins again at once. `mfalb_fast`: the same with a watchdog below RFC 3539's 6 s. The server ends, so that
its port refuses (`refused`), or stands still (`silent`).

Both ways share the servers and the moment of the fault. Some users come within a second of it (`first`), then one every
few seconds (`later`), at each of three clients: FreeRADIUS's radclient, a NAS without a dead time and one with. All
repetitions run side by side: nothing here is under load. Writes bench/results/failover.json and failover.png.
"""

from __future__ import annotations

import argparse
import math
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the harness that the scenarios use too

import contenders.mfalb
import plot
from backends import BACKEND_SECRET, responder
from contenders import RadiusTask
from measure import RESULTS, Metric, Scenario, Series, table, write_result
from nas import Ask, Nas, Patience, Server, SignIn, ask, ask_with_radclient
from programs.ports import free_udp_port
from programs.process import Program

import mfalb

CLIENT_SECRET: Final = "towards-the-clients"  # noqa: S105 - loopback, for the length of a run
HEALTHY_S: Final = 5.0  # users come for so long before a fault, or less, which comes at any moment
FIRST_SPACING_S: Final = 0.25  # between the first users, and ...
STAGGER_S: Final = 1.0  # ... between repetitions: starting many radclients at once is not what is measured
HEALTHY_LIMIT_S: Final = 1.0  # a user who waits longer before any fault was held up by the machine
DEAD_TIME_S: Final = 60.0
CLIENTS: Final[dict[str, tuple[Ask, float]]] = {  # how each asks, and its dead time in seconds
    "radclient": (ask_with_radclient, 0.0),
    "nas": (ask, 0.0),
    "nas_dead_time": (ask, DEAD_TIME_S),
}


class Fault(Enum):
    """How the first server fails."""

    REFUSED = "refused"
    SILENT = "silent"


class Phase(Enum):
    """When a user came: before the fault, at its moment, or in the window after it."""

    HEALTHY = "healthy"
    FIRST = "first"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: everything that the command line says."""

    repetitions: int
    window_s: float
    every_s: float
    users: int
    patience: Patience
    results: Path

    @property
    def limit_s(self) -> float:
        """How long a user goes on trying."""
        return max(self.window_s, 2 * self.patience.tries * self.patience.timeout_s)


@dataclass(frozen=True, slots=True)
class Visit:
    """A user's way in: through which contender and client, and when."""

    contender: str
    client: str
    phase: Phase
    sign_in: SignIn


@dataclass(slots=True)
class Repetition:
    """Two servers, mfalb before them, and clients of both kinds; `visits` are in the order in which users came."""

    plan: Plan
    fault: Fault
    servers: Sequence[Program]
    clients: Sequence[tuple[str, str, Nas]]  # contender, client's name, client
    visits: list[Visit] = field(default_factory=list)

    def run(self, delay_s: float) -> None:
        """After `delay_s` signs users in, lets the first server fail, and goes on to sign users in."""
        time.sleep(delay_s)
        plan, visitors = self.plan, len(self.clients) * (2 * self.plan.users + self._later + 1)
        with ThreadPoolExecutor(max_workers=visitors) as pool:
            for _ in range(plan.users):
                time.sleep(random.uniform(0, min(HEALTHY_S, plan.window_s) / plan.users))  # noqa: S311 - a phase
                self._collect([self._arrive(pool, Phase.HEALTHY)])
            self._fail()
            began_s, arrivals = time.monotonic(), []
            for number in range(plan.users):
                _sleep_until(began_s + number * FIRST_SPACING_S)
                arrivals.append(self._arrive(pool, Phase.FIRST))
            for number in range(1, self._later + 1):
                _sleep_until(began_s + number * plan.every_s)
                arrivals.append(self._arrive(pool, Phase.LATER))
            self._collect(arrivals)

    @property
    def _later(self) -> int:
        return int(self.plan.window_s / self.plan.every_s)

    def _arrive(self, pool: ThreadPoolExecutor, phase: Phase) -> list[Future[Visit]]:
        """One user at each client."""
        return [pool.submit(self._visit, contender, name, nas, phase) for contender, name, nas in self.clients]

    def _visit(self, contender: str, client: str, nas: Nas, phase: Phase) -> Visit:
        return Visit(contender, client, phase, nas.sign_in(self.plan.limit_s))

    def _collect(self, arrivals: Sequence[Sequence[Future[Visit]]]) -> None:
        self.visits += [future.result() for futures in arrivals for future in futures]

    def _fail(self) -> None:
        server = self.servers[0]
        match self.fault:
            case Fault.REFUSED:
                server.kill()
            case Fault.SILENT:
                server.signal(signal.SIGSTOP)


def _sleep_until(end_s: float) -> None:
    time.sleep(max(0.0, end_s - time.monotonic()))


@contextmanager
def _repetition(plan: Plan, fault: Fault, run_dir: Path) -> Iterator[Repetition]:
    """Programs started, clients told; a server that stands still goes on, so that it can end."""
    ports = (free_udp_port(), free_udp_port())
    with ExitStack() as running:
        servers = [
            running.enter_context(responder(f"server{number}", run_dir, [port])) for number, port in enumerate(ports)
        ]
        balancer = contenders.mfalb.radius(RadiusTask(run_dir, ports, CLIENT_SECRET, BACKEND_SECRET, frozenset()))
        fast = contenders.mfalb.radius_fast(RadiusTask(run_dir, ports, CLIENT_SECRET, BACKEND_SECRET, frozenset()))
        running.enter_context(balancer.program)
        running.enter_context(fast.program)
        if fault is Fault.SILENT:
            running.callback(servers[0].signal, signal.SIGCONT)
        ways = {
            "mfalb": [Server(balancer.port, CLIENT_SECRET)],
            "mfalb_fast": [Server(fast.port, CLIENT_SECRET)],
            "primary_secondary": [Server(port, BACKEND_SECRET) for port in ports],
        }
        clients = [
            (way, name, Nas(known, asks, plan.patience, dead_time_s))
            for name, (asks, dead_time_s) in CLIENTS.items()
            for way, known in ways.items()
        ]
        yield Repetition(plan, fault, servers, clients)


# ------------------------------------------------------------------------------------------ figures


def _metrics() -> list[Metric]:
    names = [f"healthy_ms@{client}" for client in CLIENTS]
    for fault in Fault:
        for client in CLIENTS:
            end = f"{fault.value}@{client}"
            for phase in (Phase.FIRST, Phase.LATER):
                names += [f"{phase.value}_ms_{end}", f"{phase.value}_p99_ms_{end}"]
            names.append(f"failed_attempts_{end}")
    return [Metric(name, "1" if name.startswith("failed") else "ms") for name in names]


def _percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that so many of them do not exceed (nearest rank)."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def _figures(visits: Sequence[Visit], fault: Fault) -> dict[str, list[float]]:
    """Metric names and values of visits to one contender, by the order in which users came."""
    figures: dict[str, list[float]] = {}
    for visit in visits:
        end, elapsed_ms = f"{fault.value}@{visit.client}", visit.sign_in.elapsed_s * 1e3
        if visit.phase is Phase.HEALTHY:
            figures.setdefault(f"healthy_ms@{visit.client}", []).append(elapsed_ms)
        else:
            figures.setdefault(f"{visit.phase.value}_ms_{end}", []).append(elapsed_ms)
            figures.setdefault(f"failed_attempts_{end}", []).append(visit.sign_in.failed_attempts)
    for phase in (Phase.FIRST, Phase.LATER):
        for client in CLIENTS:
            end = f"{fault.value}@{client}"
            if times_ms := figures.get(f"{phase.value}_ms_{end}"):
                figures[f"{phase.value}_p99_ms_{end}"] = [_percentile(times_ms, 0.99)]
    return figures


def _add(scenario: Scenario, repetitions: Sequence[Repetition]) -> None:
    """Writes all visits into the scenario; a value of the series is one user's."""
    for contender, series in scenario.series.items():
        for fault in Fault:
            visits = [
                visit
                for repetition in repetitions
                if repetition.fault is fault
                for visit in repetition.visits
                if visit.contender == contender
            ]
            for metric, values in _figures(visits, fault).items():
                series.rounds += [{metric: value} for value in values]
            lost = sum(not visit.sign_in.is_in for visit in visits)
            if lost:
                scenario.note(f"{contender}, {fault.value}: {lost} of {len(visits)} users gave up before they were in")
            if any(visit.phase is Phase.HEALTHY and visit.sign_in.elapsed_s > HEALTHY_LIMIT_S for visit in visits):
                scenario.spoil(f"{contender}: a user waited more than {HEALTHY_LIMIT_S:g} s before any fault")


def run(plan: Plan) -> Scenario:
    """Runs the plan; what came of it. A round of its series is one user's visit."""
    ours = {name: Series(mfalb.__version__) for name in ("mfalb", "mfalb_fast")}
    series = ours | {"primary_secondary": Series("-")}
    scenario = Scenario("failover", _metrics(), series)
    patience = plan.patience
    scenario.note(
        f"clients wait {patience.tries} x {patience.timeout_s:g} s for a server; nas_dead_time then asks it last for "
        f"{DEAD_TIME_S:g} s; radclient's own start is part of its times"
    )
    checks = contenders.mfalb
    scenario.note(f"health checks: mfalb {checks.RADIUS_HEALTH_CHECK}, mfalb_fast {checks.FAST_HEALTH_CHECK}")
    scenario.note(
        f"{plan.users} users within a second of the fault (first), one every {plan.every_s:g} s after it (later)"
    )
    with tempfile.TemporaryDirectory(prefix="mfalb-bench-") as name, ExitStack() as running:
        repetitions = [
            running.enter_context(_repetition(plan, fault, Path(name, f"{fault.value}{number}")))
            for number in range(plan.repetitions)
            for fault in Fault
        ]
        print("all programs run; the faults come now", file=sys.stderr)
        with ThreadPoolExecutor(max_workers=len(repetitions)) as pool:
            for done in [pool.submit(one.run, number * STAGGER_S) for number, one in enumerate(repetitions)]:
                done.result()
    _add(scenario, repetitions)
    return scenario


def _plan(arguments: Sequence[str] | None = None) -> Plan:
    parser = argparse.ArgumentParser(description="What a user waits for when a RADIUS server fails")
    parser.add_argument("--repetitions", type=int, default=5, help="of each fault, side by side (%(default)s)")
    parser.add_argument("--window", type=float, default=60.0, help="seconds watched after a fault (%(default)s)")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between users in it (%(default)s)")
    parser.add_argument("--users", type=int, default=4, help="who come within a second of the fault (%(default)s)")
    parser.add_argument("--timeout", type=int, default=3, help="of a client's try, in seconds (%(default)s)")
    parser.add_argument("--tries", type=int, default=3, help="of a client at one server (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory to write to (%(default)s)")
    given = parser.parse_args(arguments)
    patience = Patience(given.timeout, given.tries)
    return Plan(given.repetitions, given.window, given.every, given.users, patience, given.results)


def main() -> None:
    """Runs what the command line says, prints a table and writes the results file."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwind, and so stop every program
    plan = _plan()
    scenario = run(plan)
    result = {**scenario.result(), "rounds": plan.repetitions}
    print(table(result))
    path = write_result(result, plan.results)
    plot.failover(result, scenario.series, path.with_suffix(".png"))
    print(f"written: {path} and the plot beside it")


if __name__ == "__main__":
    main()
