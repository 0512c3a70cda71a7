import os
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from programs.certificates import Authority, CertificateFiles
from unit.net.handshakes import NOON, SECRET, shake_both_hands, shake_hands
from unit.net.throw_away_certificates import write_certificate

from mfalb.net.live_tls import TRUST_S, LiveClient, LiveServer, LiveTls
from mfalb.net.tls import ClientFiles, ClientTrust, ServerFiles, client_context

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
NAME = "mfa.contoso.com"


def client(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, shown: CertificateFiles | None = None) -> ssl.SSLContext:
    context = client_context(ClientFiles(is_verified=False, certificate=(shown.cert, shown.key) if shown else None))
    context.minimum_version = context.maximum_version = version
    return context


def put(live: LiveTls, now: float = NOON) -> None:
    live.prepare(now)()


def served(live: LiveTls, name: str = NAME) -> bytes:
    octets = shake_hands(live.context, client(), name).getpeercert(binary_form=True)
    assert octets is not None
    return octets


@pytest.fixture
def files(tmp_path: Path) -> ServerFiles:
    return ServerFiles(
        (
            write_certificate(tmp_path, "first", NAME),
            write_certificate(tmp_path, "second", "portal.contoso.com"),
        )
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "clients")


# ---------------------------------------------------------------------------------------------- sessions


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [NAME, "portal.contoso.com", "unknown.example.net", None])
def test_a_session_is_resumed_under_whatever_name_it_began(
    files: ServerFiles, version: ssl.TLSVersion, name: str | None
) -> None:
    live, ours = LiveServer("web", files, SECRET, NOON), client(version)
    session = shake_hands(live.context, ours, name).session
    assert shake_both_hands(live.context, ours, name, session)[1].session_reused


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed_by_another_process_with_the_same_secret_only(
    files: ServerFiles, version: ssl.TLSVersion
) -> None:
    ours = client(version)
    session = shake_hands(LiveServer("web", files, SECRET, NOON).context, ours, "portal.contoso.com").session
    for name, secret, is_resumed in (("web", SECRET, True), ("web", os.urandom(32), False), ("other", SECRET, False)):
        other = LiveServer(name, files, secret, NOON)
        end, _ = shake_both_hands(other.context, ours, "portal.contoso.com", session)
        assert end.session_reused is is_resumed, (name, secret)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_key_in_a_file_makes_the_tickets_and_another_one_there_unmakes_them(
    tmp_path: Path, files: ServerFiles, version: ssl.TLSVersion
) -> None:
    path, ours = tmp_path / "ticket.key", client(version)
    path.write_bytes(os.urandom(48))
    files = replace(files, ticket_key=path)
    one, two = (LiveServer("web", files, os.urandom(32), NOON) for _ in range(2))
    session = shake_hands(one.context, ours, NAME).session
    assert shake_both_hands(two.context, ours, NAME, session)[1].session_reused
    path.write_bytes(os.urandom(48))
    put(two)
    assert not shake_both_hands(two.context, ours, NAME, session)[1].session_reused
    assert shake_both_hands(one.context, ours, NAME, session)[1].session_reused


def test_a_ticket_key_that_is_too_short_is_an_error(tmp_path: Path, files: ServerFiles) -> None:
    path = tmp_path / "ticket.key"
    path.write_bytes(bytes(31))
    with pytest.raises(ValueError, match="fewer than 32 bytes"):
        LiveServer("web", replace(files, ticket_key=path), SECRET, NOON)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_outlives_the_certificate_that_it_began_with(
    tmp_path: Path, files: ServerFiles, version: ssl.TLSVersion
) -> None:
    live, ours = LiveServer("web", files, SECRET, NOON), client(version)
    before = served(live)
    session = shake_hands(live.context, ours, NAME).session
    write_certificate(tmp_path, "first", NAME, "new.contoso.com")
    put(live, NOON + 10 * TRUST_S)
    assert served(live) != before
    assert served(live, "new.contoso.com") == served(live)
    assert shake_both_hands(live.context, ours, NAME, session)[1].session_reused


def test_what_is_open_goes_on_when_the_certificate_is_another(tmp_path: Path, files: ServerFiles) -> None:
    live = LiveServer("web", files, SECRET, NOON)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = client().wrap_bio(to_client, to_server, server_hostname=NAME)
    here = live.context.wrap_bio(to_server, to_client, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        there.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        here.do_handshake()  # in the midst of a handshake
    write_certificate(tmp_path, "first", NAME)
    put(live)
    there.do_handshake()
    here.do_handshake()
    put(live)
    there.write(b"question")
    assert here.read(100) == b"question"


# ------------------------------------------------------------------------------------ clients' certificates


def trusting(
    files: ServerFiles, authority: Authority, *, crl: Path | None = None, is_required: bool = True
) -> ServerFiles:
    return replace(files, client_trust=ClientTrust(authority.ca, crl, is_required))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_of_a_client_with_a_certificate_is_resumed_within_the_hour(
    files: ServerFiles, authority: Authority, version: ssl.TLSVersion
) -> None:
    ours = client(version, authority.issue("alice", "alice"))
    live = LiveServer("web", trusting(files, authority), SECRET, NOON)
    session = shake_hands(live.context, ours, "portal.contoso.com").session
    live.renew(NOON + TRUST_S - 1)
    _, here = shake_both_hands(live.context, ours, "portal.contoso.com", session)
    assert here.session_reused
    assert here.getpeercert(binary_form=True), "the certificate is known in a resumed session, too"
    live.renew(NOON + TRUST_S)
    assert not shake_both_hands(live.context, ours, "portal.contoso.com", session)[1].session_reused


@pytest.mark.parametrize("version", VERSIONS)
def test_a_revoked_client_is_not_let_in_by_its_session(
    files: ServerFiles, authority: Authority, version: ssl.TLSVersion
) -> None:
    alice, bob = authority.issue("alice", "alice"), authority.issue("bob", "bob")
    crl = authority.revoke()
    live = LiveServer("web", trusting(files, authority, crl=crl), SECRET, NOON)
    of_alice, of_bob = client(version, alice), client(version, bob)
    session = shake_hands(live.context, of_alice, NAME).session
    assert shake_both_hands(live.context, of_alice, NAME, session)[1].session_reused
    authority.revoke(alice)
    put(live)
    with pytest.raises(ssl.SSLError, match="certificate revoked"):
        shake_both_hands(live.context, of_alice, NAME, session)
    _, here = shake_both_hands(live.context, of_bob, NAME)
    assert here.getpeercert()["subject"] == ((("commonName", "bob"),),)  # type: ignore[index]


def test_another_authority_counts_from_its_first_connection_on(
    tmp_path: Path, files: ServerFiles, authority: Authority
) -> None:
    live, alice = LiveServer("web", trusting(files, authority), SECRET, NOON), authority.issue("alice", "alice")
    other = Authority(tmp_path / "others")
    carol = other.issue("carol", "carol")
    authority.ca.write_bytes(other.ca.read_bytes())
    put(live)
    assert shake_both_hands(live.context, client(shown=carol), NAME)[1].getpeercert()
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_both_hands(live.context, client(shown=alice), NAME)


@pytest.mark.parametrize("name", [NAME, "portal.contoso.com", None])
def test_an_optional_certificate_may_be_missing_but_not_be_a_stranger_s(
    tmp_path: Path, files: ServerFiles, authority: Authority, name: str | None
) -> None:
    live = LiveServer("web", trusting(files, authority, is_required=False), SECRET, NOON)
    assert shake_both_hands(live.context, client(), name)[1].getpeercert() is None
    shown = authority.issue("alice", "alice")
    assert shake_both_hands(live.context, client(shown=shown), name)[1].getpeercert()
    stranger = Authority(tmp_path / "strangers").issue("eve", "eve")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_both_hands(live.context, client(shown=stranger), name)


def test_an_authority_without_a_revocation_list_is_not_believed_where_lists_are_asked_for(
    tmp_path: Path, files: ServerFiles, authority: Authority
) -> None:
    crl = Authority(tmp_path / "others", "another authority").revoke()
    live = LiveServer("web", trusting(files, authority, crl=crl), SECRET, NOON)
    with pytest.raises(ssl.SSLError, match="unable to get certificate CRL"):
        shake_both_hands(live.context, client(shown=authority.issue("alice", "alice")), NAME)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_begun_where_certificates_are_optional_opens_no_listener_that_requires_one(
    files: ServerFiles, authority: Authority, version: ssl.TLSVersion
) -> None:
    """As when a node, or the file after a restart, says required and has the same ticket key."""
    ours = client(version)
    lax = LiveServer("web", trusting(files, authority, is_required=False), SECRET, NOON)
    session = shake_hands(lax.context, ours, NAME).session
    assert shake_both_hands(lax.context, ours, NAME, session)[1].session_reused
    strict = LiveServer("web", trusting(files, authority), SECRET, NOON)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_both_hands(strict.context, ours, NAME, session)


def test_a_session_begun_without_certificates_opens_no_listener_that_asks_for_one(
    files: ServerFiles, authority: Authority
) -> None:
    ours = client()
    session = shake_hands(LiveServer("web", files, SECRET, NOON).context, ours, NAME).session
    strict = LiveServer("web", trusting(files, authority), SECRET, NOON)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_both_hands(strict.context, ours, NAME, session)


# ------------------------------------------------------------- a Python whose OpenSSL cannot be given keys


@pytest.fixture
def _out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("mfalb.net.tls", "mfalb.net.live_tls"):
        monkeypatch.setattr(f"{module}.native_tls", lambda: "built in another way")


@pytest.mark.usefixtures("_out_of_reach")
@pytest.mark.parametrize("version", VERSIONS)
def test_without_keys_of_ours_a_session_is_resumed_where_it_began_and_as_long_as_it_may(
    files: ServerFiles, authority: Authority, version: ssl.TLSVersion
) -> None:
    crl, alice = authority.revoke(), authority.issue("alice", "alice")
    ours, strict = client(version, alice), trusting(files, authority, crl=crl)
    live, other = (LiveServer("web", strict, SECRET, NOON) for _ in range(2))
    session = shake_hands(live.context, ours, "portal.contoso.com").session
    assert shake_both_hands(live.context, ours, "portal.contoso.com", session)[1].session_reused
    assert not shake_both_hands(other.context, ours, "portal.contoso.com", session)[1].session_reused
    live.renew(NOON + TRUST_S)
    assert not shake_both_hands(live.context, ours, "portal.contoso.com", session)[1].session_reused
    authority.revoke(alice)
    put(live)
    with pytest.raises(ssl.SSLError, match="certificate revoked"):
        shake_both_hands(live.context, ours, "portal.contoso.com", session)


# ------------------------------------------------------------------------------------------------ files


def test_expiries_are_those_of_what_is_in_use(tmp_path: Path, files: ServerFiles, authority: Authority) -> None:
    crl = authority.revoke()
    live = LiveServer("web", trusting(files, authority, crl=crl), SECRET, NOON)
    before = dict(live.expiries)
    assert set(before) == {chain for chain, _ in files.pairs}
    assert set(live.crl_expiries) == {crl}
    shorter = authority.issue("server", NAME, NAME)
    files.pairs[0][0].write_bytes(shorter.cert.read_bytes())
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        live.prepare(NOON)
    assert live.expiries == before
    files.pairs[0][1].write_bytes(shorter.key.read_bytes())
    put(live)
    assert live.expiries[files.pairs[0][0]] > before[files.pairs[0][0]]


def test_digests_tell_contents_apart_and_not_times_or_places(tmp_path: Path, files: ServerFiles) -> None:
    live = LiveServer("web", files, SECRET, NOON)
    before, chain = live.digests(), files.pairs[0][0]
    os.utime(chain, (1, 1))
    chain.rename(tmp_path / "elsewhere.pem")
    missing = live.digests()
    chain.symlink_to(tmp_path / "elsewhere.pem")
    assert live.digests() == before
    (tmp_path / "elsewhere.pem").write_bytes(chain.read_bytes() + b"\n")
    assert len({before, missing, live.digests()}) == 3


def test_what_is_no_file_is_not_waited_for(files: ServerFiles) -> None:
    live = LiveServer("web", files, SECRET, NOON)
    before, chain = live.digests(), files.pairs[0][0]
    chain.unlink()
    os.mkfifo(chain)
    assert live.digests() != before


def test_connections_to_backends_begin_with_what_the_files_say_now(tmp_path: Path, files: ServerFiles) -> None:
    backend, chain = LiveServer("web", files, SECRET, NOON), files.pairs[0][0]
    ca = tmp_path / "ca.pem"
    ca.write_bytes(files.pairs[1][0].read_bytes())
    live = LiveClient("mfa", ClientFiles(ca, certificate=files.pairs[1]), NOON)
    assert set(live.expiries) == {files.pairs[1][0]}
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(backend.context, live.context, NAME)
    ca.write_bytes(chain.read_bytes())
    put(live)
    assert shake_hands(backend.context, live.context, NAME).version() == "TLSv1.3"
