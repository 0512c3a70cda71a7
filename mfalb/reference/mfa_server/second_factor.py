"""Asking a user for the second factor: through the cloud, then (for a text) by the code the user types.

Both fronts of an MFA Server, RADIUS and the Web Service SDK, use this one object, and so the same pending codes.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from time import monotonic
from typing import Final

import aiohttp
from cachetools import TTLCache

from mfalb.errors import MalformedMessage
from mfalb.reference.config.values import Method, User, UserPin
from mfalb.reference.mfa_server.verification import OTP_LIFE_S, PENDING_LIMIT, Outcome, PendingCodes
from mfalb.reference.threads import HASHING
from mfalb.wire.pfp_message import (
    PATH,
    CallStatus,
    ErrorId,
    PfpMode,
    PfpPin,
    PfpRequest,
    PfpResponse,
    read_response_untrusted,
    request_xml,
)

CLOUD_TIMEOUT_S: Final = 120.0  # a person may take their time
ANSWER_LIMIT_BYTES: Final = 64 * 1024  # a longer answer is cut, and then no XML
_CODE_DIGITS: Final = 6  # of the cloud's codes; a user PIN is typed behind them
# How each method is asked for: without a user PIN, and with one
_MODES: Final = {
    Method.ONE_WAY_SMS: (PfpMode.SMS_ONE_WAY_OTP, PfpMode.SMS_ONE_WAY_OTP_PLUS_PIN),
    Method.TWO_WAY_SMS: (PfpMode.SMS_TWO_WAY_OTP, PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN),
    Method.PHONE_CALL: (PfpMode.STANDARD, PfpMode.PIN),
    Method.APP_PUSH: (PfpMode.PHONE_APP_STANDARD, PfpMode.PHONE_APP_PIN),
}
# Why a sign-in was denied, in the words of the report that administrators know where there are any
_REASONS: Final[dict[int, str]] = {
    CallStatus.FRAUD_REPORTED: "user reported fraud",
    CallStatus.USER_HUNG_UP: "user hung up",
    CallStatus.PHONE_BUSY: "phone busy",
    CallStatus.NO_ANSWER: "user did not answer",
    CallStatus.NO_APP_RESPONSE: "user did not respond to mobile app notification",
    CallStatus.APP_DENIED: "user denied mobile app notification",
    CallStatus.WRONG_PIN: "wrong user PIN",
    CallStatus.WRONG_REPLY: "wrong reply",
}
_NO_DEVICE: Final = "no mobile app is activated"
_NOT_DENIED: Final = ""

Key = tuple[str, str]  # user and request id

_log = logging.getLogger("mfalb.reference.mfa_server")


class Begun(Enum):
    """How the first half ended."""

    AUTHENTICATED = "authenticated"
    TEXT_SENT = "text sent"
    DENIED = "denied"
    CLOUD_UNAVAILABLE = "cloud unavailable"
    NOT_ACTIVATED = "not activated"


@dataclass(frozen=True, slots=True)
class FirstHalf:
    """The first half's end, the id under which the second half is expected, and why it was denied if it was."""

    begun: Begun
    request_id: str
    reason: str = field(default=_NOT_DENIED, compare=False)


def short_id(user: str) -> str:
    """A user in the log: the same user has the same eight digits, and no name is written down."""
    return sha256(user.casefold().encode()).hexdigest()[:8]


class SecondFactor:
    """One server's way to its users' phones. Its pending codes are in this process's memory and nowhere else."""

    def __init__(
        self, server: str, cloud_url: str, session: aiohttp.ClientSession, clock: Callable[[], float] = monotonic
    ) -> None:
        """`session` shows the server's certificate where the cloud asks for one. `clock` gives monotonic seconds."""
        self._server = server
        self._url = cloud_url.rstrip("/") + PATH
        self._session = session
        self._clock = clock
        self._codes = PendingCodes()
        self._pins: TTLCache[Key, UserPin] = TTLCache(PENDING_LIMIT, OTP_LIFE_S, timer=clock)
        self._used: TTLCache[Key, bool] = TTLCache(PENDING_LIMIT, OTP_LIFE_S, timer=clock)
        self.license_key = ""  # what activation gave: shown to the cloud with each request

    async def begin(self, user: User, request_id: str, client: str = "") -> FirstHalf:
        """Ring or text the user. For all but a one-way text this lasts until it was answered.

        `client` is the address that the sign-in comes from, as far as it is known: for the record.
        """
        if user.method is Method.APP_PUSH and not user.device_token:
            return self._told(user, client, FirstHalf(Begun.DENIED, request_id, _NO_DEVICE))
        pin = None if user.pin is None else PfpPin(user.pin.salt, user.pin.digest, user.pin.cost)
        request = PfpRequest(
            request_id,
            _MODES[user.method][user.pin is not None],
            user.name,
            user.phone,
            self._server,
            license_key=self.license_key,
            pin=pin,
            device_token=user.device_token,
        )
        answer = await self._ask_cloud(request)
        return self._told(user, client, self._begun(user, request_id, answer))

    async def verify(self, user_name: str, request_id: str, otp: str) -> Outcome:
        """Judge the code of the second half, and the user PIN that is typed behind it where the user has one."""
        key = (user_name.casefold(), request_id)
        pin = self._pins.get(key)
        if pin is not None:
            is_right = await HASHING.run(pin.is_right, otp[_CODE_DIGITS:])
            # Another first half may have begun under the same id meanwhile: its code wants a look at its own PIN
            otp = otp[:_CODE_DIGITS] if is_right and self._pins.get(key) is pin else ""
        outcome = self._codes.verify(user_name, request_id, otp, self._clock())
        if outcome is Outcome.UNKNOWN and key in self._used:
            outcome = Outcome.USED
        if outcome is Outcome.ACCEPTED:
            self._used[key] = True
        level = logging.INFO if outcome is Outcome.ACCEPTED else logging.WARNING
        _log.log(level, "second half", extra=self._facts(user_name, request_id, outcome.value))
        return outcome

    def _begun(self, user: User, request_id: str, answer: PfpResponse | None) -> FirstHalf:
        if answer is None:
            return FirstHalf(Begun.CLOUD_UNAVAILABLE, request_id)
        if answer.error_id == ErrorId.NOT_ACTIVATED:
            return FirstHalf(Begun.NOT_ACTIVATED, request_id)
        if not answer.is_success or not answer.is_authenticated:
            reason = _REASONS.get(answer.call_status, f"cloud error {answer.error_id}")
            return FirstHalf(Begun.DENIED, request_id, reason)
        if user.method is not Method.ONE_WAY_SMS:
            return FirstHalf(Begun.AUTHENTICATED, request_id)
        if answer.otp is None:  # for a text, "authenticated" only means that it was sent (MFA facts, section 2)
            return FirstHalf(Begun.DENIED, request_id, "no code was sent")
        self._expect(user, request_id, answer.otp)
        return FirstHalf(Begun.TEXT_SENT, request_id)

    def _expect(self, user: User, request_id: str, otp: str) -> None:
        key = (user.name.casefold(), request_id)
        self._codes.begin(user.name, request_id, otp, self._clock())
        self._used.pop(key, None)
        self._pins.pop(key, None)
        if user.pin is not None:
            self._pins[key] = user.pin

    def _told(self, user: User, client: str, half: FirstHalf) -> FirstHalf:
        """Log how a first half ended."""
        more = {"client": client or "-"} | ({"reason": half.reason} if half.reason else {})
        _log.info("first half", extra=self._facts(user.name, half.request_id, half.begun.value) | more)
        return half

    async def _ask_cloud(self, request: PfpRequest) -> PfpResponse | None:
        timeout = aiohttp.ClientTimeout(total=CLOUD_TIMEOUT_S)
        headers = {"Content-Type": "text/xml; charset=utf-8"}
        try:
            async with self._session.post(
                self._url, data=request_xml(request), headers=headers, timeout=timeout, raise_for_status=True
            ) as response:
                body = await response.content.read(ANSWER_LIMIT_BYTES)
            answer = read_response_untrusted(body)
        except (aiohttp.ClientError, TimeoutError, MalformedMessage) as error:
            _log.error("cloud unavailable", extra={"server": self._server, "reason": type(error).__name__})
            return None
        if answer.request_id != request.request_id:
            _log.error("cloud answered another request", extra={"server": self._server})
            return None
        return answer

    def _facts(self, user_name: str, request_id: str, outcome: str) -> dict[str, str]:
        return {
            "server": self._server,
            "user": short_id(user_name),
            "authreqid": short_id(request_id) if len(request_id) > 8 else request_id,  # noqa: PLR2004 - a State
            "outcome": outcome,
        }


def new_request_id() -> str:
    """An `authreqid` as the SDK makes them: a random number below 10000, so ids of two servers collide."""
    return str(secrets.randbelow(10_000))
