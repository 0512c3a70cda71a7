from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from unit.reference.adfs.farm_world import CLIENT_ID, ISSUER, Key, certificate_of, signer_of, write_pair

from mfalb.reference.adfs.tokens import Subject, TokenSigner

KEYS: dict[str, Key] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_token_is_checked_with_the_published_key(algorithm: str) -> None:
    signer = signer_of(KEYS[algorithm])
    token = signer.token(ISSUER, Subject("alice", CLIENT_ID, "n"), (1_700_000_000, 300), "id-1")
    (published,) = jwt.PyJWKSet.from_dict(signer.key_set()).keys
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": published.key_id, "typ": "JWT"}
    claims = jwt.decode(token, published, [algorithm], audience=CLIENT_ID, options={"verify_exp": False})
    assert claims == {
        "iss": ISSUER,
        "aud": CLIENT_ID,
        "sub": "alice",
        "upn": "alice",
        "nonce": "n",
        "iat": 1_700_000_000,
        "nbf": 1_700_000_000 - 60,
        "exp": 1_700_000_300,
        "jti": "id-1",
        "amr": ["pwd", "mfa"],
    }


@pytest.mark.parametrize("algorithm", KEYS)
def test_the_key_set_holds_public_numbers_only(algorithm: str) -> None:
    (key,) = signer_of(KEYS[algorithm]).key_set()["keys"]
    assert not {"d", "p", "q", "dp", "dq", "qi"} & set(key)
    assert (key["use"], key["alg"]) == ("sig", algorithm)


@pytest.mark.parametrize("algorithm", KEYS)
def test_certificate_and_key_come_from_files(algorithm: str, tmp_path: Path) -> None:
    key = KEYS[algorithm]
    assert TokenSigner.of_files(*write_pair(tmp_path, certificate_of(key), key)).algorithm == algorithm


@pytest.mark.parametrize(
    ("owner", "key", "reason"),
    [
        (KEYS["RS256"], KEYS["ES256"], "not that of the certificate"),
        (KEYS["ES256"], ec.generate_private_key(ec.SECP384R1()), "on P-256"),
        (KEYS["RS256"], rsa.generate_private_key(65537, 1024), "2048 bits"),  # noqa: S505 - the one that is refused
    ],
)
def test_a_key_that_will_not_do_is_refused_at_the_start(owner: Key, key: Key, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        TokenSigner.of_files(*write_pair(tmp_path, certificate_of(owner), key))
