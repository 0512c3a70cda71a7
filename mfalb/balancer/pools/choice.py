"""What every algorithm answers: whose turn is it?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from mfalb.balancer.pools.backend import Backend

NO_KEY: Final = b""


class Choice(ABC):
    """One algorithm at work among backends that may all take what comes; who those are is the pool's to say.

    An algorithm that chooses by what a request says is given that as `key`; all others pass over it.
    """

    __slots__ = ()

    @abstractmethod
    def set_backends(self, backends: Sequence[Backend]) -> None:
        """From now on these, all of them with a `pull` above 0. Called when one comes, goes or warms up."""

    @abstractmethod
    def next(self, key: bytes = NO_KEY) -> Backend | None:
        """The backend for new work; None when there is none."""

    @abstractmethod
    def peek(self, key: bytes = NO_KEY) -> Backend | None:
        """Whom `next` would give now, while nobody's turn passes; None when chance will decide, or there is nobody."""

    @abstractmethod
    def next_except(self, tried: frozenset[str], key: bytes = NO_KEY) -> Backend | None:
        """The backend for work that these have refused."""
