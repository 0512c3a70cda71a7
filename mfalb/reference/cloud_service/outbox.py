"""What phones have received: texts and calls, and how many of each a user got.

The counters are the oracle "the phone rang exactly once": they count what was sent, whatever became of the sign-in.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

MESSAGE_LIMIT: Final = 1000  # the oldest message gives way; the counters go on
USER_LIMIT: Final = 100_000  # more users than that are counted together
OTHERS: Final = "(others)"


@dataclass(frozen=True, slots=True)
class Text:
    """A text message as a phone shows it. `sent_at` is unix seconds."""

    user: str
    phone: str
    message: str = field(repr=False)  # holds the OTP: shown on the phone, and nowhere else
    otp: str = field(repr=False)
    sent_at: float


class Outbox:
    """All phones of the demonstration."""

    def __init__(self) -> None:
        self._texts: deque[Text] = deque(maxlen=MESSAGE_LIMIT)
        self.texts_sent: Counter[str] = Counter()
        self.calls_made: Counter[str] = Counter()

    def send(self, text: Text) -> None:
        self._texts.append(text)
        _count(self.texts_sent, text.user)

    def ring(self, user: str) -> None:
        _count(self.calls_made, user)

    def newest_first(self) -> list[Text]:
        return list(reversed(self._texts))

    def last_to(self, user: str) -> Text | None:
        """The newest text to a user; None when there is none."""
        return next((text for text in reversed(self._texts) if text.user == user), None)

    def last_of(self, user: str, limit: int) -> list[Text]:
        """The newest texts to a user, newest first."""
        name = user.casefold()
        return list(islice((text for text in reversed(self._texts) if text.user.casefold() == name), limit))


def _count(counter: Counter[str], user: str) -> None:
    counter[user if user in counter or len(counter) < USER_LIMIT else OTHERS] += 1
