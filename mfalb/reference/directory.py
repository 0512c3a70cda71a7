"""The embedded directory: users and their passwords, kept as scrypt hashes.

Beside them it keeps NT hashes, as Active Directory does: MS-CHAPv2 proves knowledge of that hash, and nothing slower or
salted can check it. Those made of passwords are in this process's memory only. Who wants none of them gives scrypt
hashes alone, or uses an LDAP directory, and PAP.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from Crypto.Hash import MD4

from mfalb.reference.config.passwords import SALT_BYTES, scrypt_digest
from mfalb.reference.config.values import User
from mfalb.reference.threads import HASHING

Digest = Callable[[str, bytes], bytes]


@dataclass(frozen=True, slots=True)
class _Entry:
    user: User
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    nt_hash: bytes | None = field(repr=False)  # None: it could not be had, and MS-CHAPv2 is refused


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
        self._nobody = self._entry(User("", os.urandom(SALT_BYTES).hex(), ""))
        self._nobodys_nt_hash = os.urandom(16)

    def _entry(self, user: User) -> _Entry:
        kept = user.password_hash
        if kept is not None:
            given = None if user.nt_hash is None else bytes.fromhex(user.nt_hash)
            return _Entry(user, bytes.fromhex(kept.salt), bytes.fromhex(kept.digest), given)
        salt = os.urandom(SALT_BYTES)
        return _Entry(user, salt, self._digest(user.password, salt), nt_hash(user.password))

    async def check(self, name: str, password: str) -> User | None:
        """The user whose password this is, or None: for a wrong password and an unknown name alike, in like time."""
        entry = self._entries.get(name.casefold(), self._nobody)
        digest = await HASHING.run(self._digest, password, entry.salt)
        is_right = hmac.compare_digest(digest, entry.digest)
        return entry.user if is_right and entry is not self._nobody else None

    def check_nt_hash(self, name: str, is_right: Callable[[bytes], bool]) -> User | None:
        """The user whose NT hash is the right one, or None; where there is none, a hash of nobody is asked about."""
        entry = self._entries.get(name.casefold())
        kept = None if entry is None else entry.nt_hash
        is_proved = is_right(self._nobodys_nt_hash if kept is None else kept)
        return entry.user if is_proved and entry is not None and kept is not None else None

    def find(self, name: str) -> User | None:
        """The user of that name, for callers that have proved themselves otherwise (Web Service SDK)."""
        entry = self._entries.get(name.casefold())
        return None if entry is None else entry.user


def nt_hash(password: str) -> bytes:
    """MD4 of the password in UTF-16 (RFC 2759 section 8.3)."""
    return MD4.new(password.encode("utf-16-le", "surrogatepass")).digest()  # noqa: S303 - the protocol's own
