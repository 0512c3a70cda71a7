"""Promise: a pin store that fails costs no sign-in at one node, holds none up for long, and is found again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs.challenge import begin_all, finish_all, sign_in_all
from programs.freeradius import FreeRadius
from programs.process import Program
from programs.radclient import Target
from programs.redis import Redis, store_config
from programs.two_nodes import Node, radius_node, two_radius_nodes

Servers = tuple[FreeRadius, FreeRadius]
USERS = [f"user{number}" for number in range(30)]
TIMEOUT_S = 0.2


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """Running; a test may end it."""
    with Redis(tmp_path) as running:
        yield running


@pytest.fixture
def nodes(otp_servers: Servers, tmp_path: Path, redis: Redis) -> Iterator[tuple[Node, Node]]:
    with two_radius_nodes(otp_servers, tmp_path, store_config(redis, timeout=f"{TIMEOUT_S * 1000:.0f}ms")) as running:
        yield running


def restart(program: Program) -> None:
    program.forget_log()
    program.start()


def test_killed_and_started_again_it_costs_no_sign_in_at_one_node_and_gets_the_pins_made_meanwhile(
    nodes: tuple[Node, Node], redis: Redis
) -> None:
    one, two = nodes
    redis.kill()
    outcome = sign_in_all(one.target, USERS, seed=1)
    assert outcome.accepted == len(USERS), f"{outcome}"
    one.wait_for_store(up=False)
    begun = begin_all(one.target, USERS)
    restart(redis)
    for node in nodes:
        node.wait_for_store()
    ended = finish_all(two.target, begun, seed=2)
    assert ended.accepted == len(USERS), f"{ended}"
    assert one.operations("store", "handed_in") >= len(USERS)
    assert one.operations("store", "store_away") >= len(USERS)
    log = one.balancer.log()
    assert log.count("the pin store is away") == 1, "one line at each change"
    assert log.count("the pin store answers") == 2
    assert one.balancer.metrics().total("mfalb_pin_store_failures_total", reason="refused") >= 1


def test_frozen_it_holds_up_a_few_sign_ins_for_its_timeout_and_then_none(
    nodes: tuple[Node, Node], redis: Redis
) -> None:
    one, two = nodes
    patient = Target(one.target.host, one.target.port, one.target.secret)  # one after the other
    warm = time.monotonic()
    assert sign_in_all(patient, USERS, seed=1).accepted == len(USERS)
    usual_s = time.monotonic() - warm
    redis.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert sign_in_all(patient, USERS, seed=2).accepted == len(USERS)
        took_s = time.monotonic() - began
        one.wait_for_store(up=False)
        assert "the pin store is away" in one.balancer.log()
    finally:
        redis.signal(signal.SIGCONT)
    # Each half that waited would make 60 times 0.2 s; a machine that is busy may take its time, too
    assert took_s < 3 * usual_s + len(USERS) * TIMEOUT_S * 0.8, f"{took_s:.1f} s instead of {usual_s:.1f} s"
    for node in nodes:
        node.wait_for_store()
    assert finish_all(two.target, begin_all(one.target, USERS), seed=3).accepted == len(USERS)


def test_a_node_starts_and_serves_without_it_and_finds_it_when_it_comes(otp_servers: Servers, tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    with radius_node("a", otp_servers, tmp_path, store_config(redis)) as node:
        assert sign_in_all(node.target, USERS, seed=1).accepted == len(USERS)
        assert not node.is_store_up
        with redis:
            node.wait_for_store()
            assert redis.pins(), "what was pinned before it came"
