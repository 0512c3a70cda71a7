"""Every file in conf/ loads as it stands, once the secrets and certificates that it names are there."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs.certificates import Authority
from ruamel.yaml import YAML

from mfalb.balancer.config.loader import check
from mfalb.balancer.config.outline import accepted_keys
from mfalb.balancer.config.tables import Table
from mfalb.cli.services import SERVICES

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(file.relative_to(CONF) for file in CONF.rglob("*.yaml"))
SERVICE_FILES = [file for file in FILES if file.stem in SERVICES]  # of the reference estate
BALANCER_FILES = [file for file in FILES if file not in SERVICE_FILES]
SECRET = "0123456789abcdef-throw-away"


def pairs(value: object) -> Iterator[tuple[str, object]]:
    """Every key and value of a YAML file, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pairs(inner)


def tables(base: type[Table] = Table) -> list[type[Table]]:
    return [table for child in base.__subclasses__() for table in (child, *tables(child))]


def read_plain(file: Path) -> object:
    return YAML(typ="safe", pure=True).load(file.read_text())


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A copy of conf/ with throw-away secrets and certificates at every path that a file names."""
    copy = tmp_path / "conf"
    shutil.copytree(CONF, copy)
    authority = Authority(tmp_path / "tls")
    certificate = authority.issue("server", "mfa.contoso.com", "mfa.contoso.com", "mfaapp.contoso.com")
    content = {
        "cert": certificate.cert.read_text(),
        "key": certificate.key.read_text(),
        "ca": certificate.ca.read_text(),
        "client_ca": certificate.ca.read_text(),
        "ticket_key": SECRET * 2,
        "crl": authority.revoke().read_text(),
        "secret_file": SECRET,
        "password_file": SECRET,
        "body_file": "{}",
        "cookie_keys_file": base64.b64encode(bytes(32)).decode(),
    }
    for file in (copy / name for name in BALANCER_FILES):
        for key, value in pairs(read_plain(file)):
            if key in content and isinstance(value, str):
                path = file.parent / value
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content[key])
                path.chmod(0o600)
    return copy


def environment(file: Path) -> dict[str, str]:
    return {str(value): SECRET for key, value in pairs(read_plain(file)) if key == "secret_env"}


def test_there_are_files_to_check() -> None:
    assert {str(file) for file in FILES} >= {"reference.yaml", "contoso/balancer-inside/balancer.yaml"}
    assert {file.stem for file in SERVICE_FILES} == set(SERVICES)


@pytest.mark.parametrize("name", BALANCER_FILES, ids=str)
def test_every_conf_file_loads_without_a_warning(conf: Path, name: Path) -> None:
    file = conf / name
    config, problems = check(file, environment(file))
    assert [str(problem) for problem in problems] == []
    assert config is not None


def test_the_reference_file_has_every_key_there_is() -> None:
    text = (CONF / "reference.yaml").read_text()
    written = {key for key, _ in pairs(read_plain(CONF / "reference.yaml"))}
    for key in {key for table in tables() for key in accepted_keys(table)}:
        # Of two ways to name one thing the second stands as a comment, ready to be used.
        assert key in written or f"# {key}:" in text, f"conf/reference.yaml does not show {key!r}"


def test_no_secret_and_no_certificate_lies_in_conf() -> None:
    assert {file.suffix or file.name for file in CONF.rglob("*") if file.is_file()} <= {
        *(".yaml", "README", "hosts"),
        *(".service", ".socket", ".conf"),  # systemd's and keepalived's
        *(".md", "mfalb-check", "mfalb-notify"),
    }
