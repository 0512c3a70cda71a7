"""What another configuration would change: told before it is done, and refused where it cannot be done in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mfalb.balancer.config.models import Config, Pool
from mfalb.balancer.config.tables import Table
from mfalb.errors import MfalbError

# What a running supervisor has built its house upon
_FIXED = ("workers", "admin", "log", "tls")


class CannotReload(MfalbError):  # noqa: N818 - says what, in the operator's words
    """A new configuration cannot be taken up in place; everything is as it was."""


@dataclass(frozen=True, slots=True)
class ReloadPlan:
    """`changes` a line each, in the order of the file; `needs_restart` what stands against it.

    `leaving` are the backends (pool, name) that are no longer there: whoever is pinned to them begins anew.
    """

    changes: tuple[str, ...]
    needs_restart: tuple[str, ...]
    leaving: tuple[tuple[str, str], ...] = field(default=())

    def refuse_what_is_fixed(self) -> None:
        """Raises CannotReload when something takes a restart."""
        if self.needs_restart:
            keys = ", ".join(self.needs_restart)
            raise CannotReload(f"these settings take a restart, nothing was changed: {keys}")

    @property
    def is_empty(self) -> bool:
        return not self.changes and not self.needs_restart


def plan_reload(old: Config, new: Config) -> ReloadPlan:
    """The difference of two configurations. Secrets are told of by their names only."""
    changes: list[str] = []
    fixed = [name for name in _FIXED if getattr(old, name) != getattr(new, name)]
    fixed += [f"pins.{name}" for name in ("limit", "store") if getattr(old.pins, name) != getattr(new.pins, name)]
    if old.pins.cookie_keys != new.pins.cookie_keys:
        changes.append("pins: cookie_keys")
    former, later = {one.name: one for one in old.listeners}, {one.name: one for one in new.listeners}
    changes += _members("listener", former, later)
    changes += _members("pool", old.pools, new.pools)
    leaving = []
    for name, pool in old.pools.items():
        kept = {one.name for one in new.pools[name].backends} if name in new.pools else set()
        leaving += [(name, one.name) for one in pool.backends if one.name not in kept]
    return ReloadPlan(tuple(changes), tuple(fixed), tuple(leaving))


def _members(kind: str, former: Mapping[str, Table], later: Mapping[str, Table]) -> list[str]:
    changes = [f"{kind} {name}: removed" for name in former if name not in later]
    for name, table in later.items():
        known = former.get(name)
        if known is None:
            changes.append(f"{kind} {name}: added")
        elif type(known) is not type(table):
            changes.append(f"{kind} {name}: replaced by another kind")
        elif known != table:
            changes += _fields(f"{kind} {name}", known, table)
    return changes


def _fields(where: str, known: Table, table: Table) -> list[str]:
    changed = [name for name in type(table).model_fields if getattr(known, name) != getattr(table, name)]
    lines = []
    if isinstance(known, Pool) and isinstance(table, Pool) and "backends" in changed:
        changed.remove("backends")
        former = {one.name: one for one in known.backends}
        lines = _members(f"{where}: backend", former, {one.name: one for one in table.backends})
        if not lines:
            lines = [f"{where}: backends in another order"]
    if changed:
        lines.append(f"{where}: {', '.join(name.removesuffix('_s') for name in changed)}")
    return lines
