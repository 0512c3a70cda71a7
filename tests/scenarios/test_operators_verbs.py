"""Promise: operators take a server out without breaking a sign-in, and `why` says what then really happens."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from programs import radclient
from programs.balanced_estate import ACCOUNT, RADIUS_SECRET, TEXTED, BalancedEstate, balanced_estate
from programs.balancer import Balancer
from programs.http_backend import HttpBackend
from programs.http_pool import new_front
from programs.operator import Operator, socket_path
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Answer, Target

from mfalb.reference.config.values import User

PIN_LIFE_S = 300.0  # the preset's


@pytest.fixture
def operator() -> Iterator[Operator]:
    with socket_path() as path:
        yield Operator(path)


async def ask(balanced: BalancedEstate, user: User, *attributes: tuple[str, str]) -> Answer:
    target = Target(LOOPBACK, balanced.radius_port, RADIUS_SECRET)
    (answer,) = await asyncio.to_thread(radclient.send, target, [(("User-Name", user.name), *attributes)])
    assert answer is not None, "no answer"
    return answer


async def begin(balanced: BalancedEstate, user: User) -> str:
    """Half one; returns the State."""
    challenge = await ask(balanced, user, ("User-Password", user.password))
    assert challenge.code == "Access-Challenge"
    return challenge.attributes["State"]


async def end(balanced: BalancedEstate, user: User, state: str) -> str:
    (code, *_) = await balanced.estate.cloud.codes(user.name)
    return (await ask(balanced, user, ("User-Password", code), ("State", state))).code


def halves(balanced: BalancedEstate, half: str) -> dict[str, int]:
    return {server.name: server.log_text().count(f"{half} half") for server in balanced.estate.mfa_servers}


def state_question(user: User, state: str) -> tuple[str, ...]:
    return ("--state", state, "--client", "nas", "--user", user.name, "--pool", "radius")


async def test_a_drained_server_gets_nothing_new_ends_what_it_began_and_drain_returns_when_that_has_ended(
    tmp_path: Path, operator: Operator
) -> None:
    async with balanced_estate(tmp_path, admin_socket=operator.socket) as balanced:
        user, others = TEXTED[0], TEXTED[1:5]
        state = await begin(balanced, user)
        begun_at = time.monotonic()
        (sender,) = [name for name, count in halves(balanced, "first").items() if count]
        arguments = (f"radius/{sender}", "--wait", "--deadline", "10m", "--then", "maint")
        drain = operator.start("drain", *arguments)
        try:
            await asyncio.to_thread(
                wait_until, lambda: balanced.balancer.backend("radius", sender)["admin_state"] == "drain", "a drain"
            )
            for other in others:
                await begin(balanced, other)
            assert halves(balanced, "first")[sender] == 1, "a draining server got new work"
            verdict = await asyncio.to_thread(operator.why, *state_question(user, state))
            assert (verdict["backend"], verdict["finding"]) == (sender, "valid")
            assert drain.poll() is None, "it returned though a challenge is open"
            assert await end(balanced, user, state) == "Access-Accept"
            assert halves(balanced, "second")[sender] == 1
            out, err = await asyncio.to_thread(drain.communicate, timeout=60)
        finally:
            drain.kill()
            await asyncio.to_thread(drain.wait)
        assert (drain.returncode, err) == (0, "")
        assert time.monotonic() - begun_at < PIN_LIFE_S / 2, "it waited for the pin, not for the sign-in"
        lines = out.splitlines()
        assert re.match(rf"radius/{sender} drain: 1 pin \(the last for [1-5]m[^)]*\), 0 under way, ends in ", lines[0])
        assert lines[-1].startswith(f"radius/{sender} maint: no pins, 0 under way, nothing is left")
        assert balanced.balancer.backend("radius", sender)["admin_state"] == "maint"
        metrics = balanced.balancer.metrics()
        labels = {"pool": "radius", "backend": sender}
        assert metrics.total("mfalb_backend_admin_state", **labels, state="maint") == 1


async def test_why_for_a_state_agrees_with_what_happens_while_the_server_is_there_and_in_maint(
    tmp_path: Path, operator: Operator
) -> None:
    async with balanced_estate(tmp_path, admin_socket=operator.socket) as balanced:
        user = TEXTED[0]
        state = await begin(balanced, user)
        (sender,) = [name for name, count in halves(balanced, "first").items() if count]
        before = balanced.balancer.metrics()
        assert (await asyncio.to_thread(operator.why, *state_question(user, state)))["backend"] == sender
        after = balanced.balancer.metrics()
        for name in ("mfalb_pins_hit_total", "mfalb_pins_missed_total"):
            assert after.total(name) == before.total(name), "a question is no use of a pin"
        said = await asyncio.to_thread(operator.run, "maint", f"radius/{sender}")
        assert (said.exit_code, said.out) == (0, f"radius/{sender} is in maint.\n")
        verdict = await asyncio.to_thread(operator.why, *state_question(user, state))
        assert (verdict["backend"], verdict["finding"]) == (None, "down")
        assert "Access-Reject" in verdict["text"]
        assert await end(balanced, user, state) == "Access-Reject"
        assert halves(balanced, "second") == dict.fromkeys(halves(balanced, "second"), 0)
        await asyncio.to_thread(operator.run, "ready", sender)
        assert await end(balanced, user, state) == "Access-Accept"
        assert halves(balanced, "second")[sender] == 1
        for secret in (state, state.removeprefix("0x")):
            assert secret not in balanced.balancer.log()


def sdk_call(balanced: BalancedEstate, method: str, parameters: str) -> requests.Response:
    body = (
        '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<Body><{method}>{parameters}</{method}></Body></Envelope>"
    )
    account = (ACCOUNT.name, ACCOUNT.password)
    return requests.post(balanced.sdk_url, body, headers={"Content-Type": "text/xml"}, auth=account, timeout=20)


async def test_a_drain_of_the_sdk_ends_with_the_code_that_is_right_and_not_with_one_that_is_mistyped(
    tmp_path: Path, operator: Operator
) -> None:
    async with balanced_estate(tmp_path, admin_socket=operator.socket) as balanced:
        user = TEXTED[0]
        begun = await asyncio.to_thread(sdk_call, balanced, "PfAuthUser_4", f"<username>{user.name}</username>")
        found = re.search(r"authreqid>([^<]+)<", begun.text)
        assert found is not None, begun.text
        backend = f"sdk/{begun.headers['X-Served-By']}"
        (code, *_) = await balanced.estate.cloud.codes(user.name)
        wrong = "".join(str((int(digit) + 1) % 10) for digit in code)
        for typed, result, left in ((wrong, "false", (1, False)), (code, "true", (0, True))):
            words = f"<username>{user.name}</username><authreqid>{found[1]}</authreqid><otp>{typed}</otp>"
            answer = await asyncio.to_thread(sdk_call, balanced, "VerifyOneWayOtp", words)
            assert f"VerifyOneWayOtpResult>{result}<" in answer.text
            (leaving,) = (await asyncio.to_thread(operator.ask, "drain", backend))["backends"]
            assert (leaving["pins"], leaving["is_done"]) == left


async def test_why_for_a_request_id_and_for_a_cookie_agrees_with_what_happens(
    tmp_path: Path, operator: Operator
) -> None:
    async with balanced_estate(tmp_path, portals=2, admin_socket=operator.socket) as balanced:
        user = TEXTED[0]
        begun = await asyncio.to_thread(sdk_call, balanced, "PfAuthUser_4", f"<username>{user.name}</username>")
        found = re.search(r"authreqid>([^<]+)<", begun.text)
        assert found is not None, begun.text
        question = ("--request-id", found[1], "--user", user.name.upper(), "--pool", "sdk")
        verdict = await asyncio.to_thread(operator.why, *question)
        assert (verdict["backend"], verdict["finding"]) == (begun.headers["X-Served-By"], "valid")
        (code, *_) = await balanced.estate.cloud.codes(user.name)
        words = f"<username>{user.name}</username><authreqid>{found[1]}</authreqid><otp>{code}</otp>"
        ended = await asyncio.to_thread(sdk_call, balanced, "VerifyOneWayOtp", words)
        assert ended.headers["X-Served-By"] == verdict["backend"]

        with requests.Session() as browser:
            first = await asyncio.to_thread(browser.get, balanced.portal_url, timeout=20)
            cookie = str(browser.cookies["mfalb"])
            for typed in (cookie, f"mfalb={cookie}\n"):
                verdict = await asyncio.to_thread(operator.why, "--cookie", "-", "--pool", "portal", typed=typed)
                assert (verdict["backend"], verdict["finding"]) == (first.headers["X-Served-By"], "valid")
            again = await asyncio.to_thread(browser.get, balanced.portal_url, timeout=20)
            assert again.headers["X-Served-By"] == verdict["backend"]
            await asyncio.to_thread(operator.run, "maint", f"portal/{verdict['backend']}")
            moved = await asyncio.to_thread(operator.why, "--cookie", "-", "--pool", "portal", typed=cookie)
            assert moved["finding"] == "down"
            third = await asyncio.to_thread(browser.get, balanced.portal_url, timeout=20)
            assert third.headers["X-Served-By"] == moved["backend"] != verdict["backend"]
        assert cookie not in balanced.balancer.log()


@pytest.fixture
def backends(tmp_path: Path) -> Iterator[list[HttpBackend]]:
    with HttpBackend("b1", tmp_path / "b1") as one, HttpBackend("b2", tmp_path / "b2") as two:
        yield [one, two]


def served(backends: list[HttpBackend]) -> Counter[str]:
    return Counter({one.name: one.stats().requests for one in backends})


@pytest.mark.parametrize(
    "more", [{}, {"algorithm": "least_connections"}, {"algorithm": "hash", "hash": {"key": "source"}}]
)
def test_weights_and_admin_states_change_who_gets_new_work_and_why_tells_it_beforehand(
    backends: list[HttpBackend], tmp_path: Path, operator: Operator, more: dict[str, Any]
) -> None:
    front = new_front()
    config = {
        "listeners": [front.listener("web", [{"pool": "web"}])],
        "pools": {"web": {"backends": [{"name": one.name, "address": one.address} for one in backends], **more}},
        "admin": {"socket": str(operator.socket)},
    }
    with Balancer(config, tmp_path / "mfalb") as balancer:

        def share_of_b1(count: int = 20) -> int:
            before = served(backends)
            for _ in range(count):
                assert front.get("/echo")[0] == 200
            return (served(backends) - before)["b1"]

        for _ in range(3):
            expected = operator.why("--source", f"{LOOPBACK}:4711", "--pool", "web")["backend"]
            before = served(backends)
            front.get("/echo")
            assert served(backends) - before == Counter({expected: 1})
        if not more:
            assert share_of_b1() == 10
            said = operator.run("weight", "b1", "4")
            assert (said.exit_code, said.out) == (0, "web/b1 has weight 4 (configured: 1).\n")
            assert share_of_b1() == 16
            assert operator.run("weight", "b1", "--reset").exit_code == 0
            assert share_of_b1() == 10
        operator.ask("weight", "web/b1", "0")
        assert share_of_b1() == 0
        operator.ask("weight", "web/b1", "--reset")
        operator.ask("drain", "b2")
        assert share_of_b1() == 20
        operator.ask("maint", "b1")
        assert share_of_b1() == 0, "in need a draining server is better than none"
        operator.ask("maint", "b2")
        assert front.get("/echo")[0] == 503
        assert operator.why("--source", LOOPBACK, "--pool", "web")["backend"] is None
        found = operator.ask("status")["backends"]
        assert {one["name"]: one["admin_state"] for one in found} == {"b1": "maint", "b2": "maint"}
        assert balancer.backend("web", "b2")["admin_state"] == "maint"
        operator.ask("ready", "b1")
        assert share_of_b1() == 20


def test_exit_codes_say_done_refused_wrong_usage_and_not_reachable(
    backends: list[HttpBackend], tmp_path: Path, operator: Operator
) -> None:
    config = {
        "listeners": [new_front().listener("web", [{"pool": "web"}])],
        "pools": {"web": {"backends": [{"name": one.name, "address": one.address} for one in backends]}},
        "admin": {"socket": str(operator.socket)},
    }
    balancer = Balancer(config, tmp_path / "mfalb")
    with balancer:
        said = operator.run("drain", "web/b3")
        assert (said.exit_code, said.out) == (1, "")
        assert said.err == "mfalb drain: pool 'web' has no backend 'b3'; backends: b1, b2\n"
        for wrong in (
            ["drain"],
            ["weight", "b1"],
            ["weight", "b1", "257"],
            ["why"],
            ["drain", "b1", "--deadline", "soon"],
        ):
            assert operator.run(*wrong).exit_code == 2, wrong
        by_config = subprocess.run(
            [sys.executable, "-m", "mfalb", "status", "-c", str(balancer.config_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert by_config.returncode == 0
        assert by_config.stdout == operator.run("status").out
    said = operator.run("status")
    assert said.exit_code == 3
    assert f"no balancer answers at {operator.socket}" in said.err
