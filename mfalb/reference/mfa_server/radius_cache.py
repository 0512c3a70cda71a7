"""Caching rules: who has just passed need not be asked again for some seconds.

VPNs send several requests for one sign-in, each with an identifier of its own, some while the first still rings. With
a rule, those that come meanwhile share its outcome, and those that come soon after a success pass. The user's password
is checked each time all the same. Per server, as the rules of the real one seem to be (MFA facts, section 6.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final

from mfalb.reference.config.mfa_server import CacheType, CachingRule
from mfalb.reference.mfa_server.second_factor import Begun, FirstHalf

LIMIT: Final = 10_000  # past it, the oldest success is forgotten: that user is asked again
_AUTH_TYPE: Final = "radius"

Key = tuple[str, str]


class Successes:
    """Who has passed, and until when that counts; and who is being asked right now."""

    def __init__(self, rules: Sequence[CachingRule], application: str, clock: Callable[[], float] = monotonic) -> None:
        """The first rule that is for RADIUS and for this application counts."""
        fitting = (rule for rule in rules if _fits(rule, application))
        self._rule = next(fitting, None)
        self._clock = clock
        self._until: dict[Key, float] = {}
        self._asked: dict[Key, asyncio.Future[FirstHalf]] = {}

    def key(self, user: str, client: str) -> Key | None:
        """Under which this sign-in is remembered. `client` is the RADIUS client's address; None without a rule."""
        if self._rule is None:
            return None
        return (user.casefold(), client if self._rule.type is CacheType.USER_AND_CLIENT else "")

    def has_passed(self, key: Key | None) -> bool:
        """Whether a success still counts."""
        return key is not None and self._until.get(key, 0.0) > self._clock()

    def passed(self, key: Key | None) -> None:
        """A sign-in has succeeded."""
        if key is None or self._rule is None:
            return
        self._until.pop(key, None)
        if len(self._until) >= LIMIT:
            del self._until[next(iter(self._until))]
        self._until[key] = self._clock() + self._rule.seconds

    async def shared(self, key: Key | None, ask: Callable[[], Awaitable[FirstHalf]]) -> FirstHalf:
        """Ask, unless the same question waits for its answer already: then that answer is for both.

        A text's code is typed in answer to one request, so a text that was sent is not shared.
        """
        if key is None:
            return await ask()
        asked = self._asked.get(key)
        if asked is not None:
            half = await asyncio.shield(asked)
            return half if half.begun is not Begun.TEXT_SENT else await ask()
        mine = self._asked[key] = asyncio.get_running_loop().create_future()
        try:
            half = await ask()
        except BaseException:
            mine.cancel()
            raise
        else:
            mine.set_result(half)
            if half.begun is Begun.AUTHENTICATED:
                self.passed(key)
            return half
        finally:
            del self._asked[key]


def _fits(rule: CachingRule, application: str) -> bool:
    return rule.auth_type in (None, _AUTH_TYPE) and rule.application in (None, application)
