"""HTTPS: what a request costs mfalb, HAProxy, nginx, Envoy and a proxy written as an aiohttp handler, side by side.

    python bench/https.py [--rounds 3] [--seconds 1] [--connections 4,64,512] [--contenders mfalb,haproxy]
                          [--works plain,tls,new_tls,bulk,latency,idle] [--rate 2000]

Each contender runs on core 0 with one worker, clients and the backends on core 1, in interleaved rounds: every work
goes once round all contenders before the next begins. Two backends (nginx) answer with 200 bytes. All that can pin by
cookie, and requests carry cookies given before, as those of browsers do; all write an access log. The works:

- plain, tls: kept-alive requests, as many as go through (wrk). CPU time per request is the headline, at 64 connections
- new_tls: connections for one request each, with full handshakes, and resuming a session
- bulk: bodies of 10 MB down and up
- latency: TLS requests at half of the contender's capacity, and at one rate for all (`@same_rate`: `--rate`, or half of
  the capacity of the slower one of mfalb and HAProxy), by h2load's log; `added_p99_ms` is what a backend with TLS does
  not take at the same pace
- idle: resident memory of TLS connections that wait

CPU time per unit of work is right even where clients set the pace; rates are lower bounds then, and `notes` say where.
Writes bench/results/https.json and https.png.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the harness that the scenarios use too

import contenders.aiohttp_handler
import contenders.envoy
import contenders.haproxy
import contenders.mfalb
import contenders.nginx
import plot
from bulk import Direction
from contenders import HttpsContender, HttpsTask
from https_site import first_cookie, make_site
from https_works import (
    HEADLINE_CONNECTIONS,
    Bench,
    Bulk,
    Idle,
    KeptAlive,
    Latency,
    NewTls,
    Rate,
    Subject,
    Work,
    take_turn,
)
from measure import RESULTS, Cores, Scenario, Series, table, write_result
from programs.certificates import make_certificate
from programs.ports import LOOPBACK
from programs.process import ProgramFailed

SESSIONS: Final = 8  # cookies in use: enough to reach both backends
PACE_SETTERS: Final = ("mfalb", "haproxy")  # the slower of them says what `@same_rate` is
BUILDERS: Final[dict[str, Callable[[HttpsTask], HttpsContender]]] = {
    "mfalb": contenders.mfalb.https,
    "mfalb_compiled": contenders.mfalb.https_compiled,
    "haproxy": contenders.haproxy.https,
    "nginx": contenders.nginx.https,
    "envoy": contenders.envoy.https,
    "aiohttp_handler": contenders.aiohttp_handler.https,
}
WORKS: Final[dict[str, Callable[[Sequence[int]], list[Work]]]] = {
    "plain": lambda connections: [KeptAlive(count, is_tls=False) for count in connections],
    "tls": lambda connections: [KeptAlive(count, is_tls=True) for count in connections],
    "new_tls": lambda _: [NewTls(is_resuming=False), NewTls(is_resuming=True)],
    "bulk": lambda _: [Bulk(direction) for direction in Direction],
    "latency": lambda _: [Latency(rate) for rate in Rate],
    "idle": lambda _: [Idle()],
}
LIKENESS: Final = (
    "pinned by cookie: all but nginx, whose Debian build cannot; access log: all; probes: all but nginx and "
    "aiohttp_handler"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: everything that the command line says."""

    rounds: int
    seconds: float
    works: Sequence[Work]
    contenders: Sequence[str]
    rate_per_s: float | None  # of `@same_rate`; None: to be found
    results: Path


def _start_contenders(bench: Bench, names: Iterable[str], task: HttpsTask, running: ExitStack) -> None:
    for name in names:
        try:
            contender = BUILDERS[name](task)
            running.enter_context(contender.program)
            cookies = [first_cookie(contender.plain_port) for _ in range(SESSIONS)]
        except (ProgramFailed, OSError, http.client.HTTPException) as error:
            bench.scenario.spoil(f"{name} could not be started: {str(error).splitlines()[0]}")
            continue
        bench.subjects.append(Subject(contender, [cookie for cookie in cookies if cookie]))
        bench.scenario.series[name] = Series(contender.version)


def _calibrate(bench: Bench, rate_per_s: float | None) -> None:
    """Warms everyone up, then finds how fast they are, which fixes the paces of the latency works for all rounds."""
    warm_up = KeptAlive(HEADLINE_CONNECTIONS, is_tls=True)
    for subject in bench.subjects:
        warm_up.rate(bench, subject.target(is_tls=True))
        subject.capacity_per_s = warm_up.rate(bench, subject.target(is_tls=True))
    setters = [one for one in bench.subjects if one.name in PACE_SETTERS] or bench.subjects
    bench.same_rate_per_s = rate_per_s or min((one.capacity_per_s for one in setters), default=0.0) / 2
    paces = ", ".join(f"{one.name} {one.capacity_per_s / 2:,.0f}/s" for one in bench.subjects)
    bench.scenario.note(f"latency at a pace of {paces}; for all, {bench.same_rate_per_s:,.0f}/s (@same_rate)")


def _run_rounds(bench: Bench, plan: Plan) -> None:
    loads = [work for work in plan.works if not isinstance(work, Idle)]
    figures = _round(bench, [work for work in plan.works if isinstance(work, Idle)])
    _calibrate(bench, plan.rate_per_s)
    for number in range(plan.rounds):
        for name, found in _round(bench, loads).items():
            bench.scenario.series[name].rounds.append({**found, **(figures[name] if number == 0 else {})})
        print(f"round {number + 1} of {plan.rounds} done", file=sys.stderr)


def _round(bench: Bench, works: Iterable[Work]) -> dict[str, dict[str, float]]:
    """What each contender did in one turn of each work, by its name."""
    figures: dict[str, dict[str, float]] = {subject.name: {} for subject in bench.subjects}
    for work in works:
        if isinstance(work, KeptAlive):
            work.measure_direct(bench)
        for subject in bench.subjects:
            figures[subject.name] |= take_turn(bench, subject, work)
    return figures


def note_direct(bench: Bench, works: Iterable[Work]) -> None:
    """Says how fast clients and backends are alone, and how much of that the fastest contender asked for."""
    parts = []
    for work in works:
        if not isinstance(work, KeptAlive) or work.name not in bench.direct:
            continue
        taken = [series.values(work.metrics[0].name) for series in bench.scenario.series.values()]
        rate = median(bench.direct[work.name])
        share = max((median(values) for values in taken if values), default=0.0) / rate
        parts.append(f"{rate:,.0f}/s {work.name} (fastest contender: {share:.0%})")
    if parts:
        bench.scenario.note(f"clients and backends alone on their core: {', '.join(parts)}")


def run(plan: Plan) -> Scenario:
    """Runs the plan; what came of it."""
    metrics = [metric for work in plan.works for metric in work.metrics]
    cores, scenario = Cores.pick(), Scenario("https", metrics)
    if cores.is_shared:
        scenario.spoil("one core only: contender and load took turns on it")
    scenario.note(LIKENESS)
    os.sched_setaffinity(0, cores.load)
    with tempfile.TemporaryDirectory(prefix="mfalb-bench-") as name, ExitStack() as running:
        run_dir = Path(name)
        files = make_certificate(run_dir / "tls", "bench.example", LOOPBACK)
        site = make_site(run_dir, files.cert, files.key, cores.load)
        running.enter_context(site.program)
        bench = Bench(site, ssl.create_default_context(cafile=files.ca), run_dir, plan.seconds, scenario)
        task = HttpsTask(run_dir, site.ports, files.cert, files.key, cores.contender)
        _start_contenders(bench, plan.contenders, task, running)
        _run_rounds(bench, plan)
        note_direct(bench, plan.works)
    scenario.judge_efforts(len(cores.load), is_limit_fatal=False)
    return scenario


def _chosen(parser: argparse.ArgumentParser, given: str, known: Iterable[str]) -> list[str]:
    names = given.split(",")
    if unknown := set(names) - set(known):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return names


def read_plan(arguments: Sequence[str] | None = None) -> Plan:
    """What the command line says. Exits when it makes no sense."""
    parser = argparse.ArgumentParser(description="CPU time, rate, latency and memory of HTTPS proxies, side by side")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender has its turn (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="the length of each turn (%(default)s)")
    parser.add_argument("--connections", default="4,64,512", help="of plain and tls, by comma (%(default)s)")
    parser.add_argument("--contenders", default=",".join(BUILDERS), help="by comma (%(default)s)")
    parser.add_argument("--works", default=",".join(WORKS), help="by comma (%(default)s)")
    parser.add_argument("--rate", type=float, help="requests/s of @same_rate (half of mfalb's or HAProxy's capacity)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory to write to (%(default)s)")
    given = parser.parse_args(arguments)
    connections = [int(count) for count in given.connections.split(",")]
    works = [work for name in _chosen(parser, given.works, WORKS) for work in WORKS[name](connections)]
    names = _chosen(parser, given.contenders, BUILDERS)
    return Plan(given.rounds, given.seconds, works, names, given.rate, given.results)


def main() -> None:
    """Runs what the command line says, prints a table, writes the results file and the picture beside it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwind, and so stop every contender
    plan = read_plan()
    result = run(plan).result()
    print(table(result))
    path = write_result(result, plan.results)
    plot.https(result, path.with_suffix(".png"))
    print(f"written: {path} and the plot beside it")


if __name__ == "__main__":
    main()
