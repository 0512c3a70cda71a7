"""Settings of a User Portal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from mfalb.reference.config.values import Account, Endpoint, User


@dataclass(frozen=True, slots=True)
class PortalSettings:
    """One User Portal. `sdk_url` is the balanced one; `sdk_ca` is the PEM file it is verified with."""

    name: str
    endpoint: Endpoint
    sdk_url: str
    sdk_ca: str | None
    account: Account
    users: tuple[User, ...]

    @classmethod
    def read(cls, tables: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError and ValueError for tables that are not such settings."""
        return cls(
            name=tables["name"],
            endpoint=Endpoint(**tables["endpoint"]),
            sdk_url=tables["sdk_url"],
            sdk_ca=tables["sdk_ca"],
            account=Account(**tables["account"]),
            users=tuple(User.read(user) for user in tables["users"]),
        )
