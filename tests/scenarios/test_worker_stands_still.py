"""Promise: a worker that stands still is told of, killed and replaced; who stood still with its supervisor is not.

These wait out the real time: a worker is killed when it has missed ten questions, one a second.
"""

from __future__ import annotations

import asyncio
import http
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest
import requests
from programs.balanced_estate import CALLED, RADIUS_SECRET, BalancedEstate, balanced_estate
from programs.balancer import Balancer, is_alive
from programs.http_backend import HttpBackend
from programs.http_pool import Front, http_pool, new_front
from programs.nas import NasHabits, nas_with
from programs.operator import Operator, socket_path
from programs.process import wait_until
from programs.worker_paths import udp_to_each_worker

from mfalb.balancer.admin import api_models as api
from mfalb.cli.admin_client import AdminClient
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

WORKERS: Final = 2
LIMIT_S: Final = 10.0
LATEST_S: Final = 30.0  # for what takes 11 s on a machine with nothing else to do
CALLERS: Final = 16  # that all of them come to one worker of two happens once in 30,000 times
READY: Final = (200, "ready\n")
PATIENT: Final = NasHabits(SharedSecret(RADIUS_SECRET.encode()), retransmit_s=0.5, tries=80)


def stop(pid: int) -> None:
    """It stands still when this returns: SIGSTOP alone is only on its way."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) == "T", "a process that stands still")


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(") ")[2][0]


def totals(balancer: Balancer) -> Mapping[str, float]:
    """Of the metrics about workers, without their `mfalb_worker_`."""
    metrics, names = balancer.metrics(), ("restarts_total", "kills_total", "silences_total")
    return {name: metrics.total(f"mfalb_worker_{name}") for name in names}


class Caller(threading.Thread):
    """Asks once, on a connection of its own, and has a minute's patience."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.status = 0
        self.took_s = 0.0
        self.start()

    def run(self) -> None:
        began_s = time.monotonic()
        self.status = requests.get(self.url, timeout=60).status_code
        self.took_s = time.monotonic() - began_s


async def ringing(balanced: BalancedEstate) -> None:
    async with asyncio.timeout(10):
        while not await balanced.estate.cloud.calls_made():  # noqa: ASYNC110 - another process rings
            await asyncio.sleep(0.02)


async def test_a_worker_that_stands_still_is_replaced_its_clients_are_served_and_the_phone_rings_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("programs.balancer.WORKERS", WORKERS)
    with socket_path() as admin_socket:
        async with balanced_estate(tmp_path, admin_socket=admin_socket) as balanced:
            balancer = balanced.balancer
            with udp_to_each_worker(balancer, balanced.radius_port) as ways:
                victim, sock = next(iter(ways.items()))
                async with nas_with(sock, PATIENT) as nas, asyncio.TaskGroup() as group:
                    asked = group.create_task(nas.sign_in(CALLED.name, CALLED.password))
                    await ringing(balanced)
                    stop(victim)
                    callers = [Caller(balanced.sdk_url) for _ in range(CALLERS)]
                    await asyncio.to_thread(assert_told_of, balancer, admin_socket)
                    await asyncio.to_thread(assert_replaced, balancer, victim)
            answer = asked.result()
            assert answer is not None
            assert answer.code == radius.ACCESS_ACCEPT
            assert nas.tally.retransmits > LIMIT_S
            assert await balanced.estate.cloud.calls_made() == {CALLED.name: 1}
            for caller in callers:
                await asyncio.to_thread(caller.join)
            assert {caller.status for caller in callers} == {http.HTTPStatus.UNAUTHORIZED}, "the server's own word"
            assert max(caller.took_s for caller in callers) > LIMIT_S / 2, (
                "none of them met the worker that stood still"
            )


def assert_told_of(balancer: Balancer, admin_socket: Path) -> None:
    """All within the five seconds before it is killed; `mfalb status` itself takes one of them to begin."""
    answer = (503, "workers that do not answer: 1\n")
    wait_until(lambda: balancer.ready_page() == answer, "word of a worker that does not answer", deadline_s=LATEST_S)
    told = AdminClient(admin_socket, 10.0).get(api.Status, "/v1/status").workers
    assert (told.configured, told.serving, told.silent, told.kills) == (WORKERS, 1, 1, 0)
    metrics = balancer.metrics()
    assert (metrics.total("mfalb_workers"), metrics.total("mfalb_workers_silent")) == (1, 1)


def assert_replaced(balancer: Balancer, victim: int) -> None:
    wait_until(lambda: victim not in balancer.workers, "the end of the worker that stood still", deadline_s=LATEST_S)
    wait_until(lambda: balancer.ready_page() == READY, "the next one")
    assert len(balancer.workers) == WORKERS
    found = totals(balancer)
    assert (found["kills_total"], found["restarts_total"]) == (1, 1)
    log = balancer.log()
    assert f"a worker that does not answer is killed worker={worker_number(log, victim)} pid={victim}" in log
    assert f"a worker has ended pid={victim} signal=9" in log


def worker_number(log: str, pid: int) -> str:
    """Its seat's, as the word of its silence has it."""
    return log.partition("a worker does not answer worker=")[2].partition(f" pid={pid} ")[0]


@pytest.fixture
def front() -> Front:
    return new_front()


@pytest.fixture
def site(front: Front, tmp_path: Path) -> Iterator[tuple[Balancer, Operator]]:
    with ExitStack() as stack:
        backend = stack.enter_context(HttpBackend("b1", tmp_path / "b1"))
        path = stack.enter_context(socket_path())
        config = {
            "workers": WORKERS,
            "admin": {"socket": str(path)},
            "listeners": [front.listener("web", [{"pool": "web"}])],
            "pools": {"web": http_pool(backend.address)},
        }
        yield stack.enter_context(Balancer(config, tmp_path / "mfalb")), Operator(path)


def test_when_the_whole_service_stood_still_for_longer_than_that_nobody_is_killed(
    site: tuple[Balancer, Operator],
) -> None:
    balancer, _ = site
    workers = balancer.workers
    try:
        for worker in workers:
            stop(worker)
        threading.Event().wait(1.5)  # each owes an answer when the supervisor stops as well
        os.killpg(balancer.pid, signal.SIGSTOP)
        wait_until(lambda: state_of(balancer.pid) == "T", "the supervisor to stand still")
        threading.Event().wait(LIMIT_S + 1)
    finally:
        os.killpg(balancer.pid, signal.SIGCONT)
    threading.Event().wait(2)  # rounds
    found = totals(balancer)
    assert (found["kills_total"], found["restarts_total"]) == (0, 0)
    assert found["silences_total"] >= WORKERS, "nobody owed an answer"
    assert balancer.workers == workers
    assert balancer.ready_page() == READY


def test_a_worker_of_a_former_process_that_stands_still_is_killed_and_the_process_ends(
    site: tuple[Balancer, Operator], front: Front
) -> None:
    balancer, operator = site
    with closing(front.connect()) as connection:  # which the former process waits for, with one of its workers
        connection.request("GET", "/echo")
        assert connection.getresponse().read()
        former, workers = balancer.pid, balancer.workers
        balancer.replaced_by(operator.ask("upgrade")["pid"])
        for worker in workers:
            if is_alive(worker):
                os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: not any(map(is_alive, [*workers, former])), "the end of them all", deadline_s=LATEST_S)
    assert "a worker that does not answer is killed" in balancer.log()
    assert balancer.ready_page() == READY
    assert totals(balancer)["kills_total"] == 0, "that was another process"
