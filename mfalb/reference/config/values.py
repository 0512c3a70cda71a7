"""What the settings of several services are made of."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_network
from typing import Final, Self

from mfalb.reference.config.passwords import NT_HASH_BYTES, PasswordHash, check_hexadecimal

_LAST_PORT: Final = 65_535
PIN_COST: Final = 2**14  # 16 MiB, some 40 ms


def check_networks(setting: str, networks: Sequence[str]) -> None:
    """Raises ValueError for what is no network, or an address with bits behind its network's."""
    for network in networks:
        try:
            ip_network(network)
        except ValueError as error:
            raise ValueError(f"{setting}: {error}") from None


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
class UserPin:
    """A user PIN's scrypt hash (r = 8, p = 1): salt and digest in lower-case hexadecimal, and scrypt's n."""

    salt: str = field(repr=False)
    digest: str = field(repr=False)
    cost: int = PIN_COST

    @classmethod
    def of(cls, pin: str) -> Self:
        """The hash of a user PIN. Blocks for the time that it costs."""
        salt = os.urandom(16).hex()
        return cls(salt, _pin_digest(pin, salt, PIN_COST).hex())

    def is_right(self, pin: str) -> bool:
        """Whether this is the user PIN. Blocks for the time that it costs."""
        return hmac.compare_digest(_pin_digest(pin, self.salt, self.cost), bytes.fromhex(self.digest))


def _pin_digest(pin: str, salt: str, cost: int) -> bytes:
    limit = 256 * cost * 8  # twice what it takes
    return hashlib.scrypt(pin.encode(), salt=bytes.fromhex(salt), n=cost, r=8, p=1, maxmem=limit, dklen=32)


@dataclass(frozen=True, slots=True)
class User:
    """A user, and how they are asked for the second factor. `device_token` is the phone app's, for pushes.

    The password is one of `password` and `password_hash`, or unknown here ("" and None). With the hash, MS-CHAPv2 needs
    `nt_hash` (hexadecimal) as well, because it can be had from a password only.
    """

    name: str
    password: str = field(repr=False, metadata={"unsaid": ""})
    phone: str
    method: Method = Method.ONE_WAY_SMS
    pin: UserPin | None = field(default=None, repr=False)
    device_token: str = field(default="", repr=False)
    password_hash: PasswordHash | None = field(default=None, repr=False)
    nt_hash: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError, which shows no value, for what does not go together."""
        if self.password and self.password_hash is not None:
            raise ValueError("password and password_hash: only one of them is wanted")
        if self.nt_hash is not None:
            if self.password_hash is None:
                raise ValueError("nt_hash goes with password_hash; of a password it is made")
            check_hexadecimal("nt_hash", self.nt_hash, NT_HASH_BYTES)


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

    def __post_init__(self) -> None:
        """Raises ValueError for what no service can listen with."""
        if not 0 <= self.port <= _LAST_PORT:
            raise ValueError(f"port is a number from 0 (any free one) to {_LAST_PORT}")
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        if self.client_ca is not None and self.cert is None:
            raise ValueError("client_ca needs cert and key: without TLS nobody can show a certificate")


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What a service shows whom it calls (PEM files), and the authority that it knows them by."""

    ca: str
    cert: str | None = None
    key: str | None = None
