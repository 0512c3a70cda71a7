"""Promise: sign-ins whose halves come to two workers, of one node or of two, all complete: by RADIUS and by the SDK.

No half meets the worker of the other one by chance: each client socket here is known to reach a certain worker, and
each worker begins sign-ins that each other one ends.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import itertools
import random
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from programs.balanced_estate import (
    ACCOUNT,
    RADIUS_SECRET,
    SDK_PATH,
    TEXTED,
    BalancedEstate,
    another_node,
    balanced_estate,
)
from programs.nas import Nas, NasHabits, nas_with
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.redis import Redis, store_config
from programs.worker_paths import tcp_to_each_worker, udp_to_each_worker

from mfalb.reference.config.values import User
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

WORKERS: Final = 4
_LOGIN: Final = base64.b64encode(f"{ACCOUNT.name}:{ACCOUNT.password}".encode()).decode()
_HEADERS: Final = {"Content-Type": "text/xml; charset=utf-8", "Authorization": f"Basic {_LOGIN}"}
_ENVELOPE: Final = '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>{}</Body></Envelope>'


@dataclass(frozen=True, slots=True)
class Way:
    """To one worker: a NAS and a connection that reach no other."""

    nas: Nas
    connection: http.client.HTTPConnection

    async def ask(self, user: User, password: str, state: bytes | None = None) -> radius.Packet:
        answer = await self.nas.sign_in(user.name, password, state)
        assert answer is not None, "no answer"
        return answer

    async def call(self, body: str) -> str:
        return await asyncio.to_thread(self._call, body)

    def _call(self, body: str) -> str:
        used = self.connection.sock
        self.connection.request("POST", SDK_PATH, _ENVELOPE.format(body), _HEADERS)
        answer = self.connection.getresponse().read().decode()
        assert self.connection.sock is used, "the connection was closed, and another one may reach any worker"
        return answer


Pair = tuple[Way, Way]


@asynccontextmanager
async def ways(node: BalancedEstate) -> AsyncIterator[list[Way]]:
    """One to each worker of a node."""
    async with AsyncExitStack() as stack:
        udp = stack.enter_context(udp_to_each_worker(node.balancer, node.radius_port))
        tcp = stack.enter_context(tcp_to_each_worker(node.balancer, node.http_port))
        assert len(udp) == len(tcp) == WORKERS
        habits = NasHabits(SharedSecret(RADIUS_SECRET.encode()))
        yield [
            Way(await stack.enter_async_context(nas_with(udp[worker], habits)), connection_over(tcp[worker]))
            for worker in sorted(udp)
        ]


def connection_over(sock: socket.socket) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(LOOPBACK, timeout=20)
    connection.sock = sock
    return connection


async def code_of(node: BalancedEstate, user: User) -> str:
    return (await node.estate.cloud.codes(user.name))[0]


async def by_radius(node: BalancedEstate, pairs: Iterable[Pair]) -> Counter[int]:
    """Begin a sign-in at the first worker of each pair, and when all are begun end each at the second."""
    begun = []
    for (first, second), user in zip(pairs, itertools.cycle(TEXTED), strict=False):
        state = (await first.ask(user, user.password)).first(radius.STATE)
        assert state is not None
        begun.append((second, user, await code_of(node, user), state))
    random.Random(1).shuffle(begun)  # noqa: S311 - an order
    return Counter([(await second.ask(user, code, state)).code for second, user, code, state in begun])


async def by_sdk(node: BalancedEstate, pairs: Iterable[Pair]) -> Counter[bool]:
    """The same over the SDK."""
    begun = []
    for (first, second), user in zip(pairs, itertools.cycle(TEXTED), strict=False):
        text = await first.call(f"<PfAuthUser_4><username>{user.name}</username></PfAuthUser_4>")
        (request_id,) = re.findall("<authreqid>(.*?)</authreqid>", text)
        fields = f"<username>{user.name}</username><authreqid>{request_id}</authreqid>"
        begun.append((second, f"{fields}<otp>{await code_of(node, user)}</otp>"))
    random.Random(2).shuffle(begun)  # noqa: S311 - an order
    texts = [await second.call(f"<VerifyOneWayOtp>{fields}</VerifyOneWayOtp>") for second, fields in begun]
    return Counter("<VerifyOneWayOtpResult>true" in text for text in texts)


async def assert_all_complete(node: BalancedEstate, pairs: Sequence[Pair]) -> None:
    assert await by_radius(node, pairs) == {radius.ACCESS_ACCEPT: len(pairs)}
    assert await by_sdk(node, pairs) == {True: len(pairs)}
    ended = [server.log_text().count("second half") for server in node.estate.mfa_servers]
    assert sum(ended) == 2 * len(pairs)
    assert min(ended) >= len(pairs) // 4, f"one server was hardly used: {ended}"


@pytest.fixture(autouse=True)
def _many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estates get a balancer of several workers."""
    monkeypatch.setattr("programs.balancer.WORKERS", WORKERS)


async def test_of_one_node_each_worker_ends_what_each_other_one_began(tmp_path: Path) -> None:
    async with balanced_estate(tmp_path) as node, ways(node) as workers:
        pairs = list(itertools.permutations(workers, 2))
        await assert_all_complete(node, pairs)
        assert node.balancer.metrics().total("mfalb_pins_hit_total") == 2 * len(pairs)


async def test_of_two_nodes_each_worker_ends_what_each_one_of_the_other_node_began(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    await asyncio.to_thread(redis.start)
    async with AsyncExitStack() as stack:
        stack.callback(redis.stop)
        one = await stack.enter_async_context(balanced_estate(tmp_path, pins=store_config(redis, node="a")))
        pins = store_config(redis, node="b")
        two = await stack.enter_async_context(another_node(one, tmp_path / "b", pins, workers=WORKERS))
        for node in (one, two):
            await asyncio.to_thread(wait_for_store, node)
        here = await stack.enter_async_context(ways(one))
        there = await stack.enter_async_context(ways(two))
        pairs = [*itertools.product(here, there), *itertools.product(there, here)]
        await assert_all_complete(one, pairs)
        assert [found_in_store(node) for node in (one, two)] == [len(pairs)] * 2


def wait_for_store(node: BalancedEstate) -> None:
    """Until each of its workers uses it."""
    up = "mfalb_pin_store_up"
    wait_until(lambda: node.balancer.metrics().total(up) == 1, "all workers to use the store", deadline_s=20)


def found_in_store(node: BalancedEstate) -> float:
    asked: Mapping[str, str] = {"operation": "look_up", "result": "found"}
    return node.balancer.metrics().total("mfalb_pin_store_operations_total", **asked)
