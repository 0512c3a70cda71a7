"""Passwords as a settings file may hold them instead of the password itself: hashes."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import Final, Self

SALT_BYTES: Final = 16
DIGEST_BYTES: Final = 64
NT_HASH_BYTES: Final = 16
PASSWORD_COST: Final = 2**12  # 4 MiB and about 10 ms: this is an estate for trying things, on small machines too


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A password's scrypt hash (r = 8, p = 1): salt and digest in hexadecimal, and scrypt's n.

    `mfalb reference hash-password` makes one. It has one length and one cost: were there others, the time of a refusal
    would tell who has which, and that an unknown name is one.
    """

    salt: str = field(repr=False)
    digest: str = field(repr=False)
    cost: int = PASSWORD_COST

    def __post_init__(self) -> None:
        """Raises ValueError, which shows no value, for what the directory would not have made."""
        check_hexadecimal("salt", self.salt, SALT_BYTES)
        check_hexadecimal("digest", self.digest, DIGEST_BYTES)
        if self.cost != PASSWORD_COST:
            raise ValueError(f"cost: only {PASSWORD_COST} is taken, so that all passwords take alike to check")

    @classmethod
    def of(cls, password: str) -> Self:
        """The hash of a password, with a salt of its own. Blocks for the time that it costs."""
        salt = os.urandom(SALT_BYTES)
        return cls(salt.hex(), scrypt_digest(password, salt).hex())


def scrypt_digest(password: str, salt: bytes) -> bytes:
    """The hash of a password. Blocks for the time that it costs."""
    return hashlib.scrypt(password.encode(), salt=salt, n=PASSWORD_COST, r=8, p=1, dklen=DIGEST_BYTES)


def check_hexadecimal(setting: str, text: str, length_bytes: int) -> None:
    """Raises ValueError, which does not show the text, for what is not that many bytes in hexadecimal."""
    if re.fullmatch(f"[0-9a-fA-F]{{{2 * length_bytes}}}", text) is None:
        raise ValueError(f"{setting}: {2 * length_bytes} hexadecimal digits are wanted")
