"""A server without a group: its own master, for as long as it runs."""

from __future__ import annotations

from typing import Protocol

from mfalb.reference.mfa_server.data.writes import Texts
from mfalb.reference.mfa_server.group.ledger import Ledger
from mfalb.reference.mfa_server.group.standing import Membership, Role, Standing


class Writer(Protocol):
    """Where writes go; a `Member` of a group is one, and so is a server without a group."""

    @property
    def is_master_reached(self) -> bool: ...

    async def write(self, name: str, texts: Texts) -> dict[str, str]: ...


class Lone:
    """Makes all writes itself."""

    is_master_reached = True

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def write(self, name: str, texts: Texts) -> dict[str, str]:
        """Raises WriteRefused."""
        return (await self._ledger.write(name, texts))[0]


def lone_standing() -> Standing:
    """What a server without a group is: nobody has to activate it."""
    return Standing(Membership(Role.MASTER, 1, ""), is_confirmed=True)
