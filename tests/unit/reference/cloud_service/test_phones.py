from __future__ import annotations

import asyncio

import pytest

from mfalb.reference.cloud_service import phones as phones_module
from mfalb.reference.cloud_service.phones import Action, Kind, Phones, Ringing, ringing
from mfalb.reference.config.values import UserPin
from mfalb.wire.pfp_message import CallStatus, PfpMode, PfpPin, PfpRequest

CHEAP = UserPin.of("2468")
CODE = "123456"


def wanted(mode: PfpMode) -> PfpRequest:
    pin = PfpPin(CHEAP.salt, CHEAP.digest, CHEAP.cost) if mode.is_pin_compared else None
    return PfpRequest("7", mode, "Alice", "+1 555 0101", "mfa1", "", pin, "token")


TABLE = [
    (PfpMode.STANDARD, Action.APPROVE, "", CallStatus.NO_PIN_ENTERED),
    (PfpMode.STANDARD, Action.APPROVE, "whatever", CallStatus.NO_PIN_ENTERED),
    (PfpMode.STANDARD, Action.DENY, "", CallStatus.USER_HUNG_UP),
    (PfpMode.STANDARD, Action.REPORT, "", CallStatus.FRAUD_REPORTED),
    (PfpMode.PIN, Action.APPROVE, "2468", CallStatus.PIN_ENTERED),
    (PfpMode.PIN, Action.APPROVE, " 2468 ", CallStatus.PIN_ENTERED),
    (PfpMode.PIN, Action.APPROVE, "", CallStatus.WRONG_PIN),
    (PfpMode.PIN, Action.APPROVE, "24680", CallStatus.WRONG_PIN),
    (PfpMode.SMS_TWO_WAY_OTP, Action.APPROVE, CODE, CallStatus.NO_PIN_ENTERED),
    (PfpMode.SMS_TWO_WAY_OTP, Action.APPROVE, "", CallStatus.WRONG_REPLY),
    (PfpMode.SMS_TWO_WAY_OTP, Action.APPROVE, CODE + "0", CallStatus.WRONG_REPLY),
    (PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN, Action.APPROVE, CODE + "2468", CallStatus.PIN_ENTERED),
    (PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN, Action.APPROVE, "000000" + "2468", CallStatus.WRONG_REPLY),
    (PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN, Action.APPROVE, CODE, CallStatus.WRONG_PIN),
    (PfpMode.PHONE_APP_STANDARD, Action.APPROVE, "", CallStatus.NO_PIN_ENTERED),
    (PfpMode.PHONE_APP_STANDARD, Action.DENY, "", CallStatus.APP_DENIED),
    (PfpMode.PHONE_APP_PIN, Action.APPROVE, "2468", CallStatus.PIN_ENTERED),
    (PfpMode.PHONE_APP_PIN, Action.APPROVE, "1357", CallStatus.WRONG_PIN),
]


async def rung(phones: Phones, one: Ringing, ring_s: float = 60.0) -> asyncio.Task[CallStatus]:
    waiting = asyncio.get_running_loop().create_task(phones.wait(one, ring_s))
    await asyncio.sleep(0)
    return waiting


@pytest.mark.parametrize(("mode", "action", "typed", "status"), TABLE)
async def test_answers_are_judged_by_the_table(mode: PfpMode, action: Action, typed: str, status: CallStatus) -> None:
    phones, one = Phones(), ringing(wanted(mode), CODE, 0.0)
    waiting = await rung(phones, one)
    assert await phones.answer("ALICE", one.key, action, typed)
    assert await waiting is status
    assert len(phones) == 0


@pytest.mark.parametrize(
    ("mode", "status"),
    [(PfpMode.PHONE_APP_PIN, CallStatus.NO_APP_RESPONSE), (PfpMode.STANDARD, CallStatus.NO_ANSWER)],
)
async def test_a_phone_that_nobody_answers_stops_ringing(mode: PfpMode, status: CallStatus) -> None:
    phones = Phones()
    assert await phones.wait(ringing(wanted(mode), CODE, 0.0), 0.0) is status
    assert len(phones) == 0


async def test_what_is_ignored_is_off_the_page_and_rings_on_and_cannot_be_answered_any_more() -> None:
    phones, one = Phones(), ringing(wanted(PfpMode.STANDARD), CODE, 0.0)
    waiting = await rung(phones, one)
    assert await phones.answer("alice", one.key, Action.IGNORE, "")
    assert phones.of("alice") == []
    assert not await phones.answer("alice", one.key, Action.APPROVE, "")
    assert len(phones) == 1
    waiting.cancel()


async def test_another_users_page_and_a_guessed_key_answer_nothing() -> None:
    phones, one = Phones(), ringing(wanted(PfpMode.STANDARD), CODE, 0.0)
    waiting = await rung(phones, one)
    assert not await phones.answer("bob", one.key, Action.APPROVE, "")
    assert not await phones.answer("alice", "guessed", Action.APPROVE, "")
    assert not waiting.done()
    waiting.cancel()


async def test_a_phone_is_answered_once() -> None:
    phones, one = Phones(), ringing(wanted(PfpMode.STANDARD), CODE, 0.0)
    waiting = await rung(phones, one)
    answers = [await phones.answer("alice", one.key, action, "") for action in (Action.DENY, Action.APPROVE)]
    assert answers == [True, False]
    assert await waiting is CallStatus.USER_HUNG_UP


async def test_the_newest_ring_is_first_and_users_are_apart() -> None:
    phones = Phones()
    first, second = (ringing(wanted(PfpMode.STANDARD), CODE, at) for at in (1.0, 2.0))
    other = Ringing("bob", Kind.CALL, 3.0)
    tasks = [await rung(phones, one) for one in (first, second, other)]
    assert phones.of("aLiCe") == [second, first]
    for task in tasks:
        task.cancel()


async def test_past_its_limit_the_network_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phones_module, "WAITING_LIMIT", 1)
    phones = Phones()
    assert not phones.are_busy
    task = await rung(phones, ringing(wanted(PfpMode.STANDARD), CODE, 0.0))
    assert phones.are_busy
    task.cancel()


async def test_a_ringing_phone_shows_neither_key_nor_code_nor_pin() -> None:
    one = ringing(wanted(PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN), CODE, 0.0)
    assert not [secret for secret in (one.key, CODE, CHEAP.digest) if secret in repr(one)]
