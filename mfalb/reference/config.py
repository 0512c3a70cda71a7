"""Settings of the reference services: frozen values, read from one JSON file per service.

The estate writes these files (mode 0600: they hold throw-away secrets) and starts each service as a process of its own,
so that "in this process's memory only" means what it says and a server can really be killed.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from dataclasses import asdict, dataclass, field
from enum import Enum
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self


class Method(Enum):
    """How a user is asked for the second factor."""

    ONE_WAY_SMS = "one_way_sms"
    PHONE_CALL = "phone_call"


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
    """Where a service listens; port 0 is any free one. With `cert` and `key` (PEM) it speaks TLS."""

    host: str = "127.0.0.1"
    port: int = 0
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """The cloud MFA Service. `answer_delay_s` is how long a person takes to answer a phone call."""

    endpoint: Endpoint = Endpoint()
    answer_delay_s: float = 1.0


@dataclass(frozen=True, slots=True)
class RadiusSettings:
    """The RADIUS side of an MFA Server: whom it answers, with which secret."""

    endpoint: Endpoint
    client_network: str
    secret: str = field(repr=False)
    state: StateKind = StateKind.UNIQUE
    requires_message_authenticator: bool = True


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


@dataclass(frozen=True, slots=True)
class PortalSettings:
    """One User Portal. `sdk_url` is the balanced one; `sdk_ca` is the PEM file it is verified with."""

    name: str
    endpoint: Endpoint
    sdk_url: str
    sdk_ca: str | None
    account: Account
    users: tuple[User, ...]


Settings = CloudSettings | MfaServerSettings | PortalSettings


def write_settings(path: Path, settings: Settings) -> None:
    """Write a settings file that only its owner can read. Raises FileExistsError rather than trust another's file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(settings), file, default=_enum_value)


def _enum_value(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no place in a settings file")


class SettingsFile:
    """A settings file's tables, read back into the values above."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self._tables = tables

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises OSError and ValueError."""
        return cls(json.loads(path.read_text("utf-8")))

    def cloud(self) -> CloudSettings:
        return CloudSettings(self._endpoint("endpoint"), float(self._tables["answer_delay_s"]))

    def mfa_server(self) -> MfaServerSettings:
        tables = self._tables
        radius = tables["radius"]
        ip_network(radius["client_network"])  # fails here, not at the first datagram
        return MfaServerSettings(
            name=tables["name"],
            cloud_url=tables["cloud_url"],
            sdk=self._endpoint("sdk"),
            radius=RadiusSettings(
                endpoint=Endpoint(**radius["endpoint"]),
                client_network=radius["client_network"],
                secret=radius["secret"],
                state=StateKind(radius["state"]),
                requires_message_authenticator=radius["requires_message_authenticator"],
            ),
            account=Account(**tables["account"]),
            users=self._users(),
            master=Endpoint(**tables["master"]) if tables["master"] is not None else None,
        )

    def portal(self) -> PortalSettings:
        tables = self._tables
        return PortalSettings(
            name=tables["name"],
            endpoint=self._endpoint("endpoint"),
            sdk_url=tables["sdk_url"],
            sdk_ca=tables["sdk_ca"],
            account=Account(**tables["account"]),
            users=self._users(),
        )

    def _endpoint(self, key: str) -> Endpoint:
        return Endpoint(**self._tables[key])

    def _users(self) -> tuple[User, ...]:
        return tuple(User(**{**user, "method": Method(user["method"])}) for user in self._tables["users"])
