"""conf/contoso is a deployment: every service can be started from its file, and the files agree with one another."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mfalb.balancer.config.loader import check
from mfalb.cli.deployment import BALANCER, CONTOSO, Deployment, read_deployment, values_of
from mfalb.cli.deployment_files import furnish
from mfalb.reference.config.files import SettingsFile

CONF = Path(__file__).parents[2] / "conf" / "contoso"
READERS: dict[str, Callable[[SettingsFile], object]] = {
    "cloud": SettingsFile.cloud,
    "mfa-server": SettingsFile.mfa_server,
    "user-portal": SettingsFile.portal,
    "mobile-app": SettingsFile.mobile_app,
    "adfs": SettingsFile.adfs,
    "relying-party": SettingsFile.relying_party,
}
DEPLOYMENT = read_deployment(CONF)
NAMES = [service.title for service in DEPLOYMENT.services]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with throw-away files at every path that a setting names."""
    folder = tmp_path_factory.mktemp("contoso") / "contoso"
    shutil.copytree(CONF, folder)
    furnish(folder, DEPLOYMENT)
    return folder


def listening(deployment: Deployment) -> dict[str, set[str]]:
    """Who listens where, by address:port; loopback aside."""
    found: dict[str, set[str]] = defaultdict(set)
    for service in deployment.services:
        for key, value in values_of(service.tables):
            if key == "bind":
                found[str(value)].add(service.host)
            elif isinstance(value, dict) and "host" in value and "port" in value:
                found[f"{value['host']}:{value['port']}"].add(service.host)
    return found


def test_the_demonstration_s_folder_is_this_one() -> None:
    assert CONTOSO.resolve() == CONF


@pytest.mark.parametrize("name", NAMES)
def test_every_service_s_settings_are_settings_and_name_files_that_can_be_made(furnished: Path, name: str) -> None:
    service = next(service for service in DEPLOYMENT.services if service.title == name)
    path = furnished / service.place
    if service.kind == BALANCER:
        config, problems = check(path, {})
        assert ([str(problem) for problem in problems], config is None) == ([], False)
    else:
        assert READERS[service.kind](SettingsFile.read(path)) is not None
    for key, value in values_of(service.tables):
        if isinstance(value, str) and value.startswith(("tls/", "secrets/")):
            assert (path.parent / value).is_file(), f"{key}: {value}"


def test_whatever_is_called_is_listened_on() -> None:
    """Backends, the SDK's URL, the cloud, the farm, replication: a port that somebody asks, somebody has."""
    listeners = listening(DEPLOYMENT)
    asked = set()
    for service in DEPLOYMENT.services:
        for key, value in values_of(service.tables):
            if key == "address":
                asked.add(str(value))
            elif key == "rpc_address":
                host, _, port = str(value).partition(":")
                asked.add(f"{DEPLOYMENT.addresses[host]}:{port}")
            elif isinstance(value, str) and value.startswith("https://"):
                parts = urlsplit(value)
                asked.add(f"{DEPLOYMENT.addresses[parts.hostname or '']}:{parts.port or 443}")
    assert asked <= set(listeners), asked - set(listeners)
    clients_only = {"10.0.1.10:1812", "10.0.3.11:49443"}  # what only clients ask for
    assert set(listeners) - asked == clients_only


def test_each_host_listens_at_its_own_addresses_and_no_two_at_one() -> None:
    hosts = (CONF / "hosts").read_text("utf-8")
    own = defaultdict(set)
    for address, names in re.findall(r"^([\d.]+) +(.+)$", hosts, re.MULTILINE):
        own[names.split()[0]].add(address)
    for place, found in listening(DEPLOYMENT).items():
        (host,) = found
        assert place.partition(":")[0] in own[host], f"{host} listens on {place}"


def twins(kind: str) -> list[str]:
    """The settings of services of one kind, as text, without what makes each of them itself."""
    found = []
    for service in DEPLOYMENT.of_kind(kind):
        text = (CONF / service.place).read_text("utf-8")
        text = text.replace(service.host, "HOST")
        found.append(re.sub(r"\b10\.0\.\d\.\d+(?=, port)", "ADDRESS", text))
    return found


@pytest.mark.parametrize("kind", ["mfa-server", "user-portal", "mobile-app", "adfs"])
def test_services_of_one_kind_differ_by_name_and_address_only(kind: str) -> None:
    one, two = twins(kind)
    assert one == two


def test_replication_has_one_static_port() -> None:
    ports = {server.tables["group"]["rpc"]["port"] for server in DEPLOYMENT.of_kind("mfa-server")}
    assert ports == {4443}


def test_the_readme_tells_of_every_host_and_file() -> None:
    readme = (CONF / "README.md").read_text("utf-8")
    for service in DEPLOYMENT.services:
        assert f"]({service.place})" in readme
    linked = set(re.findall(r"\]\((\S+\.yaml)\)", readme))
    assert linked == {str(service.place) for service in DEPLOYMENT.services}
    for service in DEPLOYMENT.services:
        for key, value in values_of(service.tables):
            if isinstance(value, str) and value.startswith(("tls/", "secrets/")) and key not in ("key", "token_key"):
                assert f"`{value}`" in readme, value
