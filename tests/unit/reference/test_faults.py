from __future__ import annotations

import asyncio
import json
import os
import signal
from time import monotonic, time
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from mfalb.reference.faults import ALL, FaultRefused, Faults, Switches

JSON = {"Content-Type": "application/json"}


async def ask(
    faults: Faults, method: str, body: bytes = b"", peer: str = "127.0.0.1", headers: dict[str, str] = JSON
) -> web.Response:
    payload = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
    payload.feed_data(body)
    payload.feed_eof()
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (peer, 1) if name == "peername" else default
    application = faults.control_application()
    application.freeze()
    request = make_mocked_request(
        method, "/faults", headers=headers, app=application, payload=payload, transport=transport
    )
    response = await application._handle(request)
    assert isinstance(response, web.Response)
    return response


async def test_nothing_is_wrong_at_first_and_a_service_shows_its_own_switches_only() -> None:
    response = await ask(Faults("slow_s", "deny"), "GET")
    assert json.loads(response.text or "") == {"slow_s": 0.0, "deny": False}


async def test_what_is_set_stands_until_it_is_set_again_and_the_rest_stays() -> None:
    faults = Faults("slow_s", "deny", "clock_skew_s")
    response = await ask(faults, "POST", b'{"slow_s": 2, "clock_skew_s": -3.5}')
    assert json.loads(response.text or "") == {"slow_s": 2.0, "deny": False, "clock_skew_s": -3.5}
    await ask(faults, "POST", b'{"deny": true, "slow_s": 0}')
    assert faults.now == Switches(deny=True, clock_skew_s=-3.5)


@pytest.mark.parametrize(
    "table",
    [
        [],
        "deny",
        None,
        {"down": True},
        {"nonsense": True},
        {"deny": 1},
        {"deny": "yes"},
        {"slow_s": True},
        {"slow_s": "1"},
        {"slow_s": -1},
        {"slow_s": float("nan")},
        {"slow_s": float("inf")},
        {"deny": True, "slow_s": None},
    ],
)
async def test_a_switch_that_is_not_there_or_a_value_it_cannot_take_changes_nothing(table: Any) -> None:
    faults = Faults("slow_s", "deny")
    assert (await ask(faults, "POST", json.dumps(table).encode())).status == 400
    assert faults.now == Switches()
    with pytest.raises(FaultRefused):
        faults.set_untrusted(table)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 50_000])
async def test_what_is_no_json_changes_nothing(body: bytes) -> None:
    assert (await ask(Faults("deny"), "POST", body)).status == 400


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "", "2001:db8::1"])
async def test_other_machines_are_turned_away(peer: str) -> None:
    faults = Faults("deny")
    assert (await ask(faults, "GET", peer=peer)).status == 403
    assert (await ask(faults, "POST", b'{"deny": true}', peer)).status == 403
    assert faults.now == Switches()
    assert (await ask(faults, "GET", peer="::1")).status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
async def test_a_form_that_a_strange_page_can_send_is_turned_away(kind: str) -> None:
    faults = Faults("deny")
    assert (await ask(faults, "POST", b'{"deny": true}', headers={"Content-Type": kind})).status == 415
    assert faults.now == Switches()


def test_a_service_cannot_claim_a_switch_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="no such fault switch: explode"):
        Faults("deny", "explode")
    assert set(Faults(*ALL).shown()) == ALL


def test_a_skewed_clock_is_wrong_by_what_was_set() -> None:
    faults = Faults("clock_skew_s")
    faults.set_untrusted({"clock_skew_s": 1e6})
    assert faults.monotonic() - monotonic() == pytest.approx(1e6, abs=5)
    assert faults.unix_time() - time() == pytest.approx(1e6, abs=5)


async def held_up(faults: Faults) -> web.StreamResponse:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="served")

    return await faults.middleware(make_mocked_request("GET", "/"), handler)


async def test_a_slow_service_sleeps_before_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("mfalb.reference.faults.asyncio.sleep", sleep)
    faults = Faults("slow_s")
    await held_up(faults)
    faults.set_untrusted({"slow_s": 7})
    response = await held_up(faults)
    assert slept == [7.0]
    assert isinstance(response, web.Response)
    assert response.text == "served"


async def test_a_service_that_hangs_does_not_answer() -> None:
    faults = Faults("hang")
    faults.set_untrusted({"hang": True})
    answering = asyncio.ensure_future(held_up(faults))  # noqa: TID251 - the test is its owner
    for _ in range(10):
        await asyncio.sleep(0)
    assert not answering.done()
    answering.cancel()


async def test_a_service_that_is_down_breaks_the_connection_and_serves_nothing() -> None:
    faults, served = Faults("down"), []

    async def handler(_request: web.Request) -> web.StreamResponse:
        served.append(1)
        return web.Response()

    faults.set_untrusted({"down": True})
    request = make_mocked_request("GET", "/", transport=Mock())
    await faults.middleware(request, handler)
    request.transport.abort.assert_called_once_with()  # type: ignore[union-attr]
    assert served == []


async def test_a_service_dies_after_it_has_begun_a_challenge_if_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    later: list[tuple[Any, ...]] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *what: later.append(what))
    faults = Faults("die_mid_challenge")
    faults.challenge_begun()
    assert later == []
    faults.set_untrusted({"die_mid_challenge": True})
    faults.challenge_begun()
    assert [what[1:] for what in later] == [(os.kill, os.getpid(), signal.SIGKILL)]
