"""What the admin API can have done, whoever does it.

Methods raise `Refused` for what cannot be done, with a text for the operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from mfalb.balancer.admin.api_models import (
    AdminStateChange,
    Changed,
    Leavings,
    Pins,
    Question,
    Reloaded,
    ReloadOrder,
    Status,
    Upgraded,
    UpgradeOrder,
    Verdicts,
    WeightChange,
)
from mfalb.balancer.config.outline import did_you_mean
from mfalb.balancer.config.values import quoted
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.errors import MfalbError


class Refused(MfalbError):  # noqa: N818 - says what, in the operator's words
    """It cannot be done, and nothing was changed. `is_unknown`: it speaks of something that is not there."""

    def __init__(self, text: str, *, is_unknown: bool = False) -> None:
        super().__init__(text)
        self.is_unknown = is_unknown


class Operations(Protocol):
    """What operators can ask for. Backends are named as in `find_backends`."""

    async def status(self) -> Status:
        """All pools and backends as they are."""

    async def set_admin_state(self, change: AdminStateChange) -> Changed:
        """Set it at once; a drain may end by itself later (`then`)."""

    async def leaving(self, backend: str) -> Leavings:
        """What still ties work to a backend."""

    async def set_weight(self, change: WeightChange) -> Changed:
        """Set it, until the next one or the end of the process."""

    async def pins(self, pool: str | None) -> Pins:
        """The pin table, counted; with `pool` only the names that stand in that pool."""

    async def why(self, question: Question) -> Verdicts:
        """Which backend would get it, and why. Changes nothing: no turn passes, no counter moves."""

    async def reload(self, order: ReloadOrder) -> Reloaded:
        """Take up the configuration file, or tell what would change."""

    async def upgrade(self, order: UpgradeOrder) -> Upgraded:
        """Let another process take over, with the code that is on the disk now."""


def find_pool(pools: Mapping[str, Pool], name: str) -> Pool:
    """The pool of that name. Raises Refused."""
    pool = pools.get(name)
    if pool is None:
        raise Refused(f"there is no pool {quoted(name)}{_near(name, pools, 'pools')}", is_unknown=True)
    return pool


def find_backends(pools: Mapping[str, Pool], name: str) -> list[Backend]:
    """The backends that `name` means: POOL/BACKEND, or BACKEND in every pool that has it. Raises Refused."""
    pool_name, slash, backend_name = name.rpartition("/")
    chosen = [find_pool(pools, pool_name)] if slash else list(pools.values())
    found = [pool.backends[backend_name] for pool in chosen if backend_name in pool.backends]
    if not found:
        known = sorted({one for pool in chosen for one in pool.backends})
        where = f"pool {quoted(pool_name)} has no backend" if slash else "no pool has a backend"
        raise Refused(f"{where} {quoted(backend_name)}{_near(backend_name, known, 'backends')}", is_unknown=True)
    return found


def _near(word: str, accepted: Iterable[str], kind: str) -> str:
    names = list(accepted)
    return did_you_mean(word, names) or f"; {kind}: {', '.join(names)}"
