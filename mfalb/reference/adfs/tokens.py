"""The tokens that the farm signs, and the public keys that they are checked with."""

from __future__ import annotations

import hashlib
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

_RSA_BITS: Final = 2048
_SKEW_S: Final = 60  # a relying party's clock may be so much behind


@dataclass(frozen=True, slots=True)
class Subject:
    """Who was signed in, for whom."""

    user: str
    client_id: str
    nonce: str = field(repr=False)


class TokenSigner:
    """Signs with the farm's token certificate: RS256 for an RSA key, ES256 for one on P-256."""

    def __init__(self, certificate: x509.Certificate, key: RSAPrivateKey | EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key
        self.algorithm: Final = "RS256" if isinstance(key, RSAPrivateKey) else "ES256"
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
        self.key_id: Final = urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")

    @classmethod
    def of_files(cls, certificate_file: str, key_file: str) -> Self:
        """Raises OSError, and ValueError for files that are no such certificate and its key."""
        certificate = x509.load_pem_x509_certificate(Path(certificate_file).read_bytes())
        key = load_pem_private_key(Path(key_file).read_bytes(), None)
        if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
            raise ValueError("tokens are signed with an RSA key or one on P-256")  # noqa: TRY004 - the file's fault
        if isinstance(key, RSAPrivateKey) and key.key_size < _RSA_BITS:
            raise ValueError(f"an RSA key for tokens has {_RSA_BITS} bits at least")
        if isinstance(key, EllipticCurvePrivateKey) and not isinstance(key.curve, SECP256R1):
            raise ValueError("an elliptic key for tokens is on P-256")  # noqa: TRY004 - the file's fault
        if key.public_key() != certificate.public_key():
            raise ValueError("the key for tokens is not that of the certificate")
        return cls(certificate, key)

    def token(self, issuer: str, subject: Subject, times: tuple[int, int], token_id: str) -> str:
        """An id_token (OpenID Connect Core, section 2). `times` are now and its life, in seconds."""
        now, life_s = times
        claims = {
            "iss": issuer,
            "aud": subject.client_id,
            "sub": subject.user,
            "upn": subject.user,
            "nonce": subject.nonce,
            "iat": now,
            "nbf": now - _SKEW_S,
            "exp": now + life_s,
            "jti": token_id,
            "amr": ["pwd", "mfa"],  # RFC 8176
        }
        return jwt.encode(claims, self._key, algorithm=self.algorithm, headers={"kid": self.key_id})

    def key_set(self) -> dict[str, Any]:
        """The JSON Web Key Set (RFC 7517) of the farm."""
        public = self._certificate.public_key()
        if isinstance(public, RSAPublicKey):
            key = RSAAlgorithm.to_jwk(public, as_dict=True)
        else:
            assert isinstance(public, EllipticCurvePublicKey)  # noqa: S101 - of_files has seen to it
            key = ECAlgorithm.to_jwk(public, as_dict=True)
        chain = [b64encode(self._certificate.public_bytes(Encoding.DER)).decode("ascii")]
        return {"keys": [{**key, "use": "sig", "alg": self.algorithm, "kid": self.key_id, "x5c": chain}]}
