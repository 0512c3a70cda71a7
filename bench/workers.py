"""Workers: does a unit of work cost more when two workers share it?

    python bench/workers.py [--rounds 5] [--seconds 1] [--works radius,plain,tls,new_tls] [--counts 1,2]

The same load goes to mfalb with one worker and with two, plain and compiled, in interleaved rounds. All of them may use
every core, and so may generator and backends: on a machine with two cores nothing else is left for a second worker. The
figure is therefore CPU time a unit, all of mfalb's processes together, and not the rate: that is what the cores have
left. More processes than cores cost everybody caches and context switches, which counts against two workers here.

- radius: transactions with 512 outstanding from 16 sockets, two secrets (pins, duplicates, probes, access log on)
- plain, tls: kept-alive requests over 64 connections; new_tls: connections for one request each, with full handshakes

Writes bench/results/workers.json.
"""

from __future__ import annotations

import argparse
import http.client
import ssl
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the harness that the scenarios use too

import contenders.mfalb
from backends import BACKEND_SECRET, responder
from contenders import HttpsContender, HttpsTask, RadiusContender, RadiusTask
from datagrams import run_in_batches
from generator import Generator, Requests, sign_requests
from https_site import first_cookie, make_site
from https_works import HEADLINE_CONNECTIONS, Bench, KeptAlive, NewTls, Subject, Work, take_turn
from measure import RESULTS, Cores, Metric, Scenario, Series, Stopwatch, table, write_result
from programs.certificates import make_certificate
from programs.ports import LOOPBACK, free_udp_port
from programs.process import Program, ProgramFailed

from mfalb.wire.radius import SharedSecret

CLIENT_SECRET: Final = "towards-the-clients"  # noqa: S105 - loopback, for the length of a run
OUTSTANDING: Final = 512
FASTEST_PER_S: Final = 130_000  # how many requests are signed ahead for each second of a turn
WARM_UP_S: Final = 0.3
LOST_LIMIT: Final = 0.001
SESSIONS: Final = 8
TARGET_RATIO: Final = 1.1
FORMS: Final[Mapping[str, tuple[Callable[[RadiusTask], RadiusContender], Callable[[HttpsTask], HttpsContender]]]] = {
    "": (contenders.mfalb.radius, contenders.mfalb.https),
    "_compiled": (contenders.mfalb.radius_compiled, contenders.mfalb.https_compiled),
}
RADIUS_METRICS: Final = (Metric("transactions_per_s", "1/s"), Metric("cpu_us_per_transaction", "us"))
HTTPS_WORKS: Final[Mapping[str, Work]] = {
    "plain": KeptAlive(HEADLINE_CONNECTIONS, is_tls=False),
    "tls": KeptAlive(HEADLINE_CONNECTIONS, is_tls=True),
    "new_tls": NewTls(is_resuming=False),
}
RADIUS: Final = "radius"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: everything that the command line says."""

    rounds: int
    seconds: float
    works: Sequence[str]
    counts: Sequence[int]
    results: Path


@dataclass(frozen=True, slots=True)
class RadiusLoad:
    """Requests signed ahead, and the servers behind."""

    requests: Requests
    secret: SharedSecret
    backends: Program
    seconds: float
    scenario: Scenario

    def measure(self, name: str, contender: RadiusContender) -> Mapping[str, float]:
        """A turn's figures; none when nothing was answered."""
        watch = Stopwatch(contender.program.pid, self.backends.pid)
        tally = Generator(self.requests, self.secret, OUTSTANDING).run(contender.port, self.seconds)
        cpu_s, effort = watch.stop(tally.elapsed_s + tally.drained_s)
        self.scenario.note_effort(name, effort, RADIUS)
        if tally.bad or not tally.answered:
            self.scenario.spoil(f"{name}: wrong answers or none (radius)")
            return {}
        if tally.lost > LOST_LIMIT * tally.answered:
            self.scenario.spoil(f"{name}: {tally.lost} of {tally.answered} lost (radius)")
        values = (tally.answered / tally.elapsed_s, cpu_s / (tally.answered + tally.late) * 1e6)
        return {metric.name: value for metric, value in zip(RADIUS_METRICS, values, strict=True)}


def contender_name(count: int, form: str) -> str:
    """As in the results: workers_1, workers_2_compiled."""
    return f"workers_{count}{form}"


def run(plan: Plan) -> Scenario:
    """Runs the plan; what came of it."""
    works = [HTTPS_WORKS[name] for name in plan.works if name != RADIUS]
    metrics = [*RADIUS_METRICS] if RADIUS in plan.works else []
    metrics += [metric for work in works for metric in work.metrics]
    scenario = Scenario("workers", metrics)
    cores = Cores.pick()
    everyone = cores.contender | cores.load
    with tempfile.TemporaryDirectory(prefix="mfalb-bench-") as name, ExitStack() as running:
        run_dir = Path(name)
        files = make_certificate(run_dir / "tls", "bench.example", LOOPBACK)
        site = make_site(run_dir, files.cert, files.key, everyone)
        running.enter_context(site.program)
        ports = (free_udp_port(), free_udp_port())
        backends = running.enter_context(responder("responder", run_dir, ports, everyone))
        bench = Bench(site, ssl.create_default_context(cafile=files.ca), run_dir, plan.seconds, scenario)
        tasks = (
            RadiusTask(run_dir, ports, CLIENT_SECRET, BACKEND_SECRET, everyone),
            HttpsTask(run_dir, site.ports, files.cert, files.key, everyone),
        )
        started = _start(plan, bench, tasks, running)
        run_in_batches()  # from here on: contenders inherit it otherwise
        secret = SharedSecret(CLIENT_SECRET.encode())
        load = RadiusLoad(
            sign_requests(int(plan.seconds * FASTEST_PER_S), secret), secret, backends, plan.seconds, scenario
        )
        for number in range(-1, plan.rounds):  # the first one warms everybody up
            _round(plan, bench, load, started, is_counted=number >= 0)
            print(f"round {number + 1} of {plan.rounds} done", file=sys.stderr)
    scenario.judge_efforts(len(everyone), is_limit_fatal=False)
    judge(scenario, plan)
    return scenario


Started = Mapping[str, tuple[RadiusContender, Subject]]


def _start(plan: Plan, bench: Bench, tasks: tuple[RadiusTask, HttpsTask], running: ExitStack) -> Started:
    started: dict[str, tuple[RadiusContender, Subject]] = {}
    for form, (radius, https) in FORMS.items():
        for count in plan.counts:
            name = contender_name(count, form)
            directory = bench.run_dir / name
            directory.mkdir()
            try:
                one = radius(replace(tasks[0], run_dir=directory / "radius", workers=count))
                other = https(replace(tasks[1], run_dir=directory / "https", workers=count))
                running.enter_context(one.program)
                running.enter_context(other.program)
                cookies = [first_cookie(other.plain_port) for _ in range(SESSIONS)]
            except (ProgramFailed, OSError, http.client.HTTPException) as error:
                bench.scenario.spoil(f"{name} could not be started: {str(error).splitlines()[0]}")
                continue
            subject = Subject(replace(other, name=name), [cookie for cookie in cookies if cookie])
            started[name] = one, subject
            bench.scenario.series[name] = Series(other.version)
    return started


def _round(plan: Plan, bench: Bench, load: RadiusLoad, started: Started, *, is_counted: bool) -> None:
    """A turn of each work for everybody, one work after the other."""
    figures: dict[str, dict[str, float]] = {name: {} for name in started}
    for work in plan.works:
        for name, (radius, subject) in started.items():
            if work == RADIUS:
                figures[name] |= load.measure(name, radius)
            else:
                figures[name] |= take_turn(bench, subject, HTTPS_WORKS[work])
    if is_counted:
        for name, found in figures.items():
            bench.scenario.series[name].rounds.append(found)
    else:
        bench.scenario.efforts.clear()


def judge(scenario: Scenario, plan: Plan) -> None:
    """What a unit costs with more workers, in terms of one worker's cost: medians of ratios within rounds."""
    first, *more = plan.counts
    for form in FORMS:
        for count in more:
            for metric in (one for one in scenario.metrics if one.name.startswith("cpu_us")):
                ratio = scenario.ratio(metric.name, contender_name(count, form), contender_name(first, form))
                if ratio is not None:
                    verdict = "within" if ratio <= TARGET_RATIO else "past"
                    who = f"{contender_name(count, form)}/{contender_name(first, form)}"
                    scenario.note(f"{metric.name} {who}: {ratio} ({verdict} the target of {TARGET_RATIO})")


def read_plan(arguments: Sequence[str] | None = None) -> Plan:
    """What the command line says. Exits when it makes no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each has its turn (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="the length of a turn (%(default)s)")
    parser.add_argument("--works", default=",".join((RADIUS, *HTTPS_WORKS)), help="by comma (%(default)s)")
    parser.add_argument("--counts", default="1,2", help="numbers of workers, by comma; all against the first")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory to write to (%(default)s)")
    given = parser.parse_args(arguments)
    works = given.works.split(",")
    if unknown := set(works) - {RADIUS, *HTTPS_WORKS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join((RADIUS, *HTTPS_WORKS))}")
    return Plan(given.rounds, given.seconds, works, [int(count) for count in given.counts.split(",")], given.results)


def main() -> None:
    """Runs what the command line says, prints a table and writes the results file."""
    plan = read_plan()
    result = run(plan).result()
    print(table(result))
    print(f"written: {write_result(result, plan.results)}")


if __name__ == "__main__":
    main()
