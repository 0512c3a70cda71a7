"""What a server is in its group at this moment, and which changes of that are allowed. Core."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Role(Enum):
    """What the cloud MFA Service has said that a server is."""

    UNACTIVATED = "not activated"
    MASTER = "master"
    SLAVE = "slave"


@dataclass(frozen=True, slots=True)
class Membership:
    """What the cloud said when it activated this server, or what an operator's promotion has made of it."""

    role: Role
    epoch: int
    master_rpc: str
    license_key: str = field(default="", repr=False)


@dataclass(slots=True)
class Standing:
    """The one place where the parts of a server look up what it is."""

    membership: Membership | None = None
    refusal: str = ""  # why the cloud does not activate this server
    divergence: str = ""  # what this server has that its master never saw, and what to do
    is_retiring: bool = False  # another server is being promoted: no more writes here
    is_confirmed: bool = False  # the cloud has said so since this process began

    @property
    def role(self) -> Role:
        return Role.UNACTIVATED if self.membership is None else self.membership.role

    @property
    def epoch(self) -> int:
        return 0 if self.membership is None else self.membership.epoch

    @property
    def is_writable(self) -> bool:
        """Whether writes are made here. A master that the cloud has not confirmed may have been replaced."""
        return self.role is Role.MASTER and self.is_confirmed and not self.is_retiring


def is_believed(told: Membership, known: Membership | None, known_epoch: int) -> bool:
    """Whether to become what the cloud says. Roles change with an epoch, and epochs only go up.

    A cloud that has forgotten its groups makes a master of whoever asks first: two masters of one epoch would write two
    histories that no number tells apart.
    """
    if told.epoch < known_epoch:
        return False
    if known is None or told.epoch > known.epoch:
        return True
    return told.role is known.role
