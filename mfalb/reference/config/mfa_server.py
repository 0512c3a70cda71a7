"""Settings of an MFA Server."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Self

from mfalb.reference.config.values import Account, Endpoint, StateKind, User


@dataclass(frozen=True, slots=True)
class RadiusSettings:
    """The RADIUS side of an MFA Server: whom it answers, with which secret."""

    endpoint: Endpoint
    client_network: str
    secret: str = field(repr=False)
    state: StateKind = StateKind.UNIQUE
    requires_message_authenticator: bool = True

    @classmethod
    def read(cls, table: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError and ValueError for a table that is not such settings."""
        ip_network(table["client_network"])  # fails here, not at the first datagram
        return cls(
            endpoint=Endpoint(**table["endpoint"]),
            client_network=table["client_network"],
            secret=table["secret"],
            state=StateKind(table["state"]),
            requires_message_authenticator=table["requires_message_authenticator"],
        )


@dataclass(frozen=True, slots=True)
class MfaServerSettings:
    """One MFA Server. `master` is where the master of its group takes connections; None for the master itself."""

    name: str
    cloud_url: str
    sdk: Endpoint
    radius: RadiusSettings
    account: Account
    users: tuple[User, ...]
    master: Endpoint | None = None

    @classmethod
    def read(cls, tables: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError and ValueError for tables that are not such settings."""
        return cls(
            name=tables["name"],
            cloud_url=tables["cloud_url"],
            sdk=Endpoint(**tables["sdk"]),
            radius=RadiusSettings.read(tables["radius"]),
            account=Account(**tables["account"]),
            users=tuple(User.read(user) for user in tables["users"]),
            master=Endpoint(**tables["master"]) if tables["master"] is not None else None,
        )
