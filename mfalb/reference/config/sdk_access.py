"""How a caller reaches the (balanced) Web Service SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from mfalb.reference.config.values import Account


@dataclass(frozen=True, slots=True)
class SdkAccess:
    """One URL for all MFA Servers: the balanced one.

    `ca` is the PEM file that its certificate is verified with (None: the system's authorities). Callers sign in with an
    `account`, with a client certificate (`cert` and `key`, PEM files), or with both.
    """

    url: str
    ca: str | None = None
    account: Account | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def read(cls, table: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError and ValueError for a table that says nothing usable."""
        account = table.get("account")
        access = cls(**{**table, "account": None if account is None else Account(**account)})
        if access.account is None and access.cert is None:
            raise ValueError("the Web Service SDK wants an account or a client certificate")
        return access
