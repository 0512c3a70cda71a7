from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from mfalb.reference.certificates import Authority


def test_each_server_has_a_certificate_in_its_name_that_its_peers_believe(tmp_path: Path) -> None:
    authority = Authority("replication group")
    issued = authority.issue("mfa1", ("127.0.0.1", "::1", "mfa1.contoso.com"))
    certificate = x509.load_pem_x509_certificate(issued.cert)
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "mfa1"
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.ca))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mfa1.contoso.com"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    cert, key, ca = tmp_path / "tls/mfa1.crt", tmp_path / "tls/mfa1.key", tmp_path / "tls/ca.pem"
    issued.write(cert, key)
    authority.write_ca(ca)
    ssl.create_default_context(cafile=str(ca)).load_cert_chain(cert, key)
    assert (stat.S_IMODE(key.stat().st_mode), stat.S_IMODE(key.parent.stat().st_mode)) == (0o600, 0o700)


def test_another_authority_s_certificates_are_not_its_own() -> None:
    certificate = x509.load_pem_x509_certificate(Authority("one").issue("mfa1").cert)
    with pytest.raises(ValueError, match="Issuer"):
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(Authority("other").ca))


def test_a_key_is_not_shown() -> None:
    issued = Authority("one").issue("mfa1")
    assert "PRIVATE KEY" not in repr(issued)
