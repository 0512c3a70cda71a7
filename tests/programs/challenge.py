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
class Begun:
    """A sign-in between its halves."""

    user: str
    otp: str
    state: str


def begin_each(target: Target, users: list[str]) -> list[Begun]:
    """Begins a sign-in for each user, though its OTP be one that the site will refuse: see `begin_all`."""
    answers = send(target, [[("User-Name", user), ("User-Password", OTP_FIRST_PASSWORD)] for user in users])
    return [_begun(user, answer) for user, answer in zip(users, answers, strict=True)]


def _begun(user: str, answer: Answer | None) -> Begun:
    assert answer is not None, f"no answer to the first half of {user}'s sign-in"
    assert answer.code == "Access-Challenge", f"{user}'s sign-in began with {answer.code}"
    return Begun(user, answer.attributes["Reply-Message"].rsplit(" ", 1)[1], answer.attributes["State"])


def begin_all(target: Target, users: list[str], outcome: Outcome | None = None) -> list[Begun]:
    """Begins a sign-in for each user, until each has an OTP that the site takes.

    The site loses an OTP's leading zeros (it keeps it as an integer) and then refuses it at the right server too: such
    a sign-in is begun again, and counted.
    """
    begun, waiting = list[Begun](), users
    for attempt in range(_BEGINNINGS_LIMIT):
        if outcome is not None and attempt:
            outcome.begun_again += len(waiting)
        new = begin_each(target, waiting)
        begun += [one for one in new if len(one.otp) == OTP_DIGITS]
        waiting = [one.user for one in new if len(one.otp) < OTP_DIGITS]
        if not waiting:
            return begun
    raise AssertionError(f"{waiting} got no usable OTP in {_BEGINNINGS_LIMIT} attempts")


def finish_all(target: Target, begun: list[Begun], seed: int, outcome: Outcome | None = None) -> Outcome:
    """Finishes sign-ins in another order than they began in.

    That matters: halves in the same order would meet a round robin in the same phase, and find the right server each
    time, or never, by the parity of their number.
    """
    ended = outcome or Outcome()
    shuffled = list(begun)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - an order, not a secret
    second = [[("User-Name", one.user), ("User-Password", one.otp), ("State", one.state)] for one in shuffled]
    ended.codes.update("silence" if answer is None else answer.code for answer in send(target, second))
    return ended


def sign_in_all(target: Target, users: list[str], seed: int, between: Callable[[], None] = lambda: None) -> Outcome:
    """Begins a sign-in for each user, then finishes them. `between` is called when all first halves are done."""
    outcome = Outcome()
    begun = begin_all(target, users, outcome)
    between()
    return finish_all(target, begun, seed, outcome)
