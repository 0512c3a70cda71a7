from __future__ import annotations

import asyncio

import pytest
from unit.still_loop import run

from mfalb.balancer.affinity.store import PinStoreAway
from mfalb.balancer.upstreams.store_calls import CALL_LIMIT_S, StoreCalls


@pytest.mark.parametrize(
    ("error", "reason"),
    [(None, None), (PinStoreAway("full"), "full"), (ZeroDivisionError("a fault of ours"), "internal_error")],
)
def test_a_call_s_failure_is_a_reason_and_never_an_exception(
    error: Exception | None, reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def call() -> None:
        if error is not None:
            raise error

    assert run(StoreCalls().limited(call())) == reason
    assert ("a call to the pin store failed" in caplog.text) is (reason == "internal_error")


@pytest.mark.parametrize(("takes_s", "reason"), [(CALL_LIMIT_S - 0.01, None), (CALL_LIMIT_S + 0.01, "silent")])
def test_a_call_that_takes_too_long_is_given_up(takes_s: float, reason: str | None) -> None:
    assert run(StoreCalls().limited(asyncio.sleep(takes_s))) == reason
