"""RADIUS: what one transaction costs mfalb, radsecproxy, FreeRADIUS as a proxy, and nginx balancing datagrams.

    python bench/radius.py [--rounds 4] [--seconds 2] [--outstanding 128] [--contenders mfalb,nginx]

Each contender runs on core 0, the generator and the backends on core 1, in interleaved rounds. PAP requests with a
Message-Authenticator, two backends, one secret for clients and another for backends (nginx cannot change a packet,
so its clients use the backends'). Writes bench/results/radius.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the harness that the scenarios use too

import contenders.freeradius
import contenders.mfalb
import contenders.nginx
import contenders.radsecproxy
from contenders import RadiusContender, RadiusTask
from generator import Generator, Requests, Tally, sign_requests
from measure import Cores, Metric, Scenario, Series, Stopwatch, table, write_result
from programs.balancer import write_secret
from programs.ports import free_udp_port
from programs.process import Launch, Logged, Program, ProgramFailed

from mfalb.wire.radius import SharedSecret

CLIENT_SECRET: Final = "towards-the-clients"  # noqa: S105 - loopback, for the length of a run
BACKEND_SECRET: Final = "towards-the-backends"  # noqa: S105
HEADLINE_OUTSTANDING: Final = 128
FASTEST_PER_S: Final = 60_000  # how many requests are signed ahead for each second of a round
WARM_UP_S: Final = 0.3
LOST_LIMIT: Final = 0.001  # of all requests; past this the rate says nothing
BUILDERS: Final[dict[str, Callable[[RadiusTask], RadiusContender]]] = {
    "mfalb": contenders.mfalb.radius,
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


@dataclass(slots=True)
class Bench:
    """A run in progress."""

    plan: Plan
    responder: Program
    scenario: Scenario
    running: list[RadiusContender] = field(default_factory=list)
    requests: dict[str, Requests] = field(default_factory=dict)

    def secret_of(self, contender: RadiusContender) -> str:
        return BACKEND_SECRET if contender.name == "nginx" else CLIENT_SECRET

    def requests_of(self, contender: RadiusContender) -> Requests:
        secret = self.secret_of(contender)
        if secret not in self.requests:
            count = int(self.plan.seconds * FASTEST_PER_S)
            self.requests[secret] = sign_requests(count, SharedSecret(secret.encode()))
        return self.requests[secret]

    def generator(self, contender: RadiusContender, outstanding: int) -> Generator:
        return Generator(self.requests_of(contender), SharedSecret(self.secret_of(contender).encode()), outstanding)

    def warm_up(self) -> None:
        for contender in self.running:
            tally = self.generator(contender, HEADLINE_OUTSTANDING).run(contender.port, WARM_UP_S)
            if not tally.answered:
                self.scenario.spoil(f"{contender.name} answered nothing while it was warmed up")

    def measure(self, contender: RadiusContender, outstanding: int) -> dict[str, float]:
        """One round's figures, named as in the results file."""
        generator = self.generator(contender, outstanding)
        watch = Stopwatch(contender.program.pid, self.responder.pid)
        tally = generator.run(contender.port, self.plan.seconds)
        contender_cpu_s, effort = watch.stop(tally.elapsed_s)
        if not tally.answered:
            self.scenario.spoil(f"{contender.name} answered nothing in a round")
            return {}
        self.scenario.note_effort(contender.name, effort)
        self._judge(contender.name, tally)
        suffix = "" if outstanding == HEADLINE_OUTSTANDING else f"@{outstanding}"
        return {f"{name}{suffix}": value for name, value in _figures(tally, contender_cpu_s).items()}

    def _judge(self, name: str, tally: Tally) -> None:
        if tally.bad:
            self.scenario.spoil(f"{name}: wrong answers")
        if tally.lost > LOST_LIMIT * tally.answered:
            self.scenario.spoil(f"{name}: lost {tally.lost} of {tally.answered + tally.lost} in a round")


def _figures(tally: Tally, cpu_s: float) -> dict[str, float]:
    latencies_s = sorted(tally.latencies_s)
    return {
        "transactions_per_s": tally.answered / tally.elapsed_s,
        "cpu_us_per_transaction": cpu_s / tally.answered * 1e6,
        "p50_us": latencies_s[len(latencies_s) // 2] * 1e6,
        "p99_us": latencies_s[len(latencies_s) * 99 // 100] * 1e6,
        "lost": tally.lost,
    }


def _metrics(outstanding: Sequence[int]) -> list[Metric]:
    units = {"transactions_per_s": "1/s", "cpu_us_per_transaction": "us", "p50_us": "us", "p99_us": "us", "lost": "1"}
    suffixes = ["" if load == HEADLINE_OUTSTANDING else f"@{load}" for load in outstanding]
    return [Metric(name + suffix, unit) for suffix in suffixes for name, unit in units.items()]


@contextmanager
def _responder(run_dir: Path, ports: Sequence[int], cores: frozenset[int]) -> Iterator[Program]:
    secret = write_secret(run_dir, "responder.secret", BACKEND_SECRET)
    program = Program(
        "responder",
        [sys.executable, str(Path(__file__).with_name("responder.py")), secret, *map(str, ports)],
        run_dir,
        ready=Logged("ready"),
        launch=Launch(pinned_to_cores=cores),
    )
    with program:
        yield program


def _start_contenders(bench: Bench, task: RadiusTask, running: ExitStack) -> None:
    for name in bench.plan.contenders:
        try:
            contender = BUILDERS[name](task)
            running.enter_context(contender.program)
        except ProgramFailed as error:
            bench.scenario.spoil(f"{name} could not be started: {str(error).splitlines()[0]}")
            continue
        bench.running.append(contender)
        bench.scenario.series[name] = Series(contender.version)


def _run_rounds(bench: Bench) -> None:
    bench.warm_up()
    for number in range(bench.plan.rounds):
        for contender in bench.running:
            figures: dict[str, float] = {}
            for outstanding in bench.plan.outstanding:
                figures |= bench.measure(contender, outstanding)
            bench.scenario.series[contender.name].rounds.append(figures)
        print(f"round {number + 1} of {bench.plan.rounds} done", file=sys.stderr)


def run(plan: Plan) -> Scenario:
    """Runs the plan; what came of it."""
    cores, scenario = Cores.pick(), Scenario("radius", _metrics(plan.outstanding))
    if cores.is_shared:
        scenario.spoil("one core only: contender and load took turns on it")
    scenario.notes.append("clients and backends have different secrets, except for nginx, which cannot sign anew")
    scenario.notes.append("radsecproxy forwards to one backend: it does not balance")
    os.sched_setaffinity(0, cores.load)
    with tempfile.TemporaryDirectory(prefix="mfalb-bench-") as name, ExitStack() as running:
        run_dir, ports = Path(name), (free_udp_port(), free_udp_port())
        responder = running.enter_context(_responder(run_dir, ports, cores.load))
        bench = Bench(plan, responder, scenario)
        task = RadiusTask(run_dir, ports, CLIENT_SECRET, BACKEND_SECRET, cores.contender)
        _start_contenders(bench, task, running)
        _run_rounds(bench)
        responder.stop()
        if json.loads(responder.log().splitlines()[-1])["bad"]:
            scenario.spoil("backends received requests with a wrong Message-Authenticator")
    scenario.judge_efforts(len(cores.load))
    return scenario


def _plan(arguments: Sequence[str] | None = None) -> Plan:
    parser = argparse.ArgumentParser(description="CPU time and rate of RADIUS proxies, side by side")
    parser.add_argument("--rounds", type=int, default=4, help="how often each contender has its turn (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="the length of a turn (%(default)s)")
    parser.add_argument("--outstanding", default=str(HEADLINE_OUTSTANDING), help="loads, by comma (%(default)s)")
    parser.add_argument("--contenders", default=",".join(BUILDERS), help="by comma (%(default)s)")
    given = parser.parse_args(arguments)
    names = given.contenders.split(",")
    if unknown := set(names) - BUILDERS.keys():
        parser.error(f"no such contender: {', '.join(sorted(unknown))}")
    return Plan(given.rounds, given.seconds, [int(load) for load in given.outstanding.split(",")], names)


def main() -> None:
    """Runs what the command line says, prints a table and writes the results file."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwind, and so stop every contender
    scenario = run(_plan())
    result = scenario.result()
    print(table(result))
    print(f"written: {write_result(result)}")


if __name__ == "__main__":
    main()
