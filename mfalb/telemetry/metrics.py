"""Counters for the hot path: plain integers, summed and named only when somebody asks for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class ListenerCounters:
    """What one listener did since its start.

    `answers` counts by what the client got (a status class, a RADIUS code or reason); `drops` by why it got nothing.
    `unhandled_hidden` counts RADIUS attributes that a shared secret hides and that passed as they were, by name.
    Keys are our own words, never a client's: a label that clients choose is a way to fill the memory.
    """

    name: str
    protocol: str
    requests: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    unhandled_hidden: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    connections: int = 0

    def count_answer(self, answer: str) -> None:
        """One more. Not a Counter: adding to one costs three times as much, and this is done for every exchange."""
        self.answers[answer] = self.answers.get(answer, 0) + 1
