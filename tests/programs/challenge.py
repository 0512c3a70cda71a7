"""Two-step sign-ins against FreeRADIUS's stock challenge site: password, Access-Challenge with an OTP, the OTP."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from programs.freeradius import OTP_FIRST_PASSWORD
from programs.radclient import Answer, Target, send

OTP_DIGITS: Final = 6
_BEGINNINGS_LIMIT: Final = 10


@dataclass(slots=True)
class Outcome:
    """How a round of sign-ins went: codes of the second answers, and how often a first half was begun again."""

    codes: Counter[str] = field(default_factory=Counter)
    begun_again: int = 0

    @property
    def accepted(self) -> int:
        return self.codes["Access-Accept"]

    def __str__(self) -> str:
        return f"{self.accepted} of {self.codes.total()} accepted ({dict(self.codes)}), {self.begun_again} begun again"


@dataclass(frozen=True, slots=True)
class _Begun:
    user: str
    otp: str
    state: str


def _begin(target: Target, users: list[str]) -> list[_Begun]:
    answers = send(target, [[("User-Name", user), ("User-Password", OTP_FIRST_PASSWORD)] for user in users])
    return [_begun(user, answer) for user, answer in zip(users, answers, strict=True)]


def _begun(user: str, answer: Answer | None) -> _Begun:
    assert answer is not None, f"no answer to the first half of {user}'s sign-in"
    assert answer.code == "Access-Challenge", f"{user}'s sign-in began with {answer.code}"
    return _Begun(user, answer.attributes["Reply-Message"].rsplit(" ", 1)[1], answer.attributes["State"])


def sign_in_all(target: Target, users: list[str], seed: int, between: Callable[[], None] = lambda: None) -> Outcome:
    """Begins a sign-in for each user, then finishes them in another order.

    The other order matters: halves in the same order would meet a round robin in the same phase, and find the right
    server each time, or never, by the parity of their number. The site loses an OTP's leading zeros (it keeps it as
    an integer) and then refuses it at the right server too: such a sign-in is begun again, and counted. `between` is
    called when all first halves are done.
    """
    outcome, begun, waiting = Outcome(), list[_Begun](), users
    for attempt in range(_BEGINNINGS_LIMIT):
        outcome.begun_again += len(waiting) if attempt else 0
        new = _begin(target, waiting)
        begun += [one for one in new if len(one.otp) == OTP_DIGITS]
        waiting = [one.user for one in new if len(one.otp) < OTP_DIGITS]
        if not waiting:
            break
    assert not waiting, f"{waiting} got no usable OTP in {_BEGINNINGS_LIMIT} attempts"
    between()
    random.Random(seed).shuffle(begun)  # noqa: S311 - an order, not a secret
    second = [[("User-Name", one.user), ("User-Password", one.otp), ("State", one.state)] for one in begun]
    outcome.codes.update("silence" if answer is None else answer.code for answer in send(target, second))
    return outcome
