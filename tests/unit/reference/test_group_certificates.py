from __future__ import annotations

import ssl
import stat
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from mfalb.reference.group_certificates import GroupAuthority


def test_each_server_has_a_certificate_in_its_name_that_its_peers_believe(tmp_path: Path) -> None:
    authority = GroupAuthority(tmp_path / "group")
    files = authority.issue("mfa1", ("127.0.0.1", "::1"))
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "mfa1"
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.ca.read_bytes()))
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.load_cert_chain(files.cert, files.key)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600


def test_the_authority_s_own_key_is_nowhere(tmp_path: Path) -> None:
    authority = GroupAuthority(tmp_path / "group")
    authority.issue("mfa1", ("127.0.0.1",))
    assert sorted(path.name for path in (tmp_path / "group").iterdir()) == ["ca.pem", "mfa1.key", "mfa1.pem"]
