"""The pin of a browser session: a cookie of our own, which carries the pin inside itself.

    base64url( key id (4) | nonce (12) | AES-256-GCM( issued (4) | used (4) | backend name (64) ) | tag (16) )

The pool's name is bound in as associated data, so a cookie of one pool says nothing to another. Times are whole seconds
of wall-clock time, because the cookie must mean the same on every node and after a restart. No store is needed at all.
Nothing about the backend can be read out of it: an unsalted hash or base64 of an address can (HTTP facts, section 2.5).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 12
_NAME_BYTES: Final = 64  # every name is padded to the longest there may be: a cookie's length names nobody
_KEY_ID_BYTES: Final = 4
_TIMES: Final = struct.Struct(">II")
_VALUE_LIMIT: Final = 1024  # a longer value cannot be ours, and is not worth decoding
_FUTURE_LIMIT_S: Final = 86_400.0  # a clock further ahead than a day is wrong, not early


class CookieFinding(Enum):
    """What a request's cookie was; the letters follow HAProxy's third (request cookie) letter."""

    NONE = "N"
    INVALID = "I"
    VALID = "V"
    EXPIRED = "E"
    OLD = "O"
    DOWN = "D"


@dataclass(frozen=True, slots=True)
class CookiePin:
    """What a cookie of ours says: the backend, when the session began and when it was last used (unix seconds)."""

    backend: str
    issued_at: int
    used_at: int


@dataclass(frozen=True, slots=True)
class CookieLife:
    """How long a cookie counts: since its last use, and since its session began. Seconds."""

    idle_s: float
    max_s: float

    def judge(self, pin: CookiePin, now: float) -> CookieFinding:
        """VALID, EXPIRED (idle for too long), OLD (its session is), INVALID (a wrong clock's). `now`: unix seconds."""
        if pin.used_at > now + _FUTURE_LIMIT_S:
            return CookieFinding.INVALID
        if now - pin.used_at > self.idle_s:
            return CookieFinding.EXPIRED
        if now - pin.issued_at > self.max_s:
            return CookieFinding.OLD
        return CookieFinding.VALID


class CookieSealer:
    """Makes and opens cookies. The first key of the ring seals, every key opens, so keys can be rotated."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("a cookie sealer needs at least one key")
        self._ring = {sha256(b"mfalb cookie key id" + key).digest()[:_KEY_ID_BYTES]: AESGCM(key) for key in keys}
        self._current = next(iter(self._ring))

    def seal(self, pool: str, pin: CookiePin, nonce: bytes) -> str:
        """The cookie's value. `nonce` is 12 random bytes that were never used before with this key."""
        text = _TIMES.pack(pin.issued_at, pin.used_at) + pin.backend.encode().ljust(_NAME_BYTES, b"\0")
        sealed = self._ring[self._current].encrypt(nonce, text, pool.encode())
        return base64.urlsafe_b64encode(self._current + nonce + sealed).rstrip(b"=").decode("ascii")

    def open_untrusted(self, pool: str, value: bytes) -> CookiePin | None:
        """What a cookie says; None for one that this ring did not seal for this pool.

        A forged or foreign cookie is no error: its user is balanced anew. Whether an honest one still counts is
        `CookieLife.judge`'s question.
        """
        if len(value) > _VALUE_LIMIT:
            return None
        try:
            raw = base64.b64decode(value + b"=" * (-len(value) % 4), altchars=b"-_", validate=True)
        except ValueError:
            return None
        key = self._ring.get(raw[:_KEY_ID_BYTES])
        nonce = raw[_KEY_ID_BYTES : _KEY_ID_BYTES + NONCE_BYTES]
        if key is None or len(nonce) != NONCE_BYTES or base64.urlsafe_b64encode(raw).rstrip(b"=") != value:
            return None  # the last comparison: base64 has several spellings for the same bytes, and we wrote one
        try:
            text = key.decrypt(nonce, raw[_KEY_ID_BYTES + NONCE_BYTES :], pool.encode())
        except InvalidTag:
            return None
        issued_at, used_at = _TIMES.unpack_from(text)
        return CookiePin(text[_TIMES.size :].rstrip(b"\0").decode(), issued_at, used_at)
