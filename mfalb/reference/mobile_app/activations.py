"""Activations under way, in this process's memory: bounded, expiring, each to be finished once.

    (none) --ActivateNew--> open --ConfirmActivation--> waiting --answer, or nobody--> (none)

The answer to the test push may come before the app asks to be confirmed: it is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cachetools import TLRUCache

LIFE_S: Final = 600.0  # as long as the MFA Servers keep a device that was not confirmed
LIMIT: Final = 10_000  # when full, the least recently used activation is lost; only holders of good codes begin one


@dataclass(slots=True)
class Activation:
    """One activation under way. `answer` says whether the test push was approved."""

    user: str
    answer: asyncio.Future[bool] = field(repr=False)
    is_waiting: bool = False


class Activations:
    """Activations by confirmation code. `now` gives seconds on a clock that never goes back."""

    def __init__(self, now: Callable[[], float], limit: int = LIMIT) -> None:
        self._open: TLRUCache[str, Activation] = TLRUCache(limit, lambda _code, _one, begun: begun + LIFE_S, timer=now)

    def __len__(self) -> int:
        self._open.expire()
        return len(self._open)

    def begin(self, confirmation_code: str, user: str) -> None:
        """An app was given this code."""
        self._open[confirmation_code] = Activation(user, asyncio.get_running_loop().create_future())

    def answer(self, confirmation_code: str, *, is_approved: bool) -> bool:
        """The answer to the test push; the first one counts. False when no activation here waits for one."""
        activation = self._open.get(confirmation_code)
        if activation is None or activation.answer.done():
            return False
        activation.answer.set_result(is_approved)
        return True

    async def wait(self, confirmation_code: str, timeout_s: float) -> Activation | None:
        """Wait for the answer; None for a code that is not known here, or waits already.

        The activation that comes back has ended, and its answer is there unless nobody gave one in time.
        """
        activation = self._open.get(confirmation_code)
        if activation is None or activation.is_waiting:
            return None
        activation.is_waiting = True
        try:
            await asyncio.wait([activation.answer], timeout=timeout_s)
        finally:  # the app may leave meanwhile: it has to begin anew
            self._open.pop(confirmation_code, None)
        return activation
