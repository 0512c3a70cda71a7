"""HTTPS: what one request costs mfalb, HAProxy and nginx, plain and with TLS; new connections, large bodies, memory.

    python bench/https.py [--rounds 3] [--seconds 1] [--connections 64] [--contenders mfalb,haproxy] [--bulk]

Each contender runs on core 0, wrk and the backends on core 1, in interleaved rounds. Two backends (nginx) answer with
200 bytes; connections are kept alive except where new ones are the work; mfalb and HAProxy pin by cookie, and the
requests carry cookies given before, as those of browsers do. Writes bench/results/https.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the harness that the scenarios use too

import contenders.haproxy
import contenders.mfalb
import contenders.nginx
from bulk import BODY_BYTES, Direction, move
from contenders import HttpsContender, HttpsTask
from measure import Cores, Metric, Scenario, Series, Stopwatch, session_rss_kb, table, write_result
from programs.certificates import make_certificate
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Program, ProgramFailed, find_program

RESPONSE_BYTES: Final = 200
IDLE_CONNECTIONS: Final = 500
SESSIONS: Final = 8  # cookies in use: enough to reach both backends
LUA: Final = Path(__file__).with_name("wrk.lua")
BUILDERS: Final[dict[str, Callable[[HttpsTask], HttpsContender]]] = {
    "mfalb": contenders.mfalb.https,
    "haproxy": contenders.haproxy.https,
    "nginx": contenders.nginx.https,
}
_BACKEND: Final = """
http {{
    access_log off;
    client_body_temp_path {run_dir}/body;
    proxy_temp_path {run_dir}/proxy;
    fastcgi_temp_path {run_dir}/fastcgi;
    uwsgi_temp_path {run_dir}/uwsgi;
    scgi_temp_path {run_dir}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    server {{
{listens}
        default_type text/plain;
        client_max_body_size 0;
        location = /large {{
            root {run_dir};
        }}
        location = /upload {{  # nginx takes the whole body into memory before it goes on to the answer
            client_body_buffer_size 11m;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_pass http://{host}:{port}/;
        }}
        location / {{
            return 200 "{body}";
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Work:
    """What wrk is told to do."""

    name: str
    is_tls: bool = True
    is_closing: bool = False


PLAIN: Final = Work("plain", is_tls=False)
TLS: Final = Work("tls")
NEW_TLS: Final = Work("new TLS connections", is_closing=True)
WORKS: Final = (PLAIN, TLS, NEW_TLS)

METRICS: Final = (
    Metric("requests_per_s_plain", "1/s"),
    Metric("cpu_us_per_request_plain", "us"),
    Metric("requests_per_s_tls", "1/s"),
    Metric("cpu_us_per_request_tls", "us"),
    Metric("p50_ms", "ms"),
    Metric("p99_ms", "ms"),
    Metric("connections_per_s_tls", "1/s"),
    Metric("cpu_us_per_connection_tls", "us"),
    Metric("bytes_per_s_10mb_down", "B/s"),
    Metric("cpu_ms_per_10mb_down", "ms"),
    Metric("bytes_per_s_10mb_up", "B/s"),
    Metric("cpu_ms_per_10mb_up", "ms"),
    Metric("rss_kb_per_idle_tls", "KB"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: everything that the command line says."""

    rounds: int
    seconds: int
    connections: int
    contenders: Sequence[str]
    has_bulk: bool


@dataclass(frozen=True, slots=True)
class WrkFigures:
    """What wrk printed."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    errors: int


@dataclass(slots=True)
class Bench:
    """A run in progress; `cookies` are those that each contender gave."""

    plan: Plan
    backends: Program
    ca: Path
    scenario: Scenario
    running: list[HttpsContender] = field(default_factory=list)
    cookies: dict[str, list[str]] = field(default_factory=dict)

    def wrk(self, contender: HttpsContender, work: Work, seconds: int) -> WrkFigures:
        scheme, port = ("https", contender.tls_port) if work.is_tls else ("http", contender.plain_port)
        closing = ["-H", "Connection: close"] if work.is_closing else []
        finished = subprocess.run(
            [
                *(find_program("wrk"), "-t", "1", "-c", str(self.plan.connections), "-d", f"{seconds}s", *closing),
                *("-s", str(LUA), f"{scheme}://{LOOPBACK}:{port}/", "--", *self.cookies[contender.name]),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 30,
        )
        said = json.loads(finished.stdout.splitlines()[-1])
        times = (said["duration_us"] / 1e6, said["p50_us"] / 1e3, said["p99_us"] / 1e3)
        return WrkFigures(said["requests"], *times, said["errors"])

    def measure(self, contender: HttpsContender, work: Work) -> dict[str, float]:
        """One turn's figures, named as in the results file."""
        watch = Stopwatch(contender.program.pid, self.backends.pid)
        figures = self.wrk(contender, work, self.plan.seconds)
        contender_cpu_s, effort = watch.stop(figures.duration_s)
        if not figures.requests:
            self.scenario.spoil(f"{contender.name} answered nothing ({work.name})")
            return {}
        if figures.errors:
            self.scenario.spoil(f"{contender.name}: errors, time-outs or other answers than 200 ({work.name})")
        self.scenario.note_effort(f"{contender.name} {work.name}", effort)
        return _named(work, figures, contender_cpu_s)

    def measure_bulk(self, contender: HttpsContender, direction: Direction) -> dict[str, float]:
        """One turn of moving large bodies, without TLS."""
        way = direction.name.lower()
        watch = Stopwatch(contender.program.pid, self.backends.pid)
        try:
            moved = move(contender.plain_port, direction, self.plan.seconds)
        except OSError as error:
            self.scenario.spoil(f"{contender.name}: 10 MB {way} broke off: {error}")
            return {}
        cpu_s, effort = watch.stop(moved.elapsed_s)
        self.scenario.note_effort(f"{contender.name} 10 MB {way}", effort)
        if moved.errors:
            self.scenario.spoil(f"{contender.name}: other answers than 200 (10 MB {way})")
        return {
            f"bytes_per_s_10mb_{way}": moved.body_bytes / moved.elapsed_s,
            f"cpu_ms_per_10mb_{way}": cpu_s / (moved.body_bytes / BODY_BYTES) * 1e3,
        }

    def measure_idle(self, contender: HttpsContender) -> dict[str, float]:
        """What open TLS connections cost that have served a request and wait for the next one."""
        program, context = contender.program.pid, ssl.create_default_context(cafile=self.ca)
        before_kb = session_rss_kb(program)
        with ExitStack() as opened:
            for _ in range(IDLE_CONNECTIONS):
                _get(opened.enter_context(_tls_connection(contender, context)))
            grown_kb = session_rss_kb(program) - before_kb
        return {"rss_kb_per_idle_tls": grown_kb / IDLE_CONNECTIONS}


def _named(work: Work, figures: WrkFigures, cpu_s: float) -> dict[str, float]:
    rate, cpu_us = figures.requests / figures.duration_s, cpu_s / figures.requests * 1e6
    if work is NEW_TLS:
        return {"connections_per_s_tls": rate, "cpu_us_per_connection_tls": cpu_us}
    named = {f"requests_per_s_{work.name}": rate, f"cpu_us_per_request_{work.name}": cpu_us}
    return named | ({"p50_ms": figures.p50_ms, "p99_ms": figures.p99_ms} if work is TLS else {})


@contextmanager
def _tls_connection(contender: HttpsContender, context: ssl.SSLContext) -> Iterator[http.client.HTTPSConnection]:
    connection = http.client.HTTPSConnection(LOOPBACK, contender.tls_port, timeout=10, context=context)
    try:
        yield connection
    finally:
        connection.close()


def _get(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """The answer to GET /, read to its end and checked. Raises ProgramFailed when it is not the backends'."""
    connection.request("GET", "/")
    response = connection.getresponse()
    body = response.read()
    if response.status != http.client.OK or len(body) != RESPONSE_BYTES:
        raise ProgramFailed(f"the answer is {response.status} with {len(body)} bytes")
    return response


def _cookie_from(contender: HttpsContender) -> str | None:
    """The affinity cookie of a first visit, as a browser sends it back; None when none is given."""
    connection = http.client.HTTPConnection(LOOPBACK, contender.plain_port, timeout=10)
    try:
        given = _get(connection).getheader("Set-Cookie")
    finally:
        connection.close()
    return given.partition(";")[0] if given else None


def _backends(run_dir: Path, ports: Sequence[int], cores: frozenset[int]) -> Program:
    listens = "\n".join(f"        listen {LOOPBACK}:{port};" for port in ports)
    directory = run_dir / "backends"
    directory.mkdir()
    (directory / "large").write_bytes(bytes(BODY_BYTES))
    config = _BACKEND.format(
        run_dir=directory, listens=listens, body="x" * RESPONSE_BYTES, host=LOOPBACK, port=ports[0]
    )
    launch = Launch(pinned_to_cores=cores)
    return contenders.nginx.nginx_program("backends", config, directory, launch)


def _start_contenders(bench: Bench, task: HttpsTask, running: ExitStack) -> None:
    for name in bench.plan.contenders:
        try:
            contender = BUILDERS[name](task)
            running.enter_context(contender.program)
            cookies = [_cookie_from(contender) for _ in range(SESSIONS)]
        except (ProgramFailed, OSError, http.client.HTTPException) as error:
            bench.scenario.spoil(f"{name} could not be started: {str(error).splitlines()[0]}")
            continue
        bench.cookies[name] = [cookie for cookie in cookies if cookie]
        bench.running.append(contender)
        bench.scenario.series[name] = Series(contender.version)


def _run_rounds(bench: Bench) -> None:
    for contender in bench.running:
        bench.wrk(contender, TLS, 1)  # warm up
    for number in range(bench.plan.rounds):
        for contender in bench.running:
            figures: dict[str, float] = {}
            for work in WORKS:
                figures |= bench.measure(contender, work)
            for direction in Direction if bench.plan.has_bulk else ():
                figures |= bench.measure_bulk(contender, direction)
            if number == 0:  # memory that was once taken is not given back: only the first time counts
                figures |= bench.measure_idle(contender)
            bench.scenario.series[contender.name].rounds.append(figures)
        print(f"round {number + 1} of {bench.plan.rounds} done", file=sys.stderr)


def run(plan: Plan) -> Scenario:
    """Runs the plan; what came of it."""
    cores, scenario = Cores.pick(), Scenario("https", METRICS)
    if cores.is_shared:
        scenario.spoil("one core only: contender and load took turns on it")
    scenario.notes.append(
        f"{plan.connections} connections; nginx pins nothing and stores uploads before it forwards them"
    )
    os.sched_setaffinity(0, cores.load)
    with tempfile.TemporaryDirectory(prefix="mfalb-bench-") as name, ExitStack() as running:
        run_dir, ports = Path(name), (free_tcp_port(), free_tcp_port())
        files = make_certificate(run_dir / "tls", "bench.example", LOOPBACK)
        bench = Bench(plan, running.enter_context(_backends(run_dir, ports, cores.load)), files.ca, scenario)
        task = HttpsTask(run_dir, ports, files.cert, files.key, cores.contender)
        _start_contenders(bench, task, running)
        _run_rounds(bench)
    scenario.judge_efforts(len(cores.load))
    return scenario


def _plan(arguments: Sequence[str] | None = None) -> Plan:
    parser = argparse.ArgumentParser(description="CPU time and rate of HTTPS proxies, side by side")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender has its turn (%(default)s)")
    parser.add_argument("--seconds", type=int, default=1, help="the length of each of its works (%(default)s)")
    parser.add_argument("--connections", type=int, default=64, help="open at the same time (%(default)s)")
    parser.add_argument("--contenders", default=",".join(BUILDERS), help="by comma (%(default)s)")
    parser.add_argument("--bulk", action="store_true", help="10 MB bodies too; with two cores the load may be too slow")
    given = parser.parse_args(arguments)
    names = given.contenders.split(",")
    if unknown := set(names) - BUILDERS.keys():
        parser.error(f"no such contender: {', '.join(sorted(unknown))}")
    return Plan(given.rounds, given.seconds, given.connections, names, given.bulk)


def main() -> None:
    """Runs what the command line says, prints a table and writes the results file."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwind, and so stop every contender
    scenario = run(_plan())
    result = scenario.result()
    print(table(result))
    print(f"written: {write_result(result)}")


if __name__ == "__main__":
    main()
