"""Promise: a drain knows the sign-ins that are between their halves, and ends with the last of them."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from programs.balancer import Balancer
from programs.challenge import OTP_DIGITS, Begun, begin_each, finish_all
from programs.freeradius import FreeRadius
from programs.operator import Operator, socket_path
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Target
from programs.radius_pool import radius_pool
from programs.redis import Redis, store_config
from programs.two_nodes import two_radius_nodes

Servers = tuple[FreeRadius, FreeRadius]
PIN_LIFE_S = 300.0  # by default
PATIENCE_S = 60.0
BACKEND = "mfa/otp1"


def begun_by_several(target: Target, count: int) -> list[Begun]:
    """Each few of them from a port of their own, so that they come to both workers."""
    return [one for batch in range(count // 3) for one in begin_each(target, [f"u{batch}-{one}" for one in range(3)])]


def finished(target: Target, begun: Sequence[Begun]) -> None:
    """By an Access-Accept, or by an Access-Reject where the site does not take its own OTP."""
    for first in range(0, len(begun), 3):
        some = list(begun[first : first + 3])
        outcome = finish_all(target, some, seed=first)
        assert outcome.codes.total() == len(some)
        assert outcome.accepted == sum(len(one.otp) == OTP_DIGITS for one in some), f"{outcome}"


def open_at(operator: Operator) -> int:
    """The sign-ins that are pinned to the backend and have not ended."""
    counts = operator.ask("pins", "--pool", "mfa")["backends"]
    return sum(int(one["pins"]) for one in counts if f"{one['pool']}/{one['backend']}" == BACKEND)


@contextmanager
def waiting_drain(operator: Operator) -> Iterator[subprocess.Popen[str]]:
    """Under way while the test does other things."""
    with operator.start("drain", BACKEND, "--wait") as waiting:
        try:
            yield waiting
        finally:
            waiting.kill()


def drained(waiting: subprocess.Popen[str]) -> list[str]:
    """The lines of a drain that has to end soon."""
    out, err = waiting.communicate(timeout=PATIENCE_S)
    assert (waiting.returncode, err) == (0, "")
    return out.splitlines()


def is_draining(balancer: Balancer) -> bool:
    return bool(balancer.backend("mfa", "otp1")["admin_state"] == "drain")


def test_a_drain_of_two_workers_returns_with_the_last_sign_in_long_before_its_pin_expires(
    otp_servers: Servers, tmp_path: Path
) -> None:
    pool = radius_pool(otp_servers, tmp_path)
    target = Target(LOOPBACK, pool.port, pool.client_secret, parallel=8)
    with socket_path() as path:
        config = {**pool.config, "workers": 2, "admin": {"socket": str(path)}}
        operator = Operator(path)
        with Balancer(config, tmp_path / "mfalb", secrets=pool.secrets) as balancer:
            began_at = time.monotonic()
            begun = begun_by_several(target, 12)
            count = open_at(operator)
            assert count >= 3, "a round robin gives it half of them"
            with waiting_drain(operator) as waiting:
                wait_until(lambda: is_draining(balancer), "a drain")
                finished(target, begun[:-3])
                left = open_at(operator)
                assert waiting.poll() is None, "it returned though sign-ins are open"
                finished(target, begun[-3:])
                lines = drained(waiting)
            assert time.monotonic() - began_at < PIN_LIFE_S / 2
            assert re.match(rf"{BACKEND} drain: {count} pins? \(the last for [1-5]m[^)]*\), ", lines[0])
            assert left < count
            assert lines[-1] == f"{BACKEND} drain: no pins, 0 under way, nothing is left."

            operator.ask("ready", BACKEND)
            begun_by_several(target, 6)  # whose users never type their code
            lines = drained(operator.start("drain", BACKEND, "--wait", "--deadline", "3s"))
            assert re.match(rf"{BACKEND} drain: \d pins? \(the last for [1-5]m[^)]*\), 0 under way, ends in ", lines[0])
            assert re.match(rf"{BACKEND} drain: \d pins? \(the last for [1-5]m[^)]*\), 0 under way, ended\.", lines[-1])


def test_of_two_nodes_each_knows_that_a_sign_in_has_ended_whichever_saw_its_second_half(
    otp_servers: Servers, tmp_path: Path
) -> None:
    with Redis(tmp_path) as redis, socket_path() as one_path, socket_path() as two_path:
        shared = {**store_config(redis), "workers": 2, "sockets": {"a": one_path, "b": two_path}}
        with two_radius_nodes(otp_servers, tmp_path, shared) as (one, two):
            began_at = time.monotonic()
            begun = begun_by_several(one.target, 12)
            here, there = Operator(one_path), Operator(two_path)
            pinned = open_at(here)
            assert pinned >= 3
            assert open_at(there) == 0, "the second node knows nothing of them yet"
            with waiting_drain(here) as waiting:
                wait_until(lambda: is_draining(one.balancer), "a drain")
                finished(two.target, begun)
                lines = drained(waiting)
            assert time.monotonic() - began_at < PIN_LIFE_S / 2
            assert f"{BACKEND} drain: {pinned} pin" in lines[0]
            assert lines[-1] == f"{BACKEND} drain: no pins, 0 under way, nothing is left."
            assert one.operations("end", "heard") >= pinned
            assert two.operations("end", "told") == len(begun)
            assert drained(there.start("drain", BACKEND, "--wait"))[-1].endswith("nothing is left.")
