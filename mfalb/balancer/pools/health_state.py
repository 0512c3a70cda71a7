"""The score of one backend: what probes and traffic have shown, and how many more results flip it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never


class Health(Enum):
    """What is known of a backend. UNKNOWN takes no work: a new server must not pass before it was seen to work."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many results in a row flip a backend: `rise` good ones up, `fall` bad ones down."""

    rise: int = 2
    fall: int = 3


class HealthState:
    """One backend's health.

    The first result decides alone (an operator who starts a balancer does not wait rise times interval); after that a
    flip takes `rise` good or `fall` bad results in a row, so that one lost probe moves nobody.
    """

    __slots__ = ("changed_at", "health", "is_probed", "reason", "streak", "thresholds")

    def __init__(self, thresholds: Thresholds, *, is_probed: bool) -> None:
        self.thresholds = thresholds
        self.is_probed = is_probed
        # Without probes nothing could ever bring a backend up again, so it counts as up and stays so.
        self.health = Health.UNKNOWN if is_probed else Health.UP
        self.streak = 0
        self.reason = ""
        self.changed_at = 0.0

    def reconfigure(self, thresholds: Thresholds, *, is_probed: bool) -> None:
        """Judge by other rules from now on. What is known stands, unless nobody could ever change it."""
        self.thresholds = thresholds
        self.is_probed = is_probed
        if not is_probed:
            self.health, self.streak = Health.UP, 0

    @property
    def results_to_flip(self) -> int:
        """How many more results against the present health would flip it."""
        match self.health:
            case Health.UP:
                return self.thresholds.fall - self.streak
            case Health.DOWN:
                return self.thresholds.rise - self.streak
            case Health.UNKNOWN:
                return 1
        assert_never(self.health)

    @property
    def is_flipping(self) -> bool:
        """Whether something contradicts what is known, or nothing is known yet."""
        return self.streak > 0 or self.health is Health.UNKNOWN

    def observe(self, *, is_good: bool, reason: str, now: float) -> bool:
        """Score one probe's result, or one failure that traffic has shown. True when the health changed."""
        self.reason = reason
        target = Health.UP if is_good else Health.DOWN
        if self.health is target:
            self.streak = 0
            return False
        self.streak += 1
        if self.results_to_flip > 0 and self.health is not Health.UNKNOWN:
            return False
        return self.decide(target, reason, now)

    def decide(self, health: Health, reason: str, now: float) -> bool:
        """Take a verdict that was reached elsewhere (by a watchdog). True when the health changed."""
        self.reason = reason
        if self.health is health:
            return False
        self.health = health
        self.streak = 0
        self.changed_at = now
        return True

    def observe_refusal(self, reason: str, now: float) -> bool:
        """Score a refusal that traffic met. Only backends with probes can go down by it (see `__init__`)."""
        return self.is_probed and self.observe(is_good=False, reason=reason, now=now)
