from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, cast

import aiohttp
import pytest
from unit.telemetry.told import told

from mfalb.reference.config.values import Method, User, UserPin
from mfalb.reference.mfa_server.second_factor import Begun, FirstHalf, SecondFactor, new_request_id, short_id
from mfalb.reference.mfa_server.verification import Outcome
from mfalb.wire.pfp_message import (
    CallStatus,
    ErrorId,
    PfpMode,
    PfpRequest,
    PfpResponse,
    read_request_untrusted,
    response_xml,
)

TEXTED = User("Alice", "password-a", "+1 555 0101")
CALLED = User("bob", "password-b", "+1 555 0102", Method.PHONE_CALL)
OTP = "123456"


@dataclass
class FakeSession:
    """A cloud that says what the test sets, and keeps what it was asked. It is its own answer, too."""

    answer: bytes | Exception
    asked: list[PfpRequest] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def post(self, url: str, *, data: bytes, **_options: Any) -> Self:
        self.urls.append(url)
        self.asked.append(read_request_untrusted(data))
        return self

    async def __aenter__(self) -> Self:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        return

    @property
    def content(self) -> Self:
        return self

    async def read(self, limit: int) -> bytes:
        assert isinstance(self.answer, bytes)
        return self.answer[:limit]


def second_factor(answer: PfpResponse | bytes | Exception) -> tuple[SecondFactor, FakeSession]:
    session = FakeSession(response_xml(answer) if isinstance(answer, PfpResponse) else answer)
    return SecondFactor("mfa1", "http://cloud.test/", cast("aiohttp.ClientSession", session)), session


def answered(request_id: str = "7", *, good: bool = True, yes: bool = True, otp: str | None = None) -> PfpResponse:
    return PfpResponse(request_id, is_success=good, is_authenticated=yes, otp=otp)


@pytest.mark.parametrize(
    ("user", "answer", "begun"),
    [
        (TEXTED, answered(otp=OTP), Begun.TEXT_SENT),
        (TEXTED, answered(), Begun.DENIED),  # "yes" without a code only means that a text was sent
        (TEXTED, answered(good=False, otp=OTP), Begun.DENIED),
        (TEXTED, answered(yes=False, otp=OTP), Begun.DENIED),
        (CALLED, answered(), Begun.AUTHENTICATED),
        (CALLED, answered(otp=OTP), Begun.AUTHENTICATED),
        (CALLED, answered(good=False), Begun.DENIED),
        (CALLED, answered(yes=False), Begun.DENIED),
        (TEXTED, answered("8", otp=OTP), Begun.CLOUD_UNAVAILABLE),
        (CALLED, answered("8"), Begun.CLOUD_UNAVAILABLE),
        (TEXTED, b"", Begun.CLOUD_UNAVAILABLE),
        (CALLED, b"<html>503</html>", Begun.CLOUD_UNAVAILABLE),
        (TEXTED, response_xml(answered(otp=OTP)).replace(OTP.encode(), b""), Begun.CLOUD_UNAVAILABLE),
        (TEXTED, response_xml(answered(otp=OTP)) + b" " * 70_000 + b"<tail/>", Begun.TEXT_SENT),
        (TEXTED, b" " * 70_000 + response_xml(answered(otp=OTP)), Begun.CLOUD_UNAVAILABLE),
        (TEXTED, aiohttp.ClientConnectionError("refused"), Begun.CLOUD_UNAVAILABLE),
        (CALLED, TimeoutError(), Begun.CLOUD_UNAVAILABLE),
    ],
)
async def test_what_the_cloud_says_decides_how_the_first_half_ends(
    user: User, answer: PfpResponse | bytes | Exception, begun: Begun
) -> None:
    factor, _ = second_factor(answer)
    assert await factor.begin(user, "7") == FirstHalf(begun, "7")
    judged = await factor.verify(user.name, "7", OTP)
    assert judged is (Outcome.ACCEPTED if begun is Begun.TEXT_SENT else Outcome.UNKNOWN), "only a sent text has a code"


@pytest.mark.parametrize(("user", "mode"), [(TEXTED, PfpMode.SMS_ONE_WAY_OTP), (CALLED, PfpMode.STANDARD)])
async def test_the_cloud_is_asked_once_and_in_the_users_own_way(user: User, mode: PfpMode) -> None:
    factor, session = second_factor(answered(otp=OTP))
    await factor.begin(user, "7")
    assert session.asked == [PfpRequest("7", mode, user.name, user.phone, "mfa1")]
    assert session.urls == ["http://cloud.test/pfd/pfd.pl"]


async def test_a_cloud_that_fails_is_not_asked_again_for_the_phone_may_have_rung() -> None:
    factor, session = second_factor(TimeoutError())
    await factor.begin(CALLED, "7")
    assert len(session.asked) == 1


async def test_a_code_counts_for_its_user_and_its_server_only() -> None:
    asked, _ = second_factor(answered(otp=OTP))
    other, _ = second_factor(answered(otp=OTP))
    await asked.begin(TEXTED, "7")
    assert await other.verify("alice", "7", OTP) is Outcome.UNKNOWN
    assert await asked.verify("bob", "7", OTP) is Outcome.UNKNOWN
    assert await asked.verify("alice", "7", "000000") is Outcome.WRONG
    assert await asked.verify("ALICE", "7", OTP) is Outcome.ACCEPTED


async def test_the_log_tells_outcomes_and_holds_neither_names_nor_phones_nor_codes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    factor, _ = second_factor(answered("state:0123456789abcdef", otp=OTP))
    await factor.begin(TEXTED, "state:0123456789abcdef", "192.0.2.7")
    await factor.verify("alice", "state:0123456789abcdef", "000000")
    await factor.verify("alice", "state:0123456789abcdef", OTP)
    await factor.verify("alice", "9999", OTP)
    facts = [vars(record) for record in caplog.records]
    assert [(fact["levelname"], fact["outcome"]) for fact in facts] == [
        ("INFO", "text sent"),
        ("WARNING", "wrong code"),
        ("INFO", "accepted"),
        ("WARNING", "unknown authreqid on this node"),
    ]
    assert {fact["user"] for fact in facts} == {short_id("ALICE")}
    assert facts[-1]["authreqid"] == "9999"
    assert facts[0]["client"] == "192.0.2.7"
    secrets = (OTP, "000000", "Alice", "alice", TEXTED.phone, "password-a", "0123456789abcdef")
    said = [told(record) for record in caplog.records]
    assert not [secret for line in said for secret in secrets if secret in line]


def test_request_ids_are_small_numbers_as_the_sdks_are_so_that_two_servers_collide() -> None:
    ids = {new_request_id() for _ in range(200)}
    assert all(0 <= int(request_id) < 10_000 for request_id in ids)
    assert len(ids) > 150


PIN = UserPin.of("2468")
PINNED = User("Carol", "password-c", "+1 555 0103", pin=PIN)


@pytest.mark.parametrize(
    ("method", "without", "with_pin"),
    [
        (Method.ONE_WAY_SMS, PfpMode.SMS_ONE_WAY_OTP, PfpMode.SMS_ONE_WAY_OTP_PLUS_PIN),
        (Method.TWO_WAY_SMS, PfpMode.SMS_TWO_WAY_OTP, PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN),
        (Method.PHONE_CALL, PfpMode.STANDARD, PfpMode.PIN),
        (Method.APP_PUSH, PfpMode.PHONE_APP_STANDARD, PfpMode.PHONE_APP_PIN),
    ],
)
async def test_each_method_has_its_mode_and_another_with_a_user_pin(
    method: Method, without: PfpMode, with_pin: PfpMode
) -> None:
    factor, session = second_factor(answered(otp=OTP))
    factor.license_key = "license"
    for pin in (None, PIN):
        await factor.begin(replace(CALLED, method=method, pin=pin, device_token="device"), "7")
    assert [asked.mode for asked in session.asked] == [without, with_pin]
    assert {asked.license_key for asked in session.asked} == {"license"}
    is_told = session.asked[1].pin is not None
    assert is_told is with_pin.is_pin_compared


async def test_a_push_without_a_device_asks_nobody() -> None:
    factor, session = second_factor(answered())
    half = await factor.begin(replace(CALLED, method=Method.APP_PUSH), "7")
    assert (half.begun, half.reason) == (Begun.DENIED, "no mobile app is activated")
    assert session.asked == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (CallStatus.USER_HUNG_UP, "user hung up"),
        (CallStatus.NO_APP_RESPONSE, "user did not respond to mobile app notification"),
        (CallStatus.FRAUD_REPORTED, "user reported fraud"),
        (999, "cloud error 0"),
    ],
)
async def test_a_denial_has_its_reason(status: int, reason: str) -> None:
    factor, _ = second_factor(replace(answered(yes=False), call_status=status))
    assert (await factor.begin(CALLED, "7")).reason == reason


async def test_a_cloud_that_knows_no_activation_of_this_server_is_told_apart() -> None:
    factor, _ = second_factor(replace(answered(good=False, yes=False), error_id=ErrorId.NOT_ACTIVATED))
    assert (await factor.begin(CALLED, "7")).begun is Begun.NOT_ACTIVATED


async def test_a_code_that_was_used_is_told_as_used_until_a_new_one_is_sent() -> None:
    factor, _ = second_factor(answered(otp=OTP))
    await factor.begin(TEXTED, "7")
    assert [await factor.verify("alice", "7", OTP) for _ in range(3)] == [Outcome.ACCEPTED, Outcome.USED, Outcome.USED]
    await factor.begin(TEXTED, "7")
    assert await factor.verify("alice", "7", OTP) is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("typed", "outcome"),
    [
        (OTP + "2468", Outcome.ACCEPTED),
        (OTP, Outcome.WRONG),
        (OTP + "1357", Outcome.WRONG),
        ("000000" + "2468", Outcome.WRONG),
        ("2468", Outcome.WRONG),
        ("", Outcome.WRONG),
    ],
)
async def test_a_user_pin_is_typed_behind_the_code(typed: str, outcome: Outcome) -> None:
    factor, _ = second_factor(answered(otp=OTP))
    await factor.begin(PINNED, "7")
    assert await factor.verify("CAROL", "7", typed) is outcome


async def test_a_code_is_late_by_the_servers_own_clock() -> None:
    now = [1000.0]
    session = FakeSession(response_xml(answered(otp=OTP)))
    factor = SecondFactor("mfa1", "http://cloud.test", cast("aiohttp.ClientSession", session), lambda: now[0])
    await factor.begin(TEXTED, "7")
    now[0] += 181.0
    assert await factor.verify("alice", "7", OTP) is Outcome.EXPIRED


class SlowPin(UserPin):
    """A user PIN whose hash takes as long as the test wants, as a busy machine makes it."""

    has_begun, may_end = threading.Event(), threading.Event()

    def is_right(self, pin: str) -> bool:
        self.has_begun.set()
        assert self.may_end.wait(30), "the event loop stood still"
        return super().is_right(pin)


async def test_a_user_pin_is_hashed_beside_the_event_loop_which_serves_others_meanwhile() -> None:
    factor, _ = second_factor(answered(otp=OTP))
    slow = SlowPin(PIN.salt, PIN.digest)
    await factor.begin(replace(PINNED, pin=slow), "7")
    judged = asyncio.ensure_future(factor.verify("carol", "7", OTP + "2468"))  # noqa: TID251 - own
    assert await asyncio.to_thread(slow.has_begun.wait, 30)
    await factor.begin(TEXTED, "7")
    assert await factor.verify("alice", "7", OTP) is Outcome.ACCEPTED
    assert not judged.done()
    slow.may_end.set()
    assert await judged is Outcome.ACCEPTED


async def test_a_user_pin_that_was_right_for_an_older_code_does_not_count_for_a_newer_one() -> None:
    factor, _ = second_factor(answered(otp=OTP))
    slow = SlowPin(PIN.salt, PIN.digest)
    slow.has_begun.clear()
    slow.may_end.clear()
    await factor.begin(replace(PINNED, pin=slow), "7")
    judged = asyncio.ensure_future(factor.verify("carol", "7", OTP + "2468"))  # noqa: TID251 - own
    assert await asyncio.to_thread(slow.has_begun.wait, 30)
    await factor.begin(replace(PINNED, pin=UserPin.of("9753")), "7")  # the user PIN was changed meanwhile
    slow.may_end.set()
    assert await judged is Outcome.WRONG
    assert await factor.verify("carol", "7", OTP + "9753") is Outcome.ACCEPTED
