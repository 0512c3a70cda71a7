"""Promise: passwords are checked against a real OpenLDAP directory, over TLS, and nobody gets in without one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from programs.certificates import Authority, CertificateFiles
from programs.handset import Handsets
from programs.ports import LOOPBACK, free_tcp_port
from programs.radclient import Target, send
from programs.reference_service import ReferenceService
from programs.slapd import BASE, SERVICE_DN, SERVICE_PASSWORD, Slapd

from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.files import write_settings
from mfalb.reference.config.ldap import LdapSettings
from mfalb.reference.config.mfa_server import MfaServerSettings, RadiusProtocol, RadiusSettings
from mfalb.reference.config.values import Account, Endpoint, Method, User
from mfalb.reference.ldap_directory import LdapDirectory

PEOPLE: Final = {"alice": "password-of-alice", "bob": "pässwörd-öf-bob", "star": "password-of-star"}
SECRET: Final = "radius-secret"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return Authority(tmp_path_factory.mktemp("ca")).issue("slapd", "slapd", LOOPBACK)


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[Slapd]:
    with Slapd(tmp_path_factory.mktemp("slapd"), PEOPLE, certificate) as program:
        yield program


def over_tls(slapd: Slapd, ca: Path) -> LdapSettings:
    url = f"ldaps://{LOOPBACK}:{slapd.tls_port}"
    return LdapSettings(url, BASE, SERVICE_DN, SERVICE_PASSWORD, ca=str(ca), timeout_s=10.0)


@pytest.fixture(params=["ldaps", "starttls", "plain"])
def settings(request: pytest.FixtureRequest, slapd: Slapd, certificate: CertificateFiles) -> LdapSettings:
    secure = over_tls(slapd, certificate.ca)
    plain_url = f"ldap://{LOOPBACK}:{slapd.port}"
    if request.param == "starttls":
        return replace(secure, url=plain_url, starts_tls=True)
    return secure if request.param == "ldaps" else replace(secure, url=plain_url, is_plain_allowed=True)


async def test_the_right_password_gives_the_user_as_the_directory_spells_it(settings: LdapSettings) -> None:
    directory = LdapDirectory(settings)
    for name, password in PEOPLE.items():
        found = await directory.check(name.upper(), password)
        assert found is not None
        assert found.name == name


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "wrong"),
        ("alice", ""),  # would be an anonymous bind, which succeeds
        ("alice", PEOPLE["bob"]),
        ("nobody", PEOPLE["alice"]),
        ("", PEOPLE["alice"]),
        ("*", PEOPLE["alice"]),
        ("st*", PEOPLE["star"]),
        ("alice)(uid=*", PEOPLE["alice"]),
        ("*)(objectClass=*", PEOPLE["alice"]),
        ("\\2a", PEOPLE["alice"]),
        ("al\0ice", PEOPLE["alice"]),
        ("a" * 1000, PEOPLE["alice"]),
    ],
)
async def test_a_wrong_password_an_unknown_name_and_a_filter_for_a_name_are_nobody(
    settings: LdapSettings, name: str, password: str
) -> None:
    assert await LdapDirectory(settings).check(name, password) is None


async def test_a_directory_under_another_authority_is_not_told_any_password(
    slapd: Slapd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Authority(tmp_path / "other").ca
    assert await LdapDirectory(over_tls(slapd, stranger)).check("alice", PEOPLE["alice"]) is None
    starting = replace(over_tls(slapd, stranger), url=f"ldap://{LOOPBACK}:{slapd.port}", starts_tls=True)
    assert await LdapDirectory(starting).check("alice", PEOPLE["alice"]) is None
    assert [record.getMessage() for record in caplog.records] == ["directory unavailable"] * 2


async def test_a_directory_that_is_away_lets_nobody_in_and_is_there_again_when_it_is(
    slapd: Slapd, certificate: CertificateFiles
) -> None:
    good = over_tls(slapd, certificate.ca)
    away = replace(good, url=f"ldaps://{LOOPBACK}:{free_tcp_port()}")
    assert await LdapDirectory(away).check("alice", PEOPLE["alice"]) is None
    refused = replace(good, bind_password="wrong")
    assert await LdapDirectory(refused).check("alice", PEOPLE["alice"]) is None
    assert await LdapDirectory(good).check("alice", PEOPLE["alice"]) is not None


def mfa_server(ldap: LdapSettings, cloud: str, *protocols: RadiusProtocol) -> MfaServerSettings:
    radius = RadiusSettings(Endpoint(LOOPBACK), "127.0.0.0/8", SECRET, protocols=protocols)
    users = (User("alice", "not-her-password", "+1 555 0101", Method.PHONE_CALL),)
    return MfaServerSettings("mfa1", cloud, Endpoint(LOOPBACK), radius, Account("svc", "p"), users, ldap=ldap)


def test_an_mfa_server_rings_for_a_password_of_the_directory_only(
    slapd: Slapd, certificate: CertificateFiles, tmp_path: Path
) -> None:
    with ReferenceService("cloud", "cloud_service", CloudSettings(answer_delay_s=0.0), tmp_path) as cloud:
        handsets = Handsets(cloud.port("http"))
        settings = mfa_server(over_tls(slapd, certificate.ca), handsets.url, RadiusProtocol.PAP)
        with ReferenceService("mfa1", "mfa_server", settings, tmp_path) as server:
            target = Target(LOOPBACK, server.port("radius"), SECRET, timeout_s=10.0)
            requests = [
                [("User-Name", "alice"), ("User-Password", password)]
                for password in ("not-her-password", "wrong", PEOPLE["alice"])
            ]
            codes = [answer.code for request in requests for answer in send(target, [request]) if answer is not None]
            assert codes == ["Access-Reject", "Access-Reject", "Access-Accept"]
            assert handsets.counters()["calls"] == {"alice": 1}
            assert not [secret for secret in (SERVICE_PASSWORD, PEOPLE["alice"]) if secret in server.log()]


def test_mschapv2_with_an_ldap_directory_is_refused_at_start_and_says_what_to_do(
    slapd: Slapd, certificate: CertificateFiles, tmp_path: Path
) -> None:
    ldap = over_tls(slapd, certificate.ca)
    file = tmp_path / "mfa1.json"
    write_settings(file, mfa_server(ldap, "http://cloud.test", RadiusProtocol.PAP))
    tables = json.loads(file.read_text("utf-8"))
    tables["radius"]["protocols"] = ["pap", "mschapv2"]
    file.write_text(json.dumps(tables), "utf-8")
    argv = [sys.executable, "-m", "mfalb.reference.mfa_server", "--settings", str(tmp_path / "mfa1.json")]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert ended.returncode != 0
    assert "mschapv2 needs the users' NT hashes, which an LDAP directory does not give" in ended.stderr
    assert SERVICE_PASSWORD not in ended.stderr
