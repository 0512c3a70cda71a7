"""The embedded directory: users and their passwords, kept as scrypt hashes."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mfalb.reference.config.values import User

_SALT_BYTES: Final = 16
_COST: Final = 2**12  # 4 MiB and about 10 ms: this is an estate for trying things, on small machines too


@dataclass(frozen=True, slots=True)
class _Entry:
    user: User
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)


class Directory:
    """Users by name, without regard to case."""

    def __init__(self, users: Sequence[User]) -> None:
        self._entries = {user.name.casefold(): _entry(user) for user in users}
        # Compared against for a name that does not exist, so that it takes as long as a wrong password
        self._nobody = _entry(User("", os.urandom(_SALT_BYTES).hex(), ""))

    def check(self, name: str, password: str) -> User | None:
        """The user whose password this is, or None: for a wrong password and an unknown name alike, in like time."""
        entry = self._entries.get(name.casefold(), self._nobody)
        is_right = hmac.compare_digest(_digest(password, entry.salt), entry.digest)
        return entry.user if is_right and entry is not self._nobody else None

    def find(self, name: str) -> User | None:
        """The user of that name, for callers that have proved themselves otherwise (Web Service SDK)."""
        entry = self._entries.get(name.casefold())
        return None if entry is None else entry.user


def _entry(user: User) -> _Entry:
    salt = os.urandom(_SALT_BYTES)
    return _Entry(user, salt, _digest(user.password, salt))


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=8, p=1)
