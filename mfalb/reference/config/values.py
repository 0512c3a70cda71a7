"""What the settings of several services are made of."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self


class Method(Enum):
    """How a user is asked for the second factor."""

    ONE_WAY_SMS = "one_way_sms"
    TWO_WAY_SMS = "two_way_sms"
    PHONE_CALL = "phone_call"
    APP_PUSH = "app_push"


class StateKind(Enum):
    """What an Access-Challenge's State holds: 16 random bytes, or (as some real servers do) always the same text."""

    UNIQUE = "unique"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the embedded directory."""

    name: str
    password: str = field(repr=False)
    phone: str
    method: Method = Method.ONE_WAY_SMS

    @classmethod
    def read(cls, table: dict[str, Any]) -> Self:
        """A user as a settings file has it. Raises ValueError and TypeError."""
        return cls(**{**table, "method": Method(table.get("method", "one_way_sms"))})


@dataclass(frozen=True, slots=True)
class Account:
    """The account that callers of the Web Service SDK sign in with (a member of PhoneFactor Admins)."""

    name: str
    password: str = field(repr=False)

    @property
    def authorization(self) -> str:
        """The value of an Authorization header (RFC 7617, UTF-8)."""
        return "Basic " + b64encode(f"{self.name}:{self.password}".encode()).decode("ascii")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service listens; port 0 is any free one. With `cert` and `key` (PEM) it speaks TLS.

    With `client_ca` (PEM) it talks only to clients that show a certificate which that authority signed.
    """

    host: str = "127.0.0.1"
    port: int = 0
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
