"""Replication groups: which MFA Servers belong together, and which of them is the master.

Core. The cloud is a registrar: the first server activated in a group is its master, and from then on the master
changes only when an operator promotes another server. It promotes nobody by itself. The epoch counts promotions and is
only ever set to the one that follows it, so that of two promotions at once one is refused, and an old master that comes
back can see that it is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from mfalb.errors import MfalbError

GROUP_LIMIT: Final = 1000  # past either limit, activation is refused
MEMBER_LIMIT: Final = 100
FIRST_EPOCH: Final = 1


class ServerKind(Enum):
    """How a server is installed. All servers of a group must be of one kind."""

    DOMAIN_JOINED = "domain_joined"
    STANDALONE = "standalone"


class Refusal(Enum):
    """Why the registry did not change."""

    MIXED_GROUP = "mixed group"
    TOO_MANY = "too many"
    NO_GROUP = "no such group"
    NO_MEMBER = "no such server"
    NOT_NEXT = "not the next epoch"


class GroupRefusal(MfalbError):  # noqa: N818 - says what happened
    """The registry did not change; the text says why in words for an operator."""

    def __init__(self, refusal: Refusal, text: str) -> None:
        super().__init__(text)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that asks to be activated. `rpc_address` (`host:port`) is where its slaves will find it."""

    server: str
    group: str
    kind: ServerKind
    rpc_address: str


@dataclass(frozen=True, slots=True)
class Member:
    """A server of a group. Its license key proves to the cloud that it was activated."""

    kind: ServerKind
    rpc_address: str
    license_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Group:
    """A group's state, never changed in place: what is on disk and what is served cannot come apart half-way."""

    name: str
    master: str
    epoch: int
    members: Mapping[str, Member]

    @property
    def master_rpc(self) -> str:
        return self.members[self.master].rpc_address


Groups = Mapping[str, Group]


def activated(groups: Groups, candidate: Candidate, license_key: str) -> Group:
    """The candidate's group with the candidate in it. `license_key` is used if it has none yet.

    Activating a server again changes nothing but its address, and its kind if it is alone. Raises GroupRefusal.
    """
    group = groups.get(candidate.group)
    if group is None:
        if len(groups) >= GROUP_LIMIT:
            raise GroupRefusal(Refusal.TOO_MANY, f"there are {GROUP_LIMIT} groups already")
        group = Group(candidate.group, candidate.server, FIRST_EPOCH, {})
    others = {name: member for name, member in group.members.items() if name != candidate.server}
    for name, member in others.items():
        if member.kind is not candidate.kind:
            raise GroupRefusal(
                Refusal.MIXED_GROUP,
                f"mixed group: {name} of group {group.name} is {member.kind.value}, and {candidate.server} is "
                f"{candidate.kind.value}; all servers of a group must be of one kind",
            )
    if len(others) >= MEMBER_LIMIT:
        raise GroupRefusal(Refusal.TOO_MANY, f"group {group.name} has {MEMBER_LIMIT} servers already")
    known = group.members.get(candidate.server)
    key = license_key if known is None else known.license_key
    member = Member(candidate.kind, candidate.rpc_address, key)
    return replace(group, members={**group.members, candidate.server: member})


def promoted(groups: Groups, name: str, server: str, epoch: int) -> Group:
    """The group with `server` as its master at `epoch`, which must be the one after the group's own.

    The promotion that made the present state may be told again (its answer may have been lost). Raises GroupRefusal.
    """
    group = groups.get(name)
    if group is None:
        raise GroupRefusal(Refusal.NO_GROUP, f"there is no group {name}")
    if server not in group.members:
        raise GroupRefusal(Refusal.NO_MEMBER, f"{server} is no activated server of group {name}")
    if (server, epoch) == (group.master, group.epoch):
        return group
    if epoch != group.epoch + 1:
        raise GroupRefusal(
            Refusal.NOT_NEXT,
            f"group {name} is at epoch {group.epoch} with master {group.master}: the next epoch is {group.epoch + 1}, "
            f"not {epoch}",
        )
    return replace(group, master=server, epoch=epoch)
