"""The embedded directory: users and their passwords, kept as scrypt hashes.

Beside them it keeps NT hashes, as Active Directory does: MS-CHAPv2 proves knowledge of that hash, and nothing slower or
salted can check it. They are in this process's memory only. Who wants none of them uses an LDAP directory, and PAP.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from Crypto.Hash import MD4

from mfalb.reference.config.values import User
from mfalb.reference.threads import HASHING

_SALT_BYTES: Final = 16
_COST: Final = 2**12  # 4 MiB and about 10 ms: this is an estate for trying things, on small machines too

Digest = Callable[[str, bytes], bytes]


@dataclass(frozen=True, slots=True)
class _Entry:
    user: User
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    nt_hash: bytes = field(repr=False)


class PasswordCheck(Protocol):
    """What primary authentication needs of a directory."""

    async def check(self, name: str, password: str) -> User | None: ...


class Directory:
    """Users by name, without regard to case."""

    def __init__(self, users: Sequence[User], digest: Digest | None = None) -> None:
        """`digest` hashes a password with a salt, slowly: scrypt, unless a test wants to look on. Blocks."""
        self._digest = digest or scrypt_digest
        self._entries = {user.name.casefold(): self._entry(user) for user in users}
        # Compared against for a name that does not exist, so that it takes as long as a wrong password
        self._nobody = self._entry(User("", os.urandom(_SALT_BYTES).hex(), ""))

    def _entry(self, user: User) -> _Entry:
        salt = os.urandom(_SALT_BYTES)
        return _Entry(user, salt, self._digest(user.password, salt), nt_hash(user.password))

    async def check(self, name: str, password: str) -> User | None:
        """The user whose password this is, or None: for a wrong password and an unknown name alike, in like time."""
        entry = self._entries.get(name.casefold(), self._nobody)
        digest = await HASHING.run(self._digest, password, entry.salt)
        is_right = hmac.compare_digest(digest, entry.digest)
        return entry.user if is_right and entry is not self._nobody else None

    def check_nt_hash(self, name: str, is_right: Callable[[bytes], bool]) -> User | None:
        """The user whose NT hash is the right one, or None; the hash of nobody is asked about as well."""
        entry = self._entries.get(name.casefold(), self._nobody)
        return entry.user if is_right(entry.nt_hash) and entry is not self._nobody else None

    def find(self, name: str) -> User | None:
        """The user of that name, for callers that have proved themselves otherwise (Web Service SDK)."""
        entry = self._entries.get(name.casefold())
        return None if entry is None else entry.user


def scrypt_digest(password: str, salt: bytes) -> bytes:
    """The hash of a password. Blocks for the time that it costs."""
    return hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=8, p=1)


def nt_hash(password: str) -> bytes:
    """MD4 of the password in UTF-16 (RFC 2759 section 8.3)."""
    return MD4.new(password.encode("utf-16-le", "surrogatepass")).digest()  # noqa: S303 - the protocol's own
