"""The codes that this server has sent, and whether what a user typed is one of them.

Core. This table is the reason why mfalb exists: it lives in one process's memory only, so the second half of a sign-in
must come back to the server that began it. (The cloud gives a code to the server that asked, and to no other.)
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

OTP_LIFE_S: Final = 180.0  # the NPS extension calls a session invalid after three minutes
TRIES: Final = 3
PENDING_LIMIT: Final = 10_000  # when full, the oldest code is forgotten: its user has to begin again


class Outcome(Enum):
    """What a typed code was; the value is what the log says."""

    ACCEPTED = "accepted"
    WRONG = "wrong code"
    TOO_MANY_TRIES = "too many wrong codes"
    EXPIRED = "code expired"
    UNKNOWN = "unknown authreqid on this node"
    USED = "verification code already used once"


@dataclass(slots=True)
class _Pending:
    otp: str = field(repr=False)
    expires_at: float
    tries_left: int = TRIES


class PendingCodes:
    """Codes by (user, request id). Each can be used once, tried three times, for three minutes."""

    def __init__(self) -> None:
        self._pending: OrderedDict[tuple[str, str], _Pending] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending)

    def begin(self, user: str, request_id: str, otp: str, now: float) -> None:
        """A text with this code is on its way. `now` is monotonic seconds."""
        self._pending[user.casefold(), request_id] = _Pending(otp, now + OTP_LIFE_S)
        self._pending.move_to_end((user.casefold(), request_id))
        if len(self._pending) > PENDING_LIMIT:
            self._pending.popitem(last=False)

    def verify(self, user: str, request_id: str, otp: str, now: float) -> Outcome:
        """Judge a typed code. Whatever ends the matter (right, too often wrong, too late) forgets the code."""
        key = (user.casefold(), request_id)
        pending = self._pending.get(key)
        if pending is None:
            return Outcome.UNKNOWN
        if now > pending.expires_at:
            del self._pending[key]
            return Outcome.EXPIRED
        if hmac.compare_digest(otp.encode(), pending.otp.encode()):
            del self._pending[key]
            return Outcome.ACCEPTED
        pending.tries_left -= 1
        if pending.tries_left:
            return Outcome.WRONG
        del self._pending[key]
        return Outcome.TOO_MANY_TRIES
