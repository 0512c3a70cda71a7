from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfalb.cli import loopback
from mfalb.cli.deployment import CONTOSO, Deployment, read_deployment, values_of
from mfalb.cli.loopback import Moved, on_loopback, users, write

WRITTEN = read_deployment(CONTOSO)


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "free_ports", lambda count: list(range(20_000, 20_000 + count)))


@pytest.fixture
def site() -> tuple[Moved, Deployment]:
    return on_loopback(WRITTEN)


def differences(one: object, two: object, key: str = "") -> Iterator[str]:
    """The keys of what two tables do not share."""
    if isinstance(one, dict) and isinstance(two, dict):
        for name in {*one, *two}:
            yield from differences(one.get(name), two.get(name), name)
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for first, second in zip(one, two, strict=True):
            yield from differences(first, second, key)
    elif one != two:
        yield key


def test_only_addresses_names_secrets_and_the_pace_of_checks_are_changed(site: tuple[Moved, Deployment]) -> None:
    _, moved = site
    found = set()
    for one, two in zip(WRITTEN.services, moved.services, strict=True):
        assert one.title == two.title
        found |= set(differences(one.tables, two.tables))
    addresses = {"host", "port", "bind", "address", "network", "client_network", "rpc_address"}
    urls = {"url", "cloud_url", "mobile_app_url", "issuer", "redirect_uri", "redirect_uris"}
    secrets = {"password", "secret", "activation_code", "activation_codes", "device_token"}
    pace = {"interval", "fast", "workers", "answering"}
    assert found == addresses | urls | secrets | pace | {"sni", "routes", "admin"}


def test_whoever_is_asked_is_where_it_is_asked(site: tuple[Moved, Deployment]) -> None:
    """Each port that is named, in whatever form, is one that somebody listens on; nobody listens elsewhere."""
    _, moved = site
    text = json.dumps([service.tables for service in moved.services])
    assert not [name for name in ("10.0.", "203.0.", "https://mfa", "made-up") if name in text]
    bound = {value.rpartition(":")[2] for service in moved.services for key, value in values_of(service.tables)
             if key == "bind" and isinstance(value, str)}  # fmt: skip
    ports = {str(value) for service in moved.services for key, value in values_of(service.tables) if key == "port"}
    assert not bound & ports
    for service in moved.services:
        for key, value in values_of(service.tables):
            if isinstance(value, str) and ("localhost:" in value or key == "address"):
                port = value.partition("localhost:")[2] or value.rpartition(":")[2]
                assert port.partition("/")[0] in bound | ports, (service.title, key, value)


def test_urls_keep_their_paths_and_meet_the_balancer_that_has_the_name(site: tuple[Moved, Deployment]) -> None:
    moved, deployment = site
    (inside,) = (one for one in deployment.of_kind("balancer") if one.host == "balancer-inside")
    (bound,) = inside.tables["listeners"][0]["bind"]
    for node in deployment.of_kind("adfs"):
        url = f"https://localhost:{bound.rpartition(':')[2]}/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
        assert node.tables["sdk"]["url"] == url
        assert moved.url("mfaapp.contoso.com", "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx") == url


def test_loopback_of_two_hosts_is_two_places(site: tuple[Moved, Deployment]) -> None:
    moved, deployment = site
    ports = [server.tables["control"]["port"] for server in deployment.of_kind("mfa-server")]
    assert len(set(ports)) == 2
    assert ports == [moved.port("mfa1", 9443), moved.port("mfa2", 9443)]


def test_a_made_up_value_becomes_one_random_value_wherever_it_stands(site: tuple[Moved, Deployment]) -> None:
    _, deployment = site
    (cloud,) = deployment.of_kind("cloud")
    codes = {server.tables["group"]["activation_code"] for server in deployment.of_kind("mfa-server")}
    assert codes == set(cloud.tables["activation_codes"])
    passwords = [str(user["password"]) for user in users(deployment).values()]
    assert len(set(passwords)) == 4
    assert passwords != [str(user["password"]) for user in users(on_loopback(WRITTEN)[1]).values()]


def test_routes_that_differ_by_name_only_are_one(site: tuple[Moved, Deployment]) -> None:
    _, deployment = site
    (perimeter,) = (one for one in deployment.of_kind("balancer") if one.host == "balancer-perimeter")
    routes = {listener["name"]: listener["routes"] for listener in perimeter.tables["listeners"]}
    assert routes["adfs-certificates"] == [{"sni": "localhost", "pool": "adfs-certificates"}]
    assert [route["pool"] for route in routes["mfa"]] == ["mfa-portal", "mfa-app"]


def test_the_description_itself_stays_as_it_is(site: tuple[Moved, Deployment]) -> None:
    assert read_deployment(CONTOSO) == WRITTEN


def test_files_are_written_for_their_owner(site: tuple[Moved, Deployment], tmp_path: Path) -> None:
    _, deployment = site
    write(tmp_path, deployment)
    for service in deployment.services:
        path = tmp_path / service.place
        assert json.loads(path.read_text("utf-8")) == service.tables
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "clients/secrets/vpn").is_file()
