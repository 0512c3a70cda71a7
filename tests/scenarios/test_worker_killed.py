"""Promise: a worker that is killed rings no phone twice; its clients' retransmits end what it had begun.

What was forwarded is sent again by the next worker as the dead one sent it: from the same port, under the same
identifier, the same bytes. Only so does a server know it for a retransmit.
"""

from __future__ import annotations

import asyncio
import http
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import requests
from programs.balanced_estate import CALLED, RADIUS_SECRET, TEXTED, BalancedEstate, balanced_estate
from programs.balancer import Balancer
from programs.nas import Nas, NasHabits, open_nas
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radius_pool import radius_pool
from programs.radius_responder import Manners, RadiusResponder

from mfalb.reference.config.values import User
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

WORKERS: Final = 4
KILLS_S: Final = float(os.environ.get("SOAK_KILLS_S", "5"))
KILL_EVERY_S: Final = 1.0
HTTP_CALLERS: Final = 3
SECRET: Final = "between-all-of-them-0"
OTHER_SECRET: Final = "towards-the-clients-0"


def kill_worker(balancer: Balancer, victim: int) -> None:
    """SIGKILL, and until its place is taken."""
    size = len(balancer.workers)
    os.kill(victim, signal.SIGKILL)
    wait_until(
        lambda: victim not in balancer.workers and len(balancer.workers) == size and is_complete(balancer, size),
        "the next worker",
    )


def is_complete(balancer: Balancer, size: int) -> bool:
    return balancer.metrics().total("mfalb_workers") == size


class Site:
    """One server, the balancer, and a client's socket."""

    def __init__(self, balancer: Balancer, server: RadiusResponder, client: socket.socket) -> None:
        self.balancer = balancer
        self.server = server
        self.client = client


@contextmanager
def running_site(run_dir: Path, client_secret: str, answers_after_s: float | None) -> Iterator[Site]:
    with RadiusResponder("b1", SECRET, Manners(access_after_s=answers_after_s)) as server:
        pool = radius_pool([server], run_dir, client_secret=client_secret)
        with (
            Balancer(pool.config, run_dir / "mfalb", secrets=pool.secrets) as balancer,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            client.connect((LOOPBACK, pool.port))
            client.settimeout(5)
            yield Site(balancer, server, client)


def request(secret: str) -> bytes:
    body = radius.attribute(radius.USER_NAME, b"alice")
    return radius.signed_request(radius.ACCESS_REQUEST, 77, os.urandom(16), body, SharedSecret(secret.encode()))


@pytest.mark.parametrize("client_secret", [SECRET, OTHER_SECRET])
def test_the_next_worker_sends_what_the_dead_one_sent_from_the_same_port(tmp_path: Path, client_secret: str) -> None:
    with running_site(tmp_path, client_secret, answers_after_s=None) as site:
        datagram = request(client_secret)
        site.client.send(datagram)
        wait_until(lambda: len(site.server.requests()) == 1, "the request")
        kill_worker(site.balancer, site.balancer.worker)
        site.server.manners = Manners()
        site.client.send(datagram)
        assert site.client.recv(4096)[0] == radius.ACCESS_ACCEPT
        first, again = site.server.requests()
        assert (again.port, again.data) == (first.port, first.data)


@pytest.mark.parametrize("client_secret", [SECRET, OTHER_SECRET])
def test_a_third_worker_knows_what_the_first_one_sent_and_the_second_sent_again(
    tmp_path: Path, client_secret: str
) -> None:
    with running_site(tmp_path, client_secret, answers_after_s=None) as site:
        datagram = request(client_secret)
        for sent in (1, 2, 3):
            site.client.send(datagram)
            wait_until(lambda: len(site.server.requests()) == sent, "the request")  # noqa: B023
            kill_worker(site.balancer, site.balancer.worker)
        assert len({(one.port, one.data) for one in site.server.requests()}) == 1


def test_a_request_that_was_answered_before_the_kill_is_no_new_one_either(tmp_path: Path) -> None:
    with running_site(tmp_path, OTHER_SECRET, answers_after_s=0.0) as site:
        datagram = request(OTHER_SECRET)
        site.client.send(datagram)
        answer = site.client.recv(4096)
        kill_worker(site.balancer, site.balancer.worker)
        site.client.send(datagram)
        assert site.client.recv(4096) == answer
        first, again = site.server.requests()
        assert (again.port, again.data) == (first.port, first.data)


def test_another_request_under_the_same_identifier_is_a_new_one(tmp_path: Path) -> None:
    with running_site(tmp_path, SECRET, answers_after_s=0.0) as site:
        site.client.send(request(SECRET))
        site.client.recv(4096)
        kill_worker(site.balancer, site.balancer.worker)
        site.client.send(request(SECRET))
        assert site.client.recv(4096)[0] == radius.ACCESS_ACCEPT
        first, other = site.server.requests()
        assert (other.port, other.identifier) != (first.port, first.identifier), "that may still be answered"


# ------------------------------------------------------------------------------------ with phones


async def ringing(balanced: BalancedEstate) -> None:
    """Until somebody's phone rings; its server waits for two seconds then."""
    async with asyncio.timeout(10):
        while not await balanced.estate.cloud.calls_made():  # noqa: ASYNC110 - another process rings
            await asyncio.sleep(0.02)


async def test_a_phone_rings_once_though_the_worker_is_killed_while_it_rings(tmp_path: Path) -> None:
    async with (
        balanced_estate(tmp_path) as balanced,
        open_nas(balanced.radius_port, NasHabits(SharedSecret(RADIUS_SECRET.encode()))) as nas,
    ):
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(nas.sign_in(CALLED.name, CALLED.password))
            await ringing(balanced)
            await asyncio.to_thread(kill_worker, balanced.balancer, balanced.balancer.worker)
        answer = asked.result()
        assert answer is not None
        assert answer.code == radius.ACCESS_ACCEPT
        assert await balanced.estate.cloud.calls_made() == {CALLED.name: 1}


async def sign_in(balanced: BalancedEstate, nas: Nas, user: User) -> int:
    """Both halves; the code of the last answer, 0 for none."""
    begun = await nas.sign_in(user.name, user.password)
    state = begun.first(radius.STATE) if begun is not None else None
    if begun is None or state is None:
        return 0 if begun is None else begun.code
    (code, *_) = await balanced.estate.cloud.codes(user.name)
    ended = await nas.sign_in(user.name, code, state)
    return 0 if ended is None else ended.code


async def test_while_workers_are_killed_all_the_time_sign_ins_end_well_ring_once_and_only_http_requests_under_way_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    monkeypatch.setattr("programs.balancer.WORKERS", WORKERS)
    habits = NasHabits(SharedSecret(RADIUS_SECRET.encode()), tries=100)
    begun: Counter[str] = Counter()
    ended: Counter[int] = Counter()
    over = asyncio.Event()

    async def use(balanced: BalancedEstate, user: User) -> None:
        async with open_nas(balanced.radius_port, habits) as nas:  # a port of its own, so any of the workers
            while not over.is_set():
                begun[user.name] += 1
                ended[await sign_in(balanced, nas, user)] += 1

    async with balanced_estate(tmp_path) as balanced:
        callers = [HttpCaller(balanced.sdk_url) for _ in range(HTTP_CALLERS)]
        for caller in callers:
            caller.start()
        async with asyncio.TaskGroup() as users:
            for user in TEXTED:
                users.create_task(use(balanced, user))
            kills = [kill async for kill in killing(balanced.balancer, KILLS_S)]
            over.set()
        for caller in callers:
            caller.is_over.set()
            await asyncio.to_thread(caller.join)
        assert len(kills) >= KILLS_S / KILL_EVERY_S / 2
        assert ended == {radius.ACCESS_ACCEPT: begun.total()}
        assert await balanced.estate.cloud.texts_sent() == begun
    assert min(caller.served for caller in callers) > 0
    failures = [one for caller in callers for one in caller.failures]
    assert [one for one in failures if not any(map(one.was_open_at, kills))] == []
    requests_made = sum(caller.served for caller in callers) + len(failures)
    record_property("kills, sign-ins, requests, failures", (len(kills), ended.total(), requests_made, len(failures)))


@dataclass(frozen=True, slots=True)
class Kill:
    """Some moment between the two."""

    after_s: float
    before_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """An HTTP request that was not answered, from before its connection was opened until the caller knew."""

    began_s: float
    ended_s: float
    error: str

    def was_open_at(self, kill: Kill) -> bool:
        return self.began_s <= kill.before_s and kill.after_s <= self.ended_s


class HttpCaller(threading.Thread):
    """Asks one thing after the other, each on a connection of its own."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.is_over = threading.Event()
        self.served = 0
        self.failures: list[Failure] = []

    def run(self) -> None:
        while not self.is_over.wait(0.01):
            began_s = time.monotonic()
            try:
                status = requests.get(self.url, timeout=10).status_code
            except requests.RequestException as error:
                self.failures.append(Failure(began_s, time.monotonic(), repr(error)))
                continue
            if status == http.HTTPStatus.UNAUTHORIZED:  # it is the server that wants to know who asks
                self.served += 1
            else:
                self.failures.append(Failure(began_s, began_s, f"status {status}"))


async def killing(balancer: Balancer, seconds: float) -> AsyncIterator[Kill]:
    """SIGKILL one of the workers every second."""
    end_s, count = time.monotonic() + seconds, 0
    while (after_s := time.monotonic()) < end_s:
        workers = balancer.workers
        os.kill(workers[count % len(workers)], signal.SIGKILL)
        count += 1
        yield Kill(after_s, time.monotonic())
        await asyncio.sleep(KILL_EVERY_S)
