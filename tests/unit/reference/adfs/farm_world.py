"""A farm of two nodes without sockets, with a token certificate of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from unit.reference.fake_sdk import FakeSdk

from mfalb.reference.adfs.app import AdfsNode, Farm
from mfalb.reference.adfs.farm import FarmKey
from mfalb.reference.adfs.tokens import TokenSigner
from mfalb.reference.adfs.trusts import Trusts
from mfalb.reference.config.adfs import RelyingPartyTrust

ISSUER = "https://adfs.example/adfs"
CLIENT_ID = "expenses"
REDIRECT_URI = "https://app.example:8443/token"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def certificate_of(key: Key) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "token signing")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


def signer_of(key: Key) -> TokenSigner:
    return TokenSigner(certificate_of(key), key)


def write_pair(directory: Path, certificate: x509.Certificate, key: Key) -> tuple[str, str]:
    """The files that settings name."""
    files = directory / "token.pem", directory / "token.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return str(files[0]), str(files[1])


class FarmWorld:
    """The farm, its clock and its SDK."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.sdk = FakeSdk()
        self.signer = signer_of(ec.generate_private_key(ec.SECP256R1()))
        trusts = Trusts([RelyingPartyTrust(CLIENT_ID, (REDIRECT_URI,))])
        self.farm = Farm(ISSUER, FarmKey(bytes(range(32))), self.signer, trusts, 300)

    def node(self, name: str) -> AdfsNode:
        return AdfsNode(name, self.farm, self.sdk.client(), lambda: self.now)
