"""The groups on disk: one small JSON file, replaced as a whole at each change.

With a file, because epochs must outlive the cloud: one that forgot them after a restart would take a promotion twice,
and tell an old master that it is still the master. Demonstrations that throw everything away at their end name no
file, and everything is in memory.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mfalb.reference.cloud_service.groups import Group, Groups, Member, ServerKind


def load(path: Path) -> dict[str, Group]:
    """The groups in a file; none when there is no file yet. Raises OSError, ValueError, KeyError and TypeError."""
    try:
        tables = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return {name: _group(name, table) for name, table in tables.items()}


def save(path: Path, groups: Groups) -> None:
    """Replace the file: whoever reads it, also after a crash, sees all of the old state or all of the new."""
    tables = {name: _table(group) for name, group in groups.items()}
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it holds license keys
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(tables, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the new name, too, outlives a crash
    finally:
        os.close(directory)


def _table(group: Group) -> dict[str, Any]:
    members = {
        name: {"kind": member.kind.value, "rpc_address": member.rpc_address, "license_key": member.license_key}
        for name, member in group.members.items()
    }
    return {"master": group.master, "epoch": group.epoch, "members": members}


def _group(name: str, table: dict[str, Any]) -> Group:
    members = {
        server: Member(ServerKind(member["kind"]), member["rpc_address"], member["license_key"])
        for server, member in table["members"].items()
    }
    if table["master"] not in members:
        raise ValueError(f"the master of group {name} is none of its servers")
    return Group(name, table["master"], int(table["epoch"]), members)
