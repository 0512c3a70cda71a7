"""An event loop whose time passes at once: when nobody has anything to do, it is the time of the next timer.

run(story())   where story awaits, sleeps and times out as ever, and takes no time
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class _Hurry(selectors.SelectSelector):
    """Waits for nobody: the time that it should have waited is simply over."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and no timer runs: this would last for ever")
            self.now += timeout
        return ready


class StillLoop(asyncio.SelectorEventLoop):
    """See the module's docstring."""

    def __init__(self) -> None:
        self._hurry = _Hurry()
        super().__init__(self._hurry)

    def time(self) -> float:
        return self._hurry.now


def run(story: Coroutine[Any, Any, _Result]) -> _Result:
    """What the story returns."""
    with asyncio.Runner(loop_factory=StillLoop) as runner:
        return runner.run(story)
