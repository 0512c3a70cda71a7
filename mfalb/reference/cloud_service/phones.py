"""Phones that ring: what waits for an answer, and how it is answered.

A call, a two-way text or a push waits here until whoever holds the phone has answered on its page, or until it has rung
long enough. Answers are judged here: the user PIN against its hash, the reply against the code.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from mfalb.reference.config.values import UserPin
from mfalb.reference.threads import HASHING
from mfalb.wire.pfp_message import CallStatus, PfpMode, PfpRequest

WAITING_LIMIT: Final = 10_000  # past it, the network is busy: nobody's phone rings
TYPED_LIMIT: Final = 64  # characters of a PIN or a reply that are looked at

_TEXTS: Final = (PfpMode.SMS_TWO_WAY_OTP, PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN)
_APPS: Final = (PfpMode.PHONE_APP_STANDARD, PfpMode.PHONE_APP_PIN)


class Kind(Enum):
    """What the phone does."""

    CALL = "call"
    TEXT = "text"
    PUSH = "push"


class Action(Enum):
    """What the person does."""

    APPROVE = "approve"  # press #, send the reply, touch Verify
    DENY = "deny"  # hang up, touch Deny
    IGNORE = "ignore"  # let it ring
    REPORT = "report"  # deny, and say that it was not me


@dataclass(slots=True, eq=False)
class Ringing:
    """One phone that waits for an answer. `key` cannot be guessed: only its page can answer it."""

    user: str
    kind: Kind
    rung_at: float
    code: str = field(default="", repr=False)  # of a two-way text: to be sent back
    pin: UserPin | None = field(default=None, repr=False)
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    is_ignored: bool = False
    answer: asyncio.Future[CallStatus] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


def ringing(wanted: PfpRequest, code: str, now: float) -> Ringing:
    """The phone of a request that does not end with a text. `now` is unix seconds."""
    kind = Kind.TEXT if wanted.mode in _TEXTS else Kind.PUSH if wanted.mode in _APPS else Kind.CALL
    pin = None if wanted.pin is None else UserPin(wanted.pin.salt, wanted.pin.digest, wanted.pin.cost)
    return Ringing(wanted.username, kind, now, code if kind is Kind.TEXT else "", pin)


class Phones:
    """All phones that wait for an answer, by user."""

    def __init__(self) -> None:
        self._waiting: dict[str, Ringing] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def are_busy(self) -> bool:
        return len(self._waiting) >= WAITING_LIMIT

    def of(self, user: str) -> list[Ringing]:
        """What rings at a user's and was not ignored, newest first."""
        name = user.casefold()
        ours = (one for one in self._waiting.values() if one.user.casefold() == name and not one.is_ignored)
        return sorted(ours, key=lambda one: -one.rung_at)

    async def wait(self, one: Ringing, ring_s: float) -> CallStatus:
        """How the phone was answered; NO_ANSWER (NO_APP_RESPONSE) when it has rung `ring_s` seconds."""
        self._waiting[one.key] = one
        try:
            return await asyncio.wait_for(one.answer, ring_s)
        except TimeoutError:
            return CallStatus.NO_APP_RESPONSE if one.kind is Kind.PUSH else CallStatus.NO_ANSWER
        finally:
            del self._waiting[one.key]

    async def answer(self, user: str, key: str, action: Action, typed: str) -> bool:
        """Answer what rings; False when it does not ring (any more). A wrong PIN or reply is an answer as well."""
        one = self._waiting.get(key)
        if one is None or one.user.casefold() != user.casefold() or one.is_ignored:
            return False
        if action is Action.IGNORE:
            one.is_ignored = True
            return True
        status = await _judged(one, action, typed.strip()[:TYPED_LIMIT])
        if one.answer.done():  # it stopped ringing, or another page was quicker
            return False
        one.answer.set_result(status)
        return True


async def _judged(one: Ringing, action: Action, typed: str) -> CallStatus:
    if action is Action.REPORT:
        return CallStatus.FRAUD_REPORTED
    if action is not Action.APPROVE:
        return CallStatus.APP_DENIED if one.kind is Kind.PUSH else CallStatus.USER_HUNG_UP
    reply, pin = typed[: len(one.code)], typed[len(one.code) :]
    is_pin_right = one.pin is None or await HASHING.run(one.pin.is_right, pin)
    if one.code and not hmac.compare_digest(reply.encode(), one.code.encode()):
        return CallStatus.WRONG_REPLY
    if one.pin is None:
        return CallStatus.WRONG_REPLY if one.code and pin else CallStatus.NO_PIN_ENTERED
    return CallStatus.PIN_ENTERED if is_pin_right else CallStatus.WRONG_PIN
