import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from mfalb.balancer.config.tls_models import IdentityHeaders
from mfalb.balancer.listeners.client_identity import dn_text, escaped_pem, identity_lines

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def certificate(common_name: str, organization: str = "Contoso") -> x509.Certificate:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the authority")])
    builder = x509.CertificateBuilder(issuer, subject, KEY.public_key(), 0xABC123, BEGIN, BEGIN + timedelta(9))
    return builder.sign(KEY, hashes.SHA256())


def fields(lines: bytes) -> dict[str, str]:
    """The header fields, read as strictly as a backend might."""
    assert lines == b"" or lines.endswith(b"\r\n")
    found = dict(line.split(": ", 1) for line in lines.decode("ascii").split("\r\n")[:-1])
    assert all(value.isprintable() for value in found.values())
    return found


def test_a_verified_certificate_is_told_in_six_lines() -> None:
    alice = certificate("alice")
    der = alice.public_bytes(Encoding.DER)
    found = fields(identity_lines(der, IdentityHeaders()))
    assert unquote(found.pop("X-SSL-Client-Cert")).encode() == alice.public_bytes(Encoding.PEM)
    assert found == {
        "X-SSL-Client-Verify": "SUCCESS",
        "X-SSL-Client-S-DN": "CN=alice,O=Contoso",
        "X-SSL-Client-I-DN": "CN=the authority",
        "X-SSL-Client-Serial": "ABC123",
        "X-SSL-Client-SHA256": hashlib.sha256(der).hexdigest(),
    }


def test_a_name_that_cannot_be_read_has_no_line_and_the_others_have() -> None:
    der = certificate("alice").public_bytes(Encoding.DER)
    der = der.replace(b"\x55\x04\x0a\x0c", b"\x55\x04\x0a\x03")  # the organization is no text, but a bit string
    found = fields(identity_lines(der, IdentityHeaders()))
    assert "X-SSL-Client-S-DN" not in found
    assert found["X-SSL-Client-I-DN"] == "CN=the authority"


def test_without_a_certificate_only_that_is_told() -> None:
    assert identity_lines(None, IdentityHeaders()) == b"X-SSL-Client-Verify: NONE\r\n"


def test_names_are_the_operator_s_choice_and_null_leaves_one_out() -> None:
    headers = IdentityHeaders(
        verify="X-Ok", certificate=None, subject="X-Who", issuer=None, serial=None, fingerprint=None
    )
    der = certificate("alice").public_bytes(Encoding.DER)
    assert identity_lines(der, headers) == b"X-Ok: SUCCESS\r\nX-Who: CN=alice,O=Contoso\r\n"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16))
def test_nothing_in_a_name_ends_its_line(name: str) -> None:
    der = certificate(name, name).public_bytes(Encoding.DER)
    assert len(fields(identity_lines(der, IdentityHeaders()))) == 6


def test_a_name_is_written_as_openssl_writes_it(tmp_path: Path) -> None:
    odd = certificate('a,b+c"d\\e<f>;g=é\r\nX: y')
    (tmp_path / "odd.pem").write_bytes(odd.public_bytes(Encoding.PEM))
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(tmp_path / "odd.pem"), "-noout", "-subject", "-nameopt", "RFC2253"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert dn_text(odd.subject).replace("\\=", "=") == shown.removeprefix("subject=").strip()


@pytest.mark.parametrize("der", [b"", b"\x30\x03\x02\x01\x01", b"\xff" * 300])
def test_what_cannot_be_read_is_told_as_it_is(der: bytes) -> None:
    found = fields(identity_lines(der, IdentityHeaders()))
    assert set(found) == {"X-SSL-Client-Verify", "X-SSL-Client-Cert", "X-SSL-Client-SHA256"}


DER = certificate("alice", "Contoso é").public_bytes(Encoding.DER)


@given(st.data())
def test_a_certificate_with_changed_bytes_makes_whole_lines(data: st.DataObject) -> None:
    changed = bytearray(DER)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(DER) - 1))] = data.draw(st.integers(0, 255))
    assert {"X-SSL-Client-Verify", "X-SSL-Client-SHA256"} < set(
        fields(identity_lines(bytes(changed), IdentityHeaders()))
    )


def test_the_certificate_s_pem_has_nothing_that_a_header_could_not_hold() -> None:
    text = escaped_pem(bytes(range(256)))
    assert text.startswith("-----BEGIN%20CERTIFICATE-----%0A")
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-%")
