from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mfalb.reference.relying_party.checks import TokenChecker, TokenRefused, UnknownKey, Visitor

ISSUER, CLIENT_ID, NOW = "https://adfs.example/adfs", "expenses", 1_700_000_000
KEY = rsa.generate_private_key(65537, 2048)
OTHER = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, Any] = {
    "keys": [
        {**jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "k1", "alg": "RS256"},
        {**jwt.algorithms.ECAlgorithm.to_jwk(OTHER.public_key(), as_dict=True), "kid": "k2", "alg": "ES256"},
    ]
}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": CLIENT_ID,
    "sub": "alice",
    "nonce": "n",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 300,
    "jti": "id-1",
}


def signed(algorithm: str = "RS256", key: Any = KEY, key_id: str = "k1", **changes: Any) -> str:
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": key_id})


def check(token: str, now: float = NOW, nonce: str = "n") -> Visitor:
    return TokenChecker(ISSUER, CLIENT_ID, lambda: now).check_untrusted(token, KEYS, nonce)


@pytest.mark.parametrize("token", [signed(), signed("ES256", OTHER, "k2")])
def test_a_token_of_the_farm_is_believed(token: str) -> None:
    assert check(token) == Visitor("alice", "id-1")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://evil.example"}, "InvalidIssuerError"),
        ({"aud": "another"}, "InvalidAudienceError"),
        ({"nonce": "another"}, "nonce"),
        ({"exp": NOW - 31}, "expired"),
        ({"nbf": NOW + 31}, "not_yet"),
        ({"iat": NOW + 31}, "not_yet"),
        ({"exp": NOW + 3601}, "lives_too_long"),
        *(({name: None}, "MissingRequiredClaimError") for name in CLAIMS),
    ],
)
def test_a_token_with_a_claim_that_is_wrong_or_missing_is_not(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        check(signed(**changes))
    assert caught.value.reason == reason


def unsigned() -> str:
    return jwt.encode(CLAIMS, "", algorithm="none", headers={"kid": "k1"})


def signed_with_the_public_key_as_a_secret() -> str:
    """By hand, since no library would help with it."""
    public = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = signed().split(".")[1]
    head = urlsafe_b64encode(b'{"alg": "HS256", "typ": "JWT", "kid": "k1"}').rstrip(b"=").decode()
    mac = hmac.digest(public, f"{head}.{claims}".encode(), "sha256")
    return f"{head}.{claims}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "token",
    [
        unsigned(),
        signed_with_the_public_key_as_a_secret(),
        signed("ES256", OTHER, "k1"),
        signed(key=rsa.generate_private_key(65537, 2048)),
        signed()[:-8] + "AAAAAAAA",
        "",
        "a.b.c",
        "x" * 10_000,
        "é.é.é",
    ],
)
def test_a_token_that_the_farm_has_not_signed_is_not(token: str) -> None:
    with pytest.raises(TokenRefused):
        check(token)


def test_a_key_that_is_not_known_is_told_apart_since_the_farm_may_have_a_new_one() -> None:
    with pytest.raises(UnknownKey):
        check(signed(key_id="k9"))


def test_a_token_is_believed_once() -> None:
    checker = TokenChecker(ISSUER, CLIENT_ID, lambda: NOW)
    assert checker.check_untrusted(signed(), KEYS, "n")
    with pytest.raises(TokenRefused, match="shown_before"):
        checker.check_untrusted(signed(), KEYS, "n")


@pytest.mark.parametrize("keys", [{}, {"keys": []}, {"keys": [{"kty": "?"}]}])
def test_a_key_set_that_is_none_makes_no_token_good(keys: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        TokenChecker(ISSUER, CLIENT_ID, lambda: NOW).check_untrusted(signed(), keys, "n")
