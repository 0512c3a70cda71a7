"""Whether a token may be believed.

Core, but for the key set, which whoever calls has fetched: signature (by the algorithms that we chose, not the token),
issuer, audience, time, nonce, and that it is shown for the first time.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cachetools import TLRUCache

_ALGORITHMS: Final = ("ES256", "RS256")  # public keys only: HS256 would take the farm's public key for a secret
_REQUIRED: Final = ("iss", "aud", "sub", "nonce", "iat", "nbf", "exp", "jti")
_TOKEN_LIMIT: Final = 8192  # characters
_LEEWAY_S: Final = 30
_SEEN_LIMIT: Final = 10_000  # when full, the oldest is forgotten; it has to be shown with its browser's cookie anyway
_LONGEST_LIFE_S: Final = 3600.0


class TokenRefused(Exception):  # noqa: N818 - says what happened
    """The token may not be believed; `reason` is a short log label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownKey(TokenRefused):
    """The token names a key that is not in the key set: the farm may have a new one."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who the token says has come."""

    user: str
    token_id: str = field(repr=False)


class TokenChecker:
    """The checks of one application. `unix_time` gives seconds."""

    def __init__(self, issuer: str, client_id: str, unix_time: Callable[[], float]) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._seen: TLRUCache[str, bool] = TLRUCache(
            _SEEN_LIMIT, lambda _id, _seen, now: now + _LONGEST_LIFE_S + 2 * _LEEWAY_S, timer=unix_time
        )
        self._unix_time = unix_time

    def check_untrusted(self, token: str, key_set: dict[str, Any], nonce: str) -> Visitor:
        """Who has come. Raises TokenRefused, and UnknownKey for a key that is not in `key_set`."""
        if len(token) > _TOKEN_LIMIT:
            raise TokenRefused("too_long")
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            claims = jwt.decode(
                token,
                _key(key_set, key_id),
                algorithms=_ALGORITHMS,
                audience=self._client_id,
                issuer=self._issuer,
                options={"require": list(_REQUIRED), "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.PyJWTError as error:
            raise TokenRefused(type(error).__name__) from None
        self._check_times(claims)
        if not hmac.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
            raise TokenRefused("nonce")
        token_id = str(claims["jti"])
        if token_id in self._seen:
            raise TokenRefused("shown_before")
        self._seen[token_id] = True
        return Visitor(str(claims["sub"]), token_id)

    def _check_times(self, claims: dict[str, Any]) -> None:
        """By the clock that we were given, which the library does not know."""
        issued, begins, ends = claims["iat"], claims["nbf"], claims["exp"]
        if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in (issued, begins, ends)):
            raise TokenRefused("times")
        now = self._unix_time()
        if now > ends + _LEEWAY_S:
            raise TokenRefused("expired")
        if now < begins - _LEEWAY_S or now < issued - _LEEWAY_S:
            raise TokenRefused("not_yet")
        if ends - issued > _LONGEST_LIFE_S:
            raise TokenRefused("lives_too_long")


def _key(key_set: dict[str, Any], key_id: object) -> jwt.PyJWK:
    """The key of that id. Raises UnknownKey, and jwt.PyJWTError for a key set that is none."""
    for key in jwt.PyJWKSet.from_dict(key_set).keys:
        if isinstance(key_id, str) and key.key_id == key_id:
            return key
    raise UnknownKey("unknown_key")
