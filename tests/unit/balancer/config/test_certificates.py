from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from programs.certificates import Authority, make_certificate
from unit.balancer.config.config_folder import Folder

TEXT = """\
listeners:
  - name: web
    protocol: https
    bind: ["127.0.0.1:8443"]
    tls: {certificates: [{cert: CERT, key: KEY}]}
    routes: [{pool: web}]
pools:
  web:
    backends: [{name: a, address: "10.0.0.1:443"}]
    health_check: {type: http}
    upstream_tls: {ca: CA}
"""
NO_CERTIFICATE = "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
NO_KEY = "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)"


@dataclass(frozen=True, slots=True)
class _Pem:
    cert: bytes
    key: bytes
    ca: bytes
    protected: bytes


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> _Pem:
    files = make_certificate(tmp_path_factory.mktemp("tls"), "mfa.contoso.com")
    protected = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    return _Pem(files.cert.read_bytes(), files.key.read_bytes(), files.ca.read_bytes(), protected)


@pytest.fixture
def tls_folder(folder: Folder, pem: _Pem) -> Folder:
    folder.write("web.crt", pem.cert, mode=0o644)
    folder.write("web.key", pem.key)
    folder.write("open.key", pem.key, mode=0o644)
    folder.write("ca.pem", pem.ca, mode=0o644)
    folder.write("protected.key", pem.protected)
    folder.write("garbage", "hello")
    folder.write("twice.crt", pem.cert + pem.ca, mode=0o644)
    folder.write("turned.crt", pem.ca + pem.cert, mode=0o644)
    return folder


def text(cert: str = "web.crt", key: str = "web.key", ca: str = "ca.pem") -> str:
    return TEXT.replace("CERT,", f"{cert},").replace("KEY}", f"{key}}}").replace("CA}", f"{ca}}}")


@pytest.mark.parametrize("cert", ["web.crt", "twice.crt"])
def test_a_matching_pair_is_fine_with_and_without_a_chain(tls_folder: Folder, cert: str) -> None:
    config, findings = tls_folder.read(text(cert))
    assert findings == []
    assert config is not None
    upstream_tls = config.pools["web"].upstream_tls
    assert upstream_tls is not None
    assert upstream_tls.ca == Path(tls_folder.path / "ca.pem")


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        (text(cert="»nope.crt"), "error: cert: cannot read '{folder}/nope.crt': no such file or directory"),
        (text(key="»nope.key"), "error: key: cannot read '{folder}/nope.key': no such file or directory"),
        (text(ca="»nope.pem"), "error: ca: cannot read '{folder}/nope.pem': no such file or directory"),
        (text(ca="».."), "error: ca: cannot read '{folder}/..': it is no regular file"),
        (text(cert="»garbage"), f"error: cert: '{{folder}}/garbage' {NO_CERTIFICATE}"),
        (text(cert="»web.key"), f"error: cert: '{{folder}}/web.key' {NO_CERTIFICATE}"),
        (text(ca="»garbage"), f"error: ca: '{{folder}}/garbage' {NO_CERTIFICATE}"),
        (text(key="»garbage"), f"error: key: '{{folder}}/garbage' {NO_KEY}"),
        (
            text(key="»protected.key"),
            "error: key: '{folder}/protected.key' is protected by a passphrase; store the key without one",
        ),
        (
            text(cert="turned.crt", key="»web.key"),
            (
                "error: key: '{folder}/web.key' is not the key of '{folder}/turned.crt'; whose key it is "
                "must come first among the certificates in a file"
            ),
        ),
        (
            text(key="»open.key"),
            "warning: key: '{folder}/open.key' is open to every user; run: chmod o-rwx open.key",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_pointed_at(tls_folder: Folder, marked: str, message: str) -> None:
    tls_folder.expect(marked, message.replace("{folder}", str(tls_folder.path)))


@pytest.mark.parametrize(
    ("octets", "mode", "message"),
    [
        (bytes(32), 0o600, None),
        (
            bytes(31),
            0o600,
            "error: ticket_key: '{path}' has fewer than 32 bytes; 'openssl rand -out FILE 48' makes a good one",
        ),
        (bytes(48), 0o644, "warning: ticket_key: '{path}' is open to every user; run: chmod o-rwx ticket.key"),
        (None, 0, "error: ticket_key: cannot read '{path}': no such file or directory"),
    ],
)
def test_a_ticket_key_is_a_secret_of_some_length(
    tls_folder: Folder, octets: bytes | None, mode: int, message: str | None
) -> None:
    if octets is not None:
        tls_folder.write("ticket.key", octets, mode=mode)
    marked = text().replace("tls: {certificates", "tls: {ticket_key: »ticket.key, certificates")
    if message is None:
        assert tls_folder.read(marked.replace("»", ""))[1] == []
    else:
        tls_folder.expect(marked, message.format(path=tls_folder.path / "ticket.key"))


def test_a_certificate_that_the_tls_library_refuses_is_pointed_at(tls_folder: Folder) -> None:
    tls_folder.write("weak.crt", _weak_certificate(tls_folder.path))
    tls_folder.expect(
        text(cert="»weak.crt", key="weak.key"),
        f"error: cert: the TLS library refuses '{tls_folder.path}/weak.crt': ee key too small",
    )


def _weak_certificate(folder: Path) -> bytes:
    """A certificate of a 1024-bit RSA key (written to weak.key), which OpenSSL's default security level refuses."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - weak on purpose
    file = folder / "weak.key"
    file.touch(mode=0o600)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak")])
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin, begin + timedelta(9))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


# ----------------------------------------------------------------------------------------------- in the course of time


def _certificate_that_lives(folder: Path, begin: timedelta, end: timedelta) -> None:
    """Writes timed.crt and timed.key; `begin` and `end` count from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "timed")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now + begin, now + end)
    (folder / "timed.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "timed.key").touch(mode=0o600)
    (folder / "timed.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(
    ("begin_days", "end_days", "message"),
    [
        (-9, -1, "expired on {end}; renew it"),
        (-100, 13, "expires on {end}; renew it"),
        (-100, 15, None),
        (-5, 1, "expires on {end}; renew it"),  # the last fifth of a short life
        (-5, 2, None),
        (1, 90, "is not valid before {begin} UTC"),
    ],
)
@pytest.mark.parametrize("key", ["listener", "pool"])
def test_a_certificate_that_has_to_be_renewed_is_warned_of(
    tls_folder: Folder, begin_days: int, end_days: int, message: str | None, key: str
) -> None:
    begin, end = timedelta(days=begin_days), timedelta(days=end_days)
    _certificate_that_lives(tls_folder.path, begin, end)
    now = datetime.now(UTC)
    words = (message or "").format(end=f"{now + end:%Y-%m-%d}", begin=f"{now + begin:%Y-%m-%d %H:%M}")
    if key == "listener":
        marked = text(cert="»timed.crt", key="timed.key")
    else:
        marked = text(ca="ca.pem, cert: »timed.crt, key: timed.key")
    if message is None:
        assert tls_folder.findings(marked.replace("»", "")) == []
    else:
        tls_folder.expect(marked, f"warning: cert: '{tls_folder.path}/timed.crt' {words}")


def test_authorities_that_have_all_expired_are_warned_of(tls_folder: Folder, pem: _Pem) -> None:
    _certificate_that_lives(tls_folder.path, timedelta(days=-9), timedelta(days=-1))
    said = f"warning: ca: every certificate in '{tls_folder.path}/timed.crt' has expired: nobody will be believed"
    tls_folder.expect(text(ca="»timed.crt"), said)
    tls_folder.write("timed.crt", (tls_folder.path / "timed.crt").read_bytes() + pem.ca)
    assert tls_folder.findings(text(ca="timed.crt")) == []


# ----------------------------------------------------------------------------------------------- clients' certificates


def asking(settings: str) -> str:
    return text().replace("tls: {certificates", f"tls: {{client_certificates: {{{settings}}}, certificates")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("mode: required, ca: clients/ca.pem", None),
        ("mode: optional, ca: clients/ca.pem, crl: clients/crl.pem", None),
        ("mode: required, ca: »nope.pem", "error: ca: cannot read '{}/nope.pem': no such file or directory"),
        ("mode: required, ca: »garbage", f"error: ca: '{{}}/garbage' {NO_CERTIFICATE}"),
        (
            "mode: required, ca: clients/ca.pem, crl: »garbage",
            "error: crl: '{}/garbage' holds no revocation list in PEM form (-----BEGIN X509 CRL-----)",
        ),
        (
            "mode: required, ca: clients/ca.pem, crl: »broken.crl",
            "error: crl: '{}/broken.crl' holds no revocation list in PEM form (-----BEGIN X509 CRL-----)",
        ),
        (
            "mode: required, ca: ca.pem, crl: »clients/crl.pem",
            "warning: crl: '{}/clients/crl.pem' has no list of 'CN=throw-away test authority': its clients are refused",
        ),
        (
            "mode: required, ca: clients/ca.pem, crl: »old.crl",
            "warning: crl: a list in '{}/old.crl' is out of date: the clients of its authority are refused",
        ),
        (
            "mode: »sometimes, ca: clients/ca.pem",
            "error: mode: 'sometimes' is not one of optional, required",
        ),
        (
            "mode: optional, ca: clients/ca.pem, headers: {verify: »Host}",
            "error: verify: 'Host' has a meaning of its own; take another name, for example X-SSL-Client-Cert",
        ),
        (
            "mode: optional, ca: clients/ca.pem, headers: {verify: »X_Verify}",
            "error: verify: 'X_Verify' is no header's name; use 1 to 64 letters, digits and '-'",
        ),
        (
            "mode: optional, ca: clients/ca.pem, headers: »{verify: x-ssl-client-cert}",
            "error: headers: 'x-ssl-client-cert' is named twice; each header tells one thing",
        ),
    ],
)
def test_what_is_asked_of_clients_is_checked(tls_folder: Folder, settings: str, message: str | None) -> None:
    clients = Authority(tls_folder.path / "clients", "the clients' authority")
    clients.revoke(life=timedelta(minutes=-1)).rename(tls_folder.path / "old.crl")
    clients.revoke()
    tls_folder.write("broken.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
    if message is None:
        assert tls_folder.findings(asking(settings)) == []
    else:
        tls_folder.expect(asking(settings), message.format(tls_folder.path))
