"""RADIUS: what one transaction costs mfalb, radsecproxy, FreeRADIUS as a proxy, and nginx balancing datagrams.

    python bench/radius.py [--rounds 4] [--seconds 1] [--outstanding 8,128,1024] [--contenders mfalb,nginx]

PAP requests with a Message-Authenticator and two backends, in interleaved rounds; each contender has core 0, generator
and backends share core 1. Everyone is measured in both configurations that operators have, side by side:

- clients and backends know different secrets: passwords are hidden and packets are signed anew, both ways
- they share one secret (`@same_secret`): a proxy may pass a packet on as it is

nginx cannot change a packet, so its clients share the backends' secret; its figures stand under both names. In each
round generator and backends also run without a contender: what they reach then (in `notes`) is how far they can be
trusted, and a turn in which they, not the contender, had nothing left spoils the result.

Writes bench/results/radius.json and radius.png.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the harness that the scenarios use too

import contenders.freeradius
import contenders.mfalb
import contenders.nginx
import contenders.radsecproxy
import plot
from backends import BACKEND_SECRET, responder
from contenders import RadiusContender, RadiusTask
from datagrams import run_in_batches
from generator import Generator, Requests, Tally, sign_requests
from measure import OURS, RESULTS, Cores, Metric, Scenario, Series, Stopwatch, table, write_result
from programs.ports import free_udp_port
from programs.process import Program, ProgramFailed

from mfalb.wire.radius import SharedSecret

CLIENT_SECRET: Final = "towards-the-clients"  # noqa: S105 - loopback, for the length of a run
HEADLINE_OUTSTANDING: Final = 128
SAME_SECRET: Final = "@same_secret"  # noqa: S105 - the end of a metric's name
BLIND: Final = frozenset({"nginx"})  # contenders that cannot sign anew
FASTEST_PER_S: Final = 130_000  # how many requests are signed ahead for each second of a round
WARM_UP_S: Final = 0.3
LOST_LIMIT: Final = 0.001  # of all requests; past this the rate says nothing
BUILDERS: Final[dict[str, Callable[[RadiusTask], RadiusContender]]] = {
    "mfalb": contenders.mfalb.radius,
    "mfalb_compiled": contenders.mfalb.radius_compiled,
    "radsecproxy": contenders.radsecproxy.radius,
    "freeradius": contenders.freeradius.radius,
    "nginx": contenders.nginx.radius,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: everything that the command line says."""

    rounds: int
    seconds: float
    outstanding: Sequence[int]
    contenders: Sequence[str]
    results: Path


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender in one configuration: what its clients' secret is, and how the names of its metrics end."""

    contender: RadiusContender
    client_secret: str
    suffixes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.contender.name + (SAME_SECRET if SAME_SECRET in self.suffixes else "")


@dataclass(slots=True)
class Bench:
    """A run in progress. `direct` holds, for each load, the rates of generator and responder without a contender."""

    plan: Plan
    responder: Program
    responder_port: int
    scenario: Scenario
    entries: list[Entry] = field(default_factory=list)
    requests: dict[str, Requests] = field(default_factory=dict)
    direct: dict[int, list[float]] = field(default_factory=dict)

    def generator(self, secret: str, outstanding: int) -> Generator:
        if secret not in self.requests:
            count = int(self.plan.seconds * FASTEST_PER_S)
            self.requests[secret] = sign_requests(count, SharedSecret(secret.encode()))
        return Generator(self.requests[secret], SharedSecret(secret.encode()), outstanding)

    def warm_up(self) -> None:
        for entry in self.entries:
            tally = self.generator(entry.client_secret, HEADLINE_OUTSTANDING).run(entry.contender.port, WARM_UP_S)
            if not tally.answered:
                self.scenario.spoil(f"{entry.name} answered nothing while it was warmed up")

    def measure(self, entry: Entry, outstanding: int) -> dict[str, float]:
        """One turn's figures, named as in the results file."""
        generator = self.generator(entry.client_secret, outstanding)
        watch = Stopwatch(entry.contender.program.pid, self.responder.pid)
        tally = generator.run(entry.contender.port, self.plan.seconds)
        contender_cpu_s, effort = watch.stop(tally.elapsed_s + tally.drained_s)
        if not tally.answered:
            self.scenario.spoil(f"{entry.name} answered nothing in a turn with {outstanding} outstanding")
            return {}
        self.scenario.note_effort(f"{entry.name} with {outstanding}", effort)
        self._judge(entry, outstanding, tally)
        figures = _figures(tally, contender_cpu_s).items()
        return {name + _load_suffix(outstanding) + end: value for name, value in figures for end in entry.suffixes}

    def measure_direct(self, outstanding: int) -> None:
        """One turn of generator and responder alone."""
        tally = self.generator(BACKEND_SECRET, outstanding).run(self.responder_port, self.plan.seconds)
        if tally.bad or tally.lost:
            self.scenario.spoil(f"generator and responder alone: {tally.lost} lost, {tally.bad} wrong")
        self.direct.setdefault(outstanding, []).append(tally.answered / tally.elapsed_s)

    def _judge(self, entry: Entry, outstanding: int, tally: Tally) -> None:
        if tally.bad:
            self.scenario.spoil(f"{entry.name}: wrong answers")
        if tally.lost <= LOST_LIMIT * tally.answered:
            return
        reason = f"{entry.name} lost more than {LOST_LIMIT:.1%}: with {outstanding} outstanding, fewer really were"
        if entry.contender.name in OURS or outstanding == HEADLINE_OUTSTANDING:
            self.scenario.spoil(reason)
        else:  # a contender that cannot take this load: a result, too
            self.scenario.note(reason)

    def note_direct(self) -> None:
        """Says how fast generator and responder are alone, and how much of that the fastest contender asked for."""
        parts = []
        for outstanding, rates in self.direct.items():
            metric = f"transactions_per_s{_load_suffix(outstanding)}"
            series = self.scenario.series.values()
            taken = [one.values(metric + end) for one in series for end in ("", SAME_SECRET)]
            share = max((median(values) for values in taken if values), default=0.0) / median(rates)
            parts.append(f"{median(rates):,.0f}/s with {outstanding} outstanding (fastest contender: {share:.0%})")
        self.scenario.note(f"generator and responder alone on their core: {', '.join(parts)}")


def _load_suffix(outstanding: int) -> str:
    return "" if outstanding == HEADLINE_OUTSTANDING else f"@{outstanding}"


def _figures(tally: Tally, cpu_s: float) -> dict[str, float]:
    latencies_s = sorted(tally.latencies_s)
    return {
        "transactions_per_s": tally.answered / tally.elapsed_s,
        "cpu_us_per_transaction": cpu_s / (tally.answered + tally.late) * 1e6,
        "p50_us": latencies_s[len(latencies_s) // 2] * 1e6,
        "p99_us": latencies_s[len(latencies_s) * 99 // 100] * 1e6,
        "lost": tally.lost,
    }


def _metrics(outstanding: Sequence[int]) -> list[Metric]:
    units = {"transactions_per_s": "1/s", "cpu_us_per_transaction": "us", "p50_us": "us", "p99_us": "us", "lost": "1"}
    suffixes = [_load_suffix(load) + end for end in ("", SAME_SECRET) for load in outstanding]
    return [Metric(name + suffix, unit) for suffix in suffixes for name, unit in units.items()]


def _start_contenders(bench: Bench, task: RadiusTask, running: ExitStack) -> None:
    same = replace(task, run_dir=task.run_dir / "same_secret", client_secret=task.backend_secret)
    same.run_dir.mkdir()
    for name in bench.plan.contenders:
        variants = [(same, ("", SAME_SECRET))] if name in BLIND else [(task, ("",)), (same, (SAME_SECRET,))]
        for configured, suffixes in variants:
            try:
                contender = BUILDERS[name](configured)
                running.enter_context(contender.program)
            except ProgramFailed as error:
                bench.scenario.spoil(f"{name} could not be started: {str(error).splitlines()[0]}")
                continue
            bench.entries.append(Entry(contender, configured.client_secret, suffixes))
            bench.scenario.series[name] = Series(contender.version)


def _run_rounds(bench: Bench) -> None:
    bench.warm_up()
    for number in range(bench.plan.rounds):
        figures: dict[str, dict[str, float]] = {name: {} for name in bench.scenario.series}
        for outstanding in bench.plan.outstanding:
            bench.measure_direct(outstanding)
            for entry in bench.entries:
                figures[entry.contender.name] |= bench.measure(entry, outstanding)
        for name, series in bench.scenario.series.items():
            series.rounds.append(figures[name])
        print(f"round {number + 1} of {bench.plan.rounds} done", file=sys.stderr)
    bench.note_direct()


def run(plan: Plan) -> Scenario:
    """Runs the plan; what came of it."""
    cores, scenario = Cores.pick(), Scenario("radius", _metrics(plan.outstanding))
    if cores.is_shared:
        scenario.spoil("one core only: contender and load took turns on it")
    scenario.note("nginx cannot sign anew: measured with one secret, its figures stand under both names")
    scenario.note("radsecproxy forwards to one backend: it does not balance")
    os.sched_setaffinity(0, cores.load)
    with tempfile.TemporaryDirectory(prefix="mfalb-bench-") as name, ExitStack() as running:
        run_dir, ports = Path(name), (free_udp_port(), free_udp_port())
        backends = running.enter_context(responder("responder", run_dir, ports, cores.load))
        bench = Bench(plan, backends, ports[0], scenario)
        task = RadiusTask(run_dir, ports, CLIENT_SECRET, BACKEND_SECRET, cores.contender)
        _start_contenders(bench, task, running)
        run_in_batches()  # from here on: contenders inherit it otherwise
        _run_rounds(bench)
        backends.stop()
        if json.loads(backends.log().splitlines()[-1])["bad"]:
            scenario.spoil("backends received requests with a wrong Message-Authenticator")
    scenario.judge_efforts(len(cores.load))
    return scenario


def _plan(arguments: Sequence[str] | None = None) -> Plan:
    parser = argparse.ArgumentParser(description="CPU time and rate of RADIUS proxies, side by side")
    parser.add_argument("--rounds", type=int, default=4, help="how often each contender has its turn (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="the length of a turn (%(default)s)")
    parser.add_argument("--outstanding", default="8,128,1024", help="loads, by comma (%(default)s)")
    parser.add_argument("--contenders", default=",".join(BUILDERS), help="by comma (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory to write to (%(default)s)")
    given = parser.parse_args(arguments)
    names = given.contenders.split(",")
    if unknown := set(names) - BUILDERS.keys():
        parser.error(f"no such contender: {', '.join(sorted(unknown))}")
    return Plan(given.rounds, given.seconds, [int(load) for load in given.outstanding.split(",")], names, given.results)


def main() -> None:
    """Runs what the command line says, prints a table and writes the results file."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwind, and so stop every contender
    plan = _plan()
    result = run(plan).result()
    print(table(result))
    path = write_result(result, plan.results)
    plot.radius(result, path.with_suffix(".png"))
    print(f"written: {path} and the plot beside it")


if __name__ == "__main__":
    main()
