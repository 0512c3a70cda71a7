"""Users and what belongs to them, as every server of the group reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

import apsw

from mfalb.reference.config.values import Method
from mfalb.reference.mfa_server.data.user_pins import PinHash


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user of the group."""

    name: str
    phone: str
    method: Method
    is_enabled: bool
    pin: PinHash | None = None

    @property
    def masked_phone(self) -> str:
        """The phone with all its digits but the last two hidden."""
        shown = len(self.phone) - 2
        return "".join("*" if sign.isdigit() and place < shown else sign for place, sign in enumerate(self.phone))


@dataclass(frozen=True, slots=True)
class Device:
    """A phone app that a user has activated."""

    name: str
    token: str = field(repr=False)
    version: str
    oath_secret: bytes = field(repr=False)
    oath_counter: int


def user_key(name: str) -> str:
    """Under which a user is kept: names are the same in any case."""
    return name.casefold()


def find_user(db: apsw.Connection, name: str) -> UserRecord | None:
    """The user of that name, in whatever case it is written."""
    query = "SELECT name, phone, method, enabled, pin_salt, pin_hash FROM users WHERE key = ?"
    row = db.execute(query, (user_key(name),)).fetchone()
    if row is None:
        return None
    own_name, phone, method, is_enabled, salt, digest = row
    pin = None if digest is None else PinHash(salt, digest)
    return UserRecord(own_name, phone, Method(method), bool(is_enabled), pin)


def devices_of(db: apsw.Connection, name: str) -> tuple[Device, ...]:
    """The devices of a user that have been confirmed, the newest last."""
    query = "SELECT name, token, version, oath_secret, oath_counter FROM devices WHERE key = ? AND confirmation IS NULL"
    query += " ORDER BY until"
    return tuple(Device(*row) for row in db.execute(query, (user_key(name),)))


def has_bypass(db: apsw.Connection, name: str, now: float) -> bool:
    """Whether the next sign-in of this user is let through without a second factor."""
    query = "SELECT 1 FROM bypasses WHERE key = ? AND until > ?"
    return db.execute(query, (user_key(name), now)).fetchone() is not None
