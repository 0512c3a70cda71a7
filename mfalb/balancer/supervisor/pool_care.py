"""Looks after the pools that decide: ejected backends that come back, and panic that begins and ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from mfalb.balancer.pools.pool import Pool

_TICK_S: Final = 0.25

_log = logging.getLogger("mfalb.supervisor")


class PoolCare:
    """`pools` may be exchanged by a reload."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        self._panicking: set[str] = set()

    async def tend(self) -> None:
        """A few times a second, for ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = monotonic()
            for pool in self._pools.values():
                for backend in pool.tick(now):
                    _log.info("backend back from ejection", extra={"pool": pool.name, "backend": backend.name})
                if pool.is_panicking is not (pool.name in self._panicking):
                    self._tell_of_panic(pool)

    def forget(self, name: str) -> None:
        """A pool has left."""
        self._panicking.discard(name)

    def _tell_of_panic(self, pool: Pool) -> None:
        facts: dict[str, Any] = {"pool": pool.name, "threshold": pool.config.panic_threshold}
        if pool.is_panicking:
            self._panicking.add(pool.name)
            _log.warning("panic: too few backends are up, health is ignored for new work", extra=facts)
        else:
            self._panicking.remove(pool.name)
            _log.info("panic is over", extra=facts)
