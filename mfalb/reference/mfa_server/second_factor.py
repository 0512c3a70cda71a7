"""Asking a user for the second factor: through the cloud, then (for a text) by the code the user types.

Both fronts of an MFA Server, RADIUS and the Web Service SDK, use this one object, and so the same pending codes.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from time import monotonic
from typing import Final

import aiohttp

from mfalb.errors import MalformedMessage
from mfalb.reference.config.values import Method, User
from mfalb.reference.mfa_server.verification import Outcome, PendingCodes
from mfalb.wire.pfp_message import PATH, PfpMode, PfpRequest, PfpResponse, read_response_untrusted, request_xml

CLOUD_TIMEOUT_S: Final = 120.0  # a person may take their time
ANSWER_LIMIT_BYTES: Final = 64 * 1024  # a longer answer is cut, and then no XML
_MODES: Final = {Method.ONE_WAY_SMS: PfpMode.SMS_ONE_WAY_OTP, Method.PHONE_CALL: PfpMode.STANDARD}

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
    """The first half's end, and the id under which the second half is expected."""

    begun: Begun
    request_id: str


def short_id(user: str) -> str:
    """A user in the log: the same user has the same eight digits, and no name is written down."""
    return sha256(user.casefold().encode()).hexdigest()[:8]


class SecondFactor:
    """One server's way to its users' phones. Its pending codes are in this process's memory and nowhere else."""

    def __init__(self, server: str, cloud_url: str, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._url = cloud_url.rstrip("/") + PATH
        self._session = session
        self._codes = PendingCodes()

    async def begin(self, user: User, request_id: str) -> FirstHalf:
        """Ring or text the user. For a call this lasts until it was answered."""
        request = PfpRequest(request_id, _MODES[user.method], user.name, user.phone, self._server)
        answer = await self._ask_cloud(request)
        begun = self._begun(user, request_id, answer)
        _log.info("first half", extra=self._facts(user.name, request_id, begun.value))
        return FirstHalf(begun, request_id)

    def verify(self, user_name: str, request_id: str, otp: str) -> Outcome:
        """Judge the code of the second half."""
        outcome = self._codes.verify(user_name, request_id, otp, monotonic())
        level = logging.INFO if outcome is Outcome.ACCEPTED else logging.WARNING
        _log.log(level, "second half", extra=self._facts(user_name, request_id, outcome.value))
        return outcome

    def _begun(self, user: User, request_id: str, answer: PfpResponse | None) -> Begun:
        if answer is None:
            return Begun.CLOUD_UNAVAILABLE
        if not answer.is_success or not answer.is_authenticated:
            return Begun.DENIED
        if user.method is Method.PHONE_CALL:
            return Begun.AUTHENTICATED
        if answer.otp is None:  # for a text, "authenticated" only means that it was sent (MFA facts, section 2)
            return Begun.DENIED
        self._codes.begin(user.name, request_id, answer.otp, monotonic())
        return Begun.TEXT_SENT

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
