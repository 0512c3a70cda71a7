"""Pins: how much longer does an answer take that waits until its pin is kept, and what pays for it?

    python bench/pins.py [--rounds 5] [--requests 1000]

One client, one request at a time, before nodes of two workers each: two nodes with a Redis on the same host
(`mfalb_valkey`), a node whose workers share their pins in memory (`mfalb`), and one that pins nothing (`no_pins`). In
each round everybody has a turn, one after the other, with the same server behind them:

- `challenge`: half one, whose answer waits until its pin is kept
- `continued`: half two at the node that began it; for `mfalb_valkey` also `continued_elsewhere`, at the other node
- `reject`: what pins nothing

Times are microseconds from the client's send to its answer; `added` is the difference to `no_pins` in one round. The
table itself is measured with a million pins in it: how long a `put` and a `find` take in this process, in regions of
two workers, and how much memory a pin has. Writes bench/results/pins.json.
"""

from __future__ import annotations

import argparse
import mmap
import socket
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from os import urandom
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the harness that the scenarios use too

from measure import RESULTS, Metric, Round, Scenario, Series, Stopwatch, own_rss_kb, table, write_result
from programs.balancer import Balancer
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radius_pool import NO_PINS as UNPINNED
from programs.radius_pool import STATE_PINS, radius_pool, without_proxy_state
from programs.redis import Redis

import mfalb
from mfalb.balancer.affinity.hub import Hub, HubPlan
from mfalb.balancer.affinity.store import Pin
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret
from mfalb.wire.radius_hidden import hide_password

SECRET: Final = "one-secret-for-the-whole-bench"  # noqa: S105 - loopback, for the length of a run
STATE_BYTES: Final = 16
PATIENCE_S: Final = 5.0
WORKS: Final = ("challenge", "continued", "continued_elsewhere", "reject")
KINDS: Final = ("p50", "p99")
TARGETS_ADDED_US: Final[Mapping[str, float]] = {"mfalb": 300.0, "mfalb_valkey": 1000.0}
NO_PINS: Final = "no_pins"
WORKERS: Final = 2
MILLION: Final = 1_000_000
FOUND: Final = 100_000  # of the million pins, looked for
LIFETIME_S: Final = 300.0
_IDENTIFIERS: Final = count()


class Server:
    """Answers a request without a State with a challenge, one with a State with an Accept, a stranger with a Reject."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.secret = SECRET
        self._shared = SharedSecret(SECRET.encode())
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(4096)
                self._socket.sendto(self._answer(radius.read_untrusted(data)), peer)
            except OSError:  # closed
                return

    def _answer(self, request: radius.Packet) -> bytes:
        code, body = radius.ACCESS_ACCEPT, b""
        if request.code == radius.ACCESS_REQUEST and request.first(radius.USER_NAME) == b"stranger":
            code = radius.ACCESS_REJECT
        elif request.code == radius.ACCESS_REQUEST and request.first(radius.STATE) is None:
            code, body = radius.ACCESS_CHALLENGE, radius.attribute(radius.STATE, urandom(STATE_BYTES))
        return radius.signed_response(code, request.identifier, request.authenticator, body, self._shared)


class Client:
    """Asks one thing at a time, at a node."""

    def __init__(self, port: int) -> None:
        self._secret = SharedSecret(SECRET.encode())
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect((LOOPBACK, port))

    def ask(self, user: bytes, state: bytes = b"") -> tuple[float, radius.Packet]:
        """How long the answer took, in microseconds, and the answer. Raises TimeoutError when none comes."""
        authenticator, identifier = urandom(16), next(_IDENTIFIERS) % 256
        attributes = [
            (radius.USER_NAME, user),
            (radius.USER_PASSWORD, hide_password(b"x", self._secret, authenticator)),
        ]
        if state:
            attributes.append((radius.STATE, state))
        body = b"".join(radius.attribute(*one) for one in attributes)
        request = radius.signed_request(radius.ACCESS_REQUEST, identifier, authenticator, body, self._secret)
        began = time.perf_counter()
        self._socket.send(request)
        answer = self._socket.recv(4096)
        took_us = (time.perf_counter() - began) * 1e6
        return took_us, radius.read_untrusted(answer)


@dataclass(frozen=True, slots=True)
class Nodes:
    """What has a turn: clients of the node that begins, and of the one that continues elsewhere, if there is one."""

    first: Client
    other: Client | None
    pid: int

    def turn(self, requests: int) -> Round:
        """The percentiles of each work, one work after the other."""
        begun: list[tuple[bytes, bytes]] = []

        def begin(number: int) -> float:
            user = b"user%d" % number
            took_us, answer = self.first.ask(user)
            begun.append((user, expect(answer, radius.ACCESS_CHALLENGE).first(radius.STATE) or b""))
            return took_us

        found = percentiles("challenge", [begin(number) for number in range(requests)])
        half = len(begun) // 2 if self.other is not None else len(begun)
        for work, client, some in (
            ("continued", self.first, begun[:half]),
            ("continued_elsewhere", self.other, begun[half:]),
        ):
            if client is not None:
                found |= percentiles(work, [timed(client, radius.ACCESS_ACCEPT, *one) for one in some])
        rejected = [timed(self.first, radius.ACCESS_REJECT, b"stranger") for _ in range(requests)]
        return found | percentiles("reject", rejected)


def timed(client: Client, code: int, user: bytes, state: bytes = b"") -> float:
    """How long the expected answer took, in microseconds."""
    took_us, answer = client.ask(user, state)
    expect(answer, code)
    return took_us


def expect(answer: radius.Packet, code: int) -> radius.Packet:
    """The answer. Raises ValueError when it is another than the bench is made of."""
    if answer.code != code:
        raise ValueError(f"answered with {answer.code} instead of {code}")
    return answer


def percentiles(work: str, times_us: Sequence[float]) -> dict[str, float]:
    """The median, and the time that one in a hundred exceeds (somebody had it)."""
    ordered = sorted(times_us)
    return {f"{work}_p50": ordered[len(ordered) // 2], f"{work}_p99": ordered[-1 - len(ordered) // 100]}


def added(pinning: Round, free: Round) -> dict[str, float]:
    """What pins added to a round's challenges, and to what pins nothing."""
    works = ("challenge", "reject")
    return {
        f"{work}_added_{kind}": pinning[f"{work}_{kind}"] - free[f"{work}_{kind}"] for work in works for kind in KINDS
    }


def new_scenario() -> Scenario:
    """Nothing measured yet."""
    names = [f"{work}_{kind}" for work in WORKS for kind in KINDS]
    names += [f"{work}_added_{kind}" for work in ("challenge", "reject") for kind in KINDS]
    names += [f"table_{work}_{kind}" for work in ("put", "find") for kind in KINDS]
    series = {name: Series(mfalb.__version__) for name in (*TARGETS_ADDED_US, NO_PINS)}
    metrics = [
        *(Metric(name, "us") for name in names),
        Metric("table_bytes_per_pin", "bytes"),
        Metric("table_pins", "1"),
    ]
    return Scenario("pins", metrics, series)


def measure(rounds: int, requests: int, pins: int, run_dir: Path) -> Scenario:
    """All rounds. Raises TimeoutError and ValueError when something is answered otherwise than it should be."""
    scenario = new_scenario()
    with ExitStack() as running:
        servers = [running.enter_context(Server(name)) for name in ("backend1", "backend2")]
        redis = running.enter_context(Redis(run_dir))
        store = {"type": "valkey", "addresses": [redis.address], "timeout": "1s"}
        nodes = Site(servers, run_dir, running)
        shared = [nodes.start(name, pins={"store": {**store, "node": name}}) for name in ("a", "b")]
        alone = nodes.start("alone")
        unpinned = nodes.start(NO_PINS, affinity=UNPINNED)
        turns = {
            "mfalb_valkey": Nodes(Client(shared[0].port), Client(shared[1].port), shared[0].pid),
            "mfalb": Nodes(Client(alone.port), None, alone.pid),
            NO_PINS: Nodes(Client(unpinned.port), None, unpinned.pid),
        }
        for one in turns.values():
            one.turn(requests)  # warm
        for _ in range(rounds):
            one_round(scenario, turns, requests, redis.pid)
    scenario.judge_efforts(load_cores=2, is_limit_fatal=False)
    scenario.series["mfalb"].rounds.append(full_table(pins))
    judge_targets(scenario)
    return scenario


def one_round(scenario: Scenario, turns: Mapping[str, Nodes], requests: int, store: int) -> None:
    """A turn for everybody."""
    found: dict[str, Round] = {}
    for name, nodes in turns.items():
        watch, began = Stopwatch(nodes.pid, store), time.perf_counter()
        found[name] = nodes.turn(requests)
        _, effort = watch.stop(time.perf_counter() - began)
        scenario.note_effort(name, effort)
    for name, round_ in found.items():
        more = added(round_, found[NO_PINS]) if name != NO_PINS else {}
        scenario.series[name].rounds.append({**round_, **more})


def full_table(pins: int) -> Round:
    """A table of two workers' regions that is filled to its limit: times in microseconds, memory in bytes a pin."""
    plan = HubPlan(WORKERS, pins // WORKERS)
    keys = [urandom(16) for _ in range(plan.limit * WORKERS)]
    took_us = array("d", bytes(8 * len(keys)))
    memory = mmap.mmap(-1, plan.size_bytes)
    hubs = [Hub(memory, plan, region) for region in range(WORKERS)]
    now, before_kb = 1000.0, own_rss_kb()
    for number, key in enumerate(keys):
        hub, pin = hubs[number % WORKERS], Pin(key, "mfa1", now + LIFETIME_S)
        began = time.perf_counter()
        hub.put(pin, now)
        took_us[number] = (time.perf_counter() - began) * 1e6
    grown_kb, held = own_rss_kb() - before_kb, sum(map(len, hubs))
    found_us = []
    for key in keys[:: max(1, len(keys) // FOUND)]:
        began = time.perf_counter()
        backend = hubs[0].find(key, now)
        found_us.append((time.perf_counter() - began) * 1e6)
        if backend is None:
            raise ValueError("a pin of the full table was not found")
    return {
        **percentiles("table_put", took_us[-len(keys) // 10 :]),  # of the last tenth: the table is nearly full
        **percentiles("table_find", found_us),
        "table_bytes_per_pin": grown_kb * 1024 / held,
        "table_pins": held,
    }


def judge_targets(scenario: Scenario) -> None:
    """Whether what pins add to a challenge is what they may."""
    for name, target_us in TARGETS_ADDED_US.items():
        p99 = median(scenario.series[name].values("challenge_added_p99"))
        verdict = "within" if p99 <= target_us else "past"
        scenario.note(f"{name}: {p99:.0f} us added to a challenge, p99: {verdict} the target of {target_us:.0f} us")


@dataclass(frozen=True, slots=True)
class Node:
    """A balancer that serves, and its port for RADIUS."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Site:
    """What nodes stand before, and where they run."""

    servers: Sequence[Server]
    run_dir: Path
    running: ExitStack

    def start(
        self, name: str, *, affinity: Mapping[str, Any] = STATE_PINS, pins: Mapping[str, Any] | None = None
    ) -> Node:
        """A node of two workers; with a store, when it is used."""
        directory = self.run_dir / name
        health = {"type": "radius"}
        pool = radius_pool(self.servers, directory, affinity=affinity, health=health, client_secret=SECRET)
        config = {**without_proxy_state(pool).config, "workers": WORKERS, **({"pins": pins} if pins else {})}
        balancer = self.running.enter_context(Balancer(config, directory))
        if pins:
            wait_until(lambda: balancer.metrics().total("mfalb_pin_store_up") >= 1, f"node {name} uses the store")
        return Node(balancer.pid, pool.port)


def main() -> None:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--pins", type=int, default=MILLION, help="in the table that is filled (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mfalb-bench-") as run_dir:
        result = measure(arguments.rounds, arguments.requests, arguments.pins, Path(run_dir)).result()
    path = write_result(result, arguments.results)
    print(table(result))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
