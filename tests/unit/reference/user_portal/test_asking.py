from __future__ import annotations

import asyncio

import pytest

from mfalb.reference.sdk_client.answers import Begun, FirstHalf
from mfalb.reference.sdk_client.failures import Level, SdkUnavailable
from mfalb.reference.user_portal.asking import Asking

HALF = FirstHalf(Begun.AUTHENTICATED, "")


class Phone:
    """Rings until the test lets somebody answer."""

    def __init__(self, failure: SdkUnavailable | None = None) -> None:
        self.rings = 0
        self.answered = asyncio.Event()
        self._failure = failure

    async def begin(self) -> FirstHalf:
        self.rings += 1
        await self.answered.wait()
        if self._failure is not None:
            raise self._failure
        return HALF

    async def answer(self) -> None:
        await asyncio.sleep(0)
        self.answered.set()


async def test_a_second_press_of_the_button_rings_no_second_phone() -> None:
    asking, phone = Asking(), Phone()
    presses = [asking.ask("browser", user, phone.begin) for user in ("alice", "alice", "ALICE")]
    *halves, _ = await asyncio.gather(*presses, phone.answer())
    assert (halves, phone.rings) == ([HALF] * 3, 1)


async def test_another_browser_and_another_user_are_asked_by_themselves() -> None:
    asking, phone = Asking(), Phone()
    presses = [asking.ask(*who, phone.begin) for who in (("one", "alice"), ("two", "alice"), ("one", "bob"))]
    await asyncio.gather(*presses, phone.answer())
    assert phone.rings == 3


async def test_when_all_is_over_the_next_press_asks_anew() -> None:
    asking, phone = Asking(), Phone()
    phone.answered.set()
    for _ in range(2):
        assert await asking.ask("browser", "alice", phone.begin) is HALF
    assert phone.rings == 2


async def test_a_failure_is_everybody_s_who_waits() -> None:
    asking, phone = Asking(), Phone(SdkUnavailable(Level.SERVICE, "a_reason"))
    presses = [asking.ask("browser", "alice", phone.begin) for _ in range(2)]
    *failures, _ = await asyncio.gather(*presses, phone.answer(), return_exceptions=True)
    assert [(type(one), getattr(one, "level", None)) for one in failures] == [(SdkUnavailable, Level.SERVICE)] * 2
    assert phone.rings == 1


async def test_who_waits_for_a_request_that_is_stopped_is_told_and_does_not_hang() -> None:
    asking, phone = Asking(), Phone()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        first = group.create_task(asking.ask("browser", "alice", phone.begin))
        await asyncio.sleep(0)
        second = group.create_task(_told(asking, phone))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "stopped"


async def _told(asking: Asking, phone: Phone) -> str:
    with pytest.raises(SdkUnavailable) as caught:
        await asking.ask("browser", "alice", phone.begin)
    return caught.value.reason
