import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.net.handshakes import mutual_server, server, shake_both_hands, shake_hands
from unit.net.throw_away_certificates import write_certificate
from unit.no_garbage import leaves_no_garbage

from mfalb.net.tls import ClientFiles, Pair, client_context, dns_names, has_name


def anyone() -> ssl.SSLContext:
    return client_context(ClientFiles(is_verified=False))


def served_name(server: ssl.SSLContext, name: str | None, client: ssl.SSLContext | None = None) -> str:
    """The common name of the certificate that a client gets which asks for `name`."""
    octets = shake_hands(server, client or anyone(), name).getpeercert(binary_form=True)
    assert octets is not None
    subject = x509.load_der_x509_certificate(octets).subject
    return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    return [
        write_certificate(tmp_path, "first", "mfa.contoso.com"),
        write_certificate(tmp_path, "wildcard", "*.Contoso.com", "portal.example.com"),
        write_certificate(tmp_path, "nameless"),
        write_certificate(tmp_path, "second", "mfa.contoso.com", "own.contoso.com"),
    ]


def test_the_names_of_a_certificate_are_its_alternative_names_in_lower_case(pairs: list[Pair]) -> None:
    assert [dns_names(chain) for chain, _ in pairs] == [
        ["mfa.contoso.com"],
        ["*.contoso.com", "portal.example.com"],
        [],
        ["mfa.contoso.com", "own.contoso.com"],
    ]


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_certificate_with_changed_bytes_has_names_or_is_an_error(
    tmp_path: Path, pairs: list[Pair], data: st.DataObject
) -> None:
    """Whatever an operator puts there: the watch over the files goes on."""
    changed = bytearray(ssl.PEM_cert_to_DER_cert(pairs[1][0].read_text()))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    broken = tmp_path / "broken.pem"
    broken.write_text(ssl.DER_cert_to_PEM_cert(bytes(changed)))
    try:
        found = dns_names(broken)
    except ValueError:
        return
    assert all(name == name.lower() for name in found)


def test_a_certificate_that_has_an_extension_twice_is_an_error(tmp_path: Path, pairs: list[Pair]) -> None:
    der = ssl.PEM_cert_to_DER_cert(pairs[0][0].read_text())
    names, basic = bytes.fromhex("0603551d11"), bytes.fromhex("0603551d13")
    assert names in der
    assert basic in der
    twice = tmp_path / "twice.pem"
    twice.write_text(ssl.DER_cert_to_PEM_cert(der.replace(basic, names)))
    with pytest.raises(ValueError, match="contradicts itself"):
        dns_names(twice)


def test_the_first_certificate_of_a_chain_names_the_server(tmp_path: Path, pairs: list[Pair]) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(pairs[3][0].read_bytes() + pairs[1][0].read_bytes())
    assert dns_names(chain) == ["mfa.contoso.com", "own.contoso.com"]


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("mfa.contoso.com", "first"),  # the first one of two that name it
        ("MFA.CONTOSO.COM", "first"),
        ("own.contoso.com", "second"),  # an exact name goes before a wildcard
        ("other.contoso.com", "wildcard"),
        ("portal.example.com", "wildcard"),
        ("a.b.contoso.com", "first"),  # a wildcard stands for one label
        ("contoso.com", "first"),
        ("unknown.example.net", "first"),
        (None, "first"),
    ],
)
def test_a_client_gets_the_certificate_that_its_sni_names(pairs: list[Pair], asked: str | None, served: str) -> None:
    assert served_name(server(pairs), asked) == served


def test_a_single_certificate_serves_every_name(pairs: list[Pair]) -> None:
    context = server(pairs[2:3])
    assert [served_name(context, name) for name in ("x.example.com", None)] == ["nameless", "nameless"]


def test_each_client_gets_the_kind_of_certificate_that_it_can_verify(tmp_path: Path) -> None:
    names = ("mfa.contoso.com", "*.contoso.com")
    context = server(
        [
            write_certificate(tmp_path, "other", "other.example.com"),
            write_certificate(tmp_path, "by ecdsa", *names),
            write_certificate(tmp_path, "by rsa", *names, is_rsa=True),
            write_certificate(tmp_path, "too late", *names, "late.example.com"),
        ]
    )
    for kind in ("ECDSA", "RSA"):
        client = only(ssl.TLSVersion.TLSv1_2)
        client.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        for name in ("MFA.contoso.com", "portal.contoso.com"):
            assert served_name(context, name, client) == f"by {kind.lower()}"
    assert served_name(context, "late.example.com") == "too late"


def test_the_first_certificate_and_its_twin_of_another_kind_serve_unknown_names(tmp_path: Path) -> None:
    context = server(
        [
            write_certificate(tmp_path, "by rsa", "mfa.contoso.com", is_rsa=True),
            write_certificate(tmp_path, "stranger", "portal.contoso.com"),
            write_certificate(tmp_path, "by ecdsa", "mfa.contoso.com"),
        ]
    )
    client = only(ssl.TLSVersion.TLSv1_2)
    for kind in ("ECDSA", "RSA"):
        client.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        for name in ("unknown.example.net", None):
            assert served_name(context, name, client) == f"by {kind.lower()}"


def test_an_encrypted_key_is_an_error_and_no_question_at_the_terminal(tmp_path: Path, pairs: list[Pair]) -> None:
    key = serialization.load_pem_private_key(pairs[0][1].read_bytes(), None)
    form = serialization.PrivateFormat.PKCS8
    pairs[0][1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"x"))
    )
    with pytest.raises(ssl.SSLError):
        server(pairs[:1])


def only(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = anyone()
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken_with_modern_suites_and_http_1_1(pairs: list[Pair], version: ssl.TLSVersion) -> None:
    client = only(version)
    client.set_alpn_protocols(["h2", "http/1.1"])
    end = shake_hands(server(pairs[:2]), client, "portal.example.com")
    cipher = end.cipher()
    assert cipher is not None
    assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]
    assert end.selected_alpn_protocol() == "http/1.1"


def test_suites_without_forward_secrecy_or_authenticated_encryption_are_refused(pairs: list[Pair]) -> None:
    client = only(ssl.TLSVersion.TLSv1_2)
    for suites in ("ECDHE+AES:!AESGCM:!AESCCM", "kRSA"):
        client.set_ciphers(suites)
        with pytest.raises(ssl.SSLError):
            shake_hands(server(pairs[:1]), client, None)


def test_older_versions_are_refused_in_both_directions(pairs: list[Pair]) -> None:
    assert server(pairs).minimum_version is ssl.TLSVersion.TLSv1_2
    assert client_context(ClientFiles(is_verified=True)).minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_backend_is_verified_against_the_given_authority_and_its_name(pairs: list[Pair]) -> None:
    backend = server(pairs[:1])
    trusting = client_context(ClientFiles(pairs[0][0], is_verified=True))
    assert served_name(backend, "mfa.contoso.com", trusting) == "first"
    for client, name in (
        (trusting, "other.contoso.com"),
        (client_context(ClientFiles(pairs[1][0], is_verified=True)), "mfa.contoso.com"),
        (client_context(ClientFiles(is_verified=True)), "mfa.contoso.com"),
    ):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(backend, client, name)


def test_a_backend_that_is_not_verified_may_have_any_certificate(pairs: list[Pair]) -> None:
    client = client_context(ClientFiles(pairs[1][0], is_verified=False))
    assert served_name(server(pairs[:1]), "nowhere.example.net", client) == "first"


def test_files_that_are_missing_or_do_not_belong_together_are_errors(tmp_path: Path, pairs: list[Pair]) -> None:
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.write_bytes(b"")
    with pytest.raises(OSError, match="missing"):
        dns_names(missing)
    with pytest.raises(ValueError, match="PEM"):
        dns_names(empty)
    with pytest.raises(ssl.SSLError):
        server([(pairs[0][0], pairs[1][1])])
    with pytest.raises(OSError, match="No such file"):
        server([(missing, pairs[0][1])])
    with pytest.raises(OSError, match="No such file"):
        client_context(ClientFiles(missing, is_verified=True))


# ------------------------------------------------------------------------------------------ both sides show one


@pytest.fixture
def ours(pairs: list[Pair]) -> ssl.SSLContext:
    """A RadSec listener with two certificates, which believes the first one's issuer about its clients."""
    return mutual_server(pairs[:2], pairs[0][0])


def client_with(pairs: list[Pair], certificate: Pair | None) -> ssl.SSLContext:
    context = client_context(ClientFiles(is_verified=False, certificate=certificate))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 a client's handshake ends before it is judged
    return context


@pytest.mark.parametrize("name", ["mfa.contoso.com", "portal.example.com"])
def test_a_client_with_a_certificate_of_the_authority_is_let_in_under_each_name(
    ours: ssl.SSLContext, pairs: list[Pair], name: str
) -> None:
    end = shake_hands(ours, client_with(pairs, pairs[0]), name)
    assert end.version() == "TLSv1.2"
    assert end.selected_alpn_protocol() is None


@pytest.mark.parametrize("name", ["mfa.contoso.com", "portal.example.com"])
@pytest.mark.parametrize("shown", [None, 1])
def test_a_client_without_one_or_with_another_authority_s_is_refused_under_each_name(
    ours: ssl.SSLContext, pairs: list[Pair], name: str, shown: int | None
) -> None:
    with pytest.raises(ssl.SSLError, match=r"PEER_DID_NOT_RETURN_A_CERTIFICATE|CERTIFICATE_VERIFY_FAILED"):
        shake_hands(ours, client_with(pairs, None if shown is None else pairs[shown]), name)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_was_let_in_gets_nothing_that_would_let_it_in_again(
    ours: ssl.SSLContext, pairs: list[Pair], version: ssl.TLSVersion
) -> None:
    client = client_with(pairs, pairs[0])
    client.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1_2, version
    for listener, is_resumed in ((ours, False), (server(pairs[:1]), True)):
        session = shake_hands(listener, client, "mfa.contoso.com").session
        again, _ = shake_both_hands(listener, client, "mfa.contoso.com", session)
        assert (again.version(), again.session_reused) == (version.name.replace("_", "."), is_resumed)


def test_a_client_s_certificate_that_cannot_be_used_is_an_error(pairs: list[Pair], tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError):
        client_context(ClientFiles(is_verified=False, certificate=(pairs[0][0], pairs[1][1])))
    with pytest.raises(OSError, match="No such file"):
        mutual_server(pairs[:1], tmp_path / "missing.pem")


# ------------------------------------------------------------------------------------------- the name of a backend


@pytest.mark.parametrize(
    ("names", "wanted", "is_named"),
    [
        ([("DNS", "mfa1.contoso.com")], "mfa1.contoso.com", True),
        ([("DNS", "MFA1.contoso.com")], "mfa1.CONTOSO.com", True),
        ([("DNS", "other.contoso.com"), ("DNS", "*.contoso.com")], "mfa1.contoso.com", True),
        ([("DNS", "*.contoso.com")], "a.mfa1.contoso.com", False),
        ([("DNS", "*.contoso.com")], "contoso.com", False),
        ([("DNS", "*")], "mfa1", False),
        ([("DNS", "*.")], "mfa1", False),
        ([("DNS", "m*.contoso.com")], "mfa1.contoso.com", False),
        ([("IP Address", "10.0.0.1")], "10.0.0.1", True),
        ([("IP Address", "2001:DB8:0:0:0:0:0:1")], "2001:db8::1", True),
        ([("IP Address", "10.0.0.2"), ("DNS", "10.0.0.1")], "10.0.0.1", False),
        ([("URI", "mfa1.contoso.com")], "mfa1.contoso.com", False),
        ([], "mfa1.contoso.com", False),
    ],
)
def test_a_certificate_names_a_host_by_its_alternative_names(
    names: list[tuple[str, str]], wanted: str, is_named: bool
) -> None:
    subject = ((("commonName", wanted),),)
    assert has_name({"subject": subject, "subjectAltName": tuple(names)}, wanted) is is_named
    assert not has_name({"subject": subject}, wanted)
    assert not has_name(None, wanted)


def test_another_name_than_the_one_asked_for_may_be_what_counts(pairs: list[Pair]) -> None:
    backend, ca = server(pairs[:2]), pairs[1][0]
    pinned = client_context(ClientFiles(ca, peer_name="portal.example.com"))
    assert served_name(backend, "other.contoso.com", pinned) == "wildcard"
    for files, reason in (
        (ClientFiles(ca, peer_name="elsewhere.example.com"), "not valid for 'elsewhere.example.com'"),
        (ClientFiles(pairs[0][0], peer_name="portal.example.com"), "certificate"),
    ):
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            shake_hands(backend, client_context(files), "other.contoso.com")
        assert reason in caught.value.verify_message
        assert caught.value.reason == "CERTIFICATE_VERIFY_FAILED"


def test_a_backend_with_another_name_leaves_nothing_to_the_garbage_collector(pairs: list[Pair]) -> None:
    backend, pinned = server(pairs[:1]), client_context(ClientFiles(pairs[0][0], peer_name="elsewhere.example.com"))
    with leaves_no_garbage(), pytest.raises(ssl.SSLCertVerificationError, match="elsewhere"):
        shake_hands(backend, pinned, "mfa.contoso.com")
