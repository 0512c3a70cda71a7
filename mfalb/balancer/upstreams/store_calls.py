"""Calls to the store of shared pins: each with a deadline, and whatever goes wrong in one is a reason in a word."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Final

from mfalb.balancer.affinity.store import PinStoreAway
from mfalb.telemetry.rare_log import RareLog

CALL_LIMIT_S: Final = 1.0  # a call that takes longer is given up, and the store with it

_log = logging.getLogger("mfalb.pins")


@dataclass(slots=True)
class SharingCounters:
    """`results` by (operation, result), `failures` of calls by reason, `seconds` and `calls` by operation."""

    results: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: {"store": 0.0, "look_up": 0.0, "end": 0.0})


class StoreCalls:
    """Makes them, and tells of faults of our own once a minute."""

    def __init__(self) -> None:
        self.rare_log = RareLog(_log)

    async def limited(self, work: Coroutine[None, None, None]) -> str | None:
        """Why the store did not do it; None when it did."""
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                await work
        except PinStoreAway as away:
            return away.reason
        except TimeoutError:
            return "silent"
        except Exception as error:  # noqa: BLE001 - a fault of ours or of the library's: the node serves on alone
            self.rare_log.error(type(error).__name__, "internal error: a call to the pin store failed", error)
            return "internal_error"
        return None
