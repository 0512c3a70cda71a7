"""User PINs, kept as scrypt hashes: what was stolen with the file still has to be guessed, 16 MiB a guess."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import Final

_SALT_BYTES: Final = 16
_COST: Final = 2**14  # 16 MiB, some 40 ms
_MEMORY_LIMIT: Final = 64 * 1024 * 1024
SHORTEST: Final = 4
LONGEST: Final = 16


@dataclass(frozen=True, slots=True)
class PinHash:
    """A user PIN's hash."""

    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)


# Compared against where there is no user PIN, so that it takes as long as a wrong one
_NOBODY: Final = PinHash(os.urandom(_SALT_BYTES), os.urandom(32))


def hash_pin(pin: str) -> PinHash:
    """The hash of a new user PIN. Blocks for the time that it costs."""
    salt = os.urandom(_SALT_BYTES)
    return PinHash(salt, _digest(pin, salt))


def is_pin(pin: str, kept: PinHash | None) -> bool:
    """Whether this is the user PIN; takes as long for None, which has none. Blocks for the time that it costs."""
    against = _NOBODY if kept is None else kept
    return hmac.compare_digest(_digest(pin, against.salt), against.digest) and kept is not None


def is_possible(pin: str) -> bool:
    """Digits only, as a phone has them, and neither too few nor too many."""
    return pin.isascii() and pin.isdigit() and SHORTEST <= len(pin) <= LONGEST


def _digest(pin: str, salt: bytes) -> bytes:
    return hashlib.scrypt(pin.encode(), salt=salt, n=_COST, r=8, p=1, maxmem=_MEMORY_LIMIT, dklen=32)
