"""Users who are being asked right now, so that a second press of the button rings no second phone.

A phone call is one request that stays open until somebody has answered. Whoever presses the button again, or reloads
the page, gets the answer of the request that is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mfalb.reference.sdk_client.answers import FirstHalf
from mfalb.reference.sdk_client.failures import Level, SdkUnavailable

Begin = Callable[[], Awaitable[FirstHalf]]

_STOPPED: Final = "stopped"


class Asking:
    """First halves under way, by who is asked from which browser."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, str], asyncio.Future[FirstHalf | SdkUnavailable]] = {}

    async def ask(self, browser: str, user: str, begin: Begin) -> FirstHalf:
        """Begin, or wait for what `browser` has begun for this user already. Raises SdkUnavailable."""
        key = (browser, user.casefold())
        under_way = self._under_way.get(key)
        if under_way is None:
            return await self._begin(key, begin)
        outcome = await asyncio.shield(under_way)
        if isinstance(outcome, SdkUnavailable):
            raise SdkUnavailable(outcome.level, outcome.reason)
        return outcome

    async def _begin(self, key: tuple[str, str], begin: Begin) -> FirstHalf:
        under_way = self._under_way[key] = asyncio.get_running_loop().create_future()
        outcome: FirstHalf | SdkUnavailable = SdkUnavailable(Level.UNREACHABLE, _STOPPED)  # if we are cancelled
        try:
            outcome = await begin()
        except SdkUnavailable as failure:
            outcome = failure
            raise
        finally:
            del self._under_way[key]
            under_way.set_result(outcome)
        return outcome
