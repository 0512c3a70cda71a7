"""How a caller reaches the (balanced) Web Service SDK."""

from __future__ import annotations

from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        """Raises ValueError for what says nothing usable."""
        if self.account is None and self.cert is None:
            raise ValueError("the Web Service SDK wants an account or a client certificate")
