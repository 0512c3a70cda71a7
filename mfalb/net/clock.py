"""The time of the round: read once when the loop hands something over, and used for all that follows from it."""

from __future__ import annotations

from time import monotonic


class Clock:
    """`now` is in monotonic seconds, as of the last `read`: an exchange would ask eight times otherwise."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = monotonic()

    def read(self) -> float:
        """Look at the clock. Whoever is called by the event loop does, before anything else."""
        self.now = monotonic()
        return self.now
