"""What a first probe says of backends, before they get any work."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from typing import Final

from mfalb.balancer.config.models import Config
from mfalb.balancer.health.prober import Prober
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.worker import Addresses, address_backends
from mfalb.net.tls_files import TlsFiles

_FIRST_LOOK_S: Final = 5.0  # nobody waits for longer

_log = logging.getLogger("mfalb.supervisor")


async def first_looks(former: Config, config: Config, found: Addresses, tls_files: TlsFiles) -> dict[str, Pool]:
    """Pools that are new, or have new backends, with what a first probe says of each."""
    shadows = {}
    for name, settings in config.pools.items():
        known = former.pools.get(name)
        places = {one.name: one.address for one in known.backends} if known is not None else {}
        if any(places.get(one.name) != one.address for one in settings.backends):
            shadows[name] = Pool(name, settings, random.random)
    address_backends(shadows, [one for one in found if one[0] in shadows])
    looks = Prober(tls_files)
    try:
        await look_for_a_while(looks, shadows.values())
    finally:
        await looks.close()
    return shadows


async def look_for_a_while(prober: Prober, pools: Iterable[Pool]) -> None:
    """Begin to probe, and wait for the first results, but not for long."""
    try:
        async with asyncio.timeout(_FIRST_LOOK_S):
            await prober.start(pools)
    except TimeoutError:
        _log.warning("not every new backend has answered its first probe")


def look_alike(pool: Pool, shadow: Pool | None, seen: set[str]) -> None:
    """Backends that are new to a pool are as their first probe has found them."""
    for name, backend in pool.backends.items():
        if shadow is not None and name not in seen:
            found = shadow.backends[name].health
            backend.health.decide(found.health, found.reason, found.changed_at)
    pool.refresh()
