"""Promise: the halves of an SMS sign-in over the Web Service SDK may come to two nodes; its answer waits for the store.

The callers keep no cookies and make a connection for each call, as AD FS nodes do.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import requests
from programs.balanced_estate import ACCOUNT, TEXTED, BalancedEstate, another_node, balanced_estate
from programs.process import wait_until
from programs.redis import Redis, store_config

from mfalb.reference.config.values import User

Nodes = tuple[BalancedEstate, BalancedEstate]
_HALF_ONE = (
    '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><PfAuthUser_4>'
    "<username>{user}</username><appName>adfs</appName></PfAuthUser_4></Body></Envelope>"
)
_HALF_TWO = (
    '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><VerifyOneWayOtp>'
    "<username>{user}</username><authreqid>{request_id}</authreqid><otp>{code}</otp>"
    "</VerifyOneWayOtp></Body></Envelope>"
)


@pytest_asyncio.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    running = Redis(tmp_path)
    await asyncio.to_thread(running.start)
    yield running
    running.stop()


@pytest_asyncio.fixture
async def nodes(tmp_path: Path, redis: Redis) -> AsyncIterator[Nodes]:
    async with (
        balanced_estate(tmp_path, pins=store_config(redis, node="a")) as one,
        another_node(one, tmp_path / "b", store_config(redis, node="b"), workers=2) as two,
    ):
        for node in (one, two):
            await asyncio.to_thread(wait_for_store, node)
        yield one, two


def wait_for_store(node: BalancedEstate, *, up: bool = True) -> None:
    wait_until(lambda: node.balancer.metrics().total("mfalb_pin_store_up") == up, f"store up: {up}", deadline_s=20)


def posted(node: BalancedEstate, body: str, patience_s: float = 20) -> requests.Response:
    """A call on a connection of its own."""
    return requests.post(
        node.sdk_url,
        data=body,
        headers={"Content-Type": "text/xml"},
        auth=(ACCOUNT.name, ACCOUNT.password),
        timeout=patience_s,
    )


async def begun(node: BalancedEstate, user: User) -> str:
    """The id of a sign-in that waits for its code."""
    answer = await asyncio.to_thread(posted, node, _HALF_ONE.format(user=user.name))
    assert answer.status_code == 200, answer.text
    return answer.text.partition("authreqid>")[2].partition("<")[0]


async def ended(node: BalancedEstate, user: User, request_id: str) -> bool:
    code = (await node.estate.cloud.codes(user.name))[0]
    body = _HALF_TWO.format(user=user.name, request_id=request_id, code=code)
    answer = await asyncio.to_thread(posted, node, body)
    return answer.status_code == 200 and "VerifyOneWayOtpResult>true" in answer.text


def operations(node: BalancedEstate, operation: str, result: str) -> float:
    return node.balancer.metrics().total("mfalb_pin_store_operations_total", operation=operation, result=result)


async def test_half_one_at_one_node_and_half_two_at_the_other_meet_on_one_server(nodes: Nodes) -> None:
    one, two = nodes
    for first, second, users in ((one, two, TEXTED[:5]), (two, one, TEXTED[5:])):
        ids = [await begun(first, user) for user in users]
        assert all(ids)
        results = [await ended(second, user, request_id) for user, request_id in zip(users, ids, strict=True)]
        assert results == [True] * len(users)
        assert operations(second, "look_up", "found") == len(users)
        assert operations(first, "store", "stored") == len(users)


async def test_when_the_store_stands_still_an_answer_waits_no_longer_than_allowed_and_the_sign_in_ends_at_its_node(
    nodes: Nodes, redis: Redis
) -> None:
    one, _ = nodes
    redis.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        request_id = await begun(one, TEXTED[0])
        took_s = time.monotonic() - began
        assert took_s > 0.9, "the answer was not held, and the next node could not go on"
        assert took_s < 5
        assert await ended(one, TEXTED[0], request_id)
    finally:
        redis.signal(signal.SIGCONT)
    assert operations(one, "store", "stored_late") + operations(one, "store", "store_away") >= 1


async def test_a_caller_who_leaves_while_its_answer_is_held_costs_nobody_anything(nodes: Nodes, redis: Redis) -> None:
    one, two = nodes
    redis.signal(signal.SIGSTOP)
    try:
        with pytest.raises(requests.Timeout):
            await asyncio.to_thread(posted, one, _HALF_ONE.format(user=TEXTED[0].name), 0.5)
    finally:
        redis.signal(signal.SIGCONT)
    for node in nodes:
        await asyncio.to_thread(wait_for_store, node)
    request_id = await begun(one, TEXTED[1])
    assert await ended(two, TEXTED[1], request_id)
    assert one.balancer.metrics().total("mfalb_backend_active", pool="sdk") == 0
