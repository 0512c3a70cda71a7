from __future__ import annotations

import stat
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography import x509

from mfalb.cli.deployment import CONTOSO, read_deployment
from mfalb.cli.deployment_files import furnish

DEPLOYMENT = read_deployment(CONTOSO)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("contoso")
    furnish(made, DEPLOYMENT, ("localhost", "127.0.0.1"))
    return made


def names_of(path: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


@pytest.mark.parametrize(
    ("file", "authority", "names"),
    [
        ("balancer-inside/tls/mfaapp.crt", "contoso", ["mfaapp.contoso.com", "localhost"]),
        ("up-mas1/tls/mfa.crt", "contoso", ["mfa.contoso.com", "localhost"]),
        ("adfs1/tls/sts.crt", "contoso", ["sts.contoso.com", "certauth.sts.contoso.com", "localhost"]),
        ("cloud/tls/pfd.crt", "cloud", ["pfd.contoso.com", "localhost"]),
        ("mfa2/tls/mfa2.crt", "group", ["mfa2.contoso.com", "localhost"]),
        ("clients/tls/device.crt", "device", ["localhost"]),
    ],
)
def test_a_certificate_is_good_for_its_hosts_and_signed_by_its_own_authority(
    folder: Path, file: str, authority: str, names: list[str]
) -> None:
    assert names_of(folder / file) == names
    holder = next(folder.glob(f"*/tls/{authority}-ca.pem"))
    signer = x509.load_pem_x509_certificate(holder.read_bytes())
    x509.load_pem_x509_certificate((folder / file).read_bytes()).verify_directly_issued_by(signer)


@pytest.mark.parametrize(
    "file", ["secrets/farm.key", "tls/sts.crt", "tls/mfa.key", "tls/contoso-ca.pem", "tls/group-ca.pem", "secrets/vpn"]
)
def test_what_has_one_name_is_the_same_on_all_hosts(folder: Path, file: str) -> None:
    found = list(folder.glob(f"*/{file}"))
    assert len(found) > 1
    assert len({path.read_bytes() for path in found}) == 1


def test_balancers_have_the_secrets_that_stand_in_the_settings_of_servers(folder: Path) -> None:
    for server in DEPLOYMENT.of_kind("mfa-server"):
        written = (folder / "balancer-inside/secrets" / server.host).read_text("utf-8")
        assert written == server.tables["radius"]["secret"] + "\n"
        assert (folder / "balancer-inside/secrets/probe").read_text() == server.tables["account"]["password"] + "\n"
    assert len(b64decode((folder / "adfs1/secrets/farm.key").read_text())) == 32


def test_keys_and_secrets_are_their_owner_s_and_made_anew_each_time(folder: Path, tmp_path: Path) -> None:
    private = [*folder.glob("*/secrets/*"), *folder.glob("*/tls/*.key")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in private} == {0o700}
    furnish(tmp_path, DEPLOYMENT)
    for file in ("clients/secrets/vpn", "balancer-perimeter/secrets/cookie-keys", "adfs1/tls/token.key"):
        assert (tmp_path / file).read_bytes() != (folder / file).read_bytes()
