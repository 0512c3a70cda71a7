from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfalb.flows.values import Call, Caller, Comers, Door, Spot, Traffic, Transport
from mfalb.reference.config.flows import KINDS, SettingsLines

CLOUD = Call(Spot("pfd.contoso.com", 443), "cloud MFA Service", 2)
SDK = Call(Spot("mfaapp.contoso.com", 443), "Web Service SDK", 4)
MFA_SERVER = """\
name: mfa1
cloud_url: https://pfd.contoso.com
sdk: {host: 10.0.1.11, port: 443}
radius:
  endpoint: {host: 10.0.1.11, port: 1812}
  client_network: 10.0.1.10/32
  secret: made-up
account: {name: a, password: b}
"""
GROUP = """\
group:
  name: headquarters
  activation_code: made-up
  data: none
  ca: none.pem
"""
SERVED = """\
name: one
endpoint: {host: 10.0.3.21, port: 443}
sdk:
  url: https://mfaapp.contoso.com/Sdk
  account: {name: a, password: b}
"""
ADFS = """\
issuer: https://sts.contoso.com/adfs
farm_key: none
token_cert: none
token_key: none
relying_parties: []
"""
PARTY = """\
name: expenses
endpoint: {host: 203.0.113.20, port: 443}
client_id: expenses
redirect_uri: https://expenses.contoso.com:8443/token
issuer: https://sts.contoso.com/adfs
"""


def lines_of(folder: Path, text: str, name: str = "settings.yaml") -> SettingsLines:
    file = folder / name
    file.write_text(text)
    return SettingsLines(file)


def read(folder: Path, kind: str, text: str) -> Traffic:
    return lines_of(folder, text).traffic(kind)


def test_an_mfa_server_has_doors_for_services_and_calls_the_cloud(tmp_path: Path) -> None:
    radius = Spot("10.0.1.11", 1812, Transport.UDP)
    assert read(tmp_path, "mfa-server", MFA_SERVER) == Traffic(
        (
            Door(Spot("10.0.1.11", 443), "Web Service SDK", 3, Comers.SERVICES),
            Door(radius, "RADIUS", 5, Comers.SERVICES, ("10.0.1.10/32",)),
        ),
        (CLOUD,),
    )


@pytest.mark.parametrize(
    ("rpc", "spot"),
    [
        ("  rpc: {host: 10.0.1.11, cert: a, key: b}\n", Spot("10.0.1.11", 4443)),
        ("  rpc: {host: 10.0.1.11, cert: a, key: b}\n  rpc_address: mfa1:5000\n", Spot("10.0.1.11", 4443)),
        ("  rpc: {host: 0.0.0.0, port: 5000, cert: a, key: b}\n", Spot(None, 5000)),
        ("  rpc: {host: 0.0.0.0, cert: a, key: b}\n  rpc_address: mfa1:5000\n", Spot("mfa1", 5000)),
    ],
)
def test_a_member_of_a_group_has_a_door_for_the_others(tmp_path: Path, rpc: str, spot: Spot) -> None:
    told = read(tmp_path, "mfa-server", MFA_SERVER + GROUP + rpc)
    assert told.group == "headquarters"
    assert told.doors[-1] == Door(spot, "replication, slave to master", 14, Comers.MEMBERS)


@pytest.mark.parametrize(("url", "port"), [("ldaps://dc1.contoso.com", 636), ("ldaps://dc1.contoso.com:3269", 3269)])
def test_a_directory_is_called(tmp_path: Path, url: str, port: int) -> None:
    ldap = f"ldap:\n  url: {url}\n  base: dc=contoso\n  bind_dn: cn=a\n  bind_password: b\n"
    told = read(tmp_path, "mfa-server", MFA_SERVER.replace("secret:", "protocols: [pap]\n  secret:") + ldap)
    assert told.calls == (CLOUD, Call(Spot("dc1.contoso.com", port), "directory (LDAP)", 11))


def test_a_portal_is_for_people_and_calls_the_sdk(tmp_path: Path) -> None:
    told = read(tmp_path, "user-portal", f"{SERVED}mobile_app_url: https://mfa.contoso.com/App\n")
    assert told == Traffic(
        (Door(Spot("10.0.3.21", 443), "User Portal", 2, Comers.PEOPLE),),
        (SDK, Call(Spot("mfa.contoso.com", 443), "mobile app", 6, Caller.PEOPLE)),
    )


def test_a_mobile_app_service_is_for_people_and_calls_the_sdk(tmp_path: Path) -> None:
    door = Door(Spot("10.0.3.21", 443), "Mobile App Web Service", 2, Comers.PEOPLE)
    assert read(tmp_path, "mobile-app", SERVED) == Traffic((door,), (SDK,))


def test_a_node_of_the_farm_is_for_people_who_are_sent_to_the_issuer(tmp_path: Path) -> None:
    certificates = "certificate_endpoint: {host: 10.0.3.21, port: 49443, cert: a, key: b, client_ca: c}\n"
    assert read(tmp_path, "adfs", SERVED + ADFS + certificates) == Traffic(
        (
            Door(Spot("10.0.3.21", 443), "AD FS", 2, Comers.PEOPLE),
            Door(Spot("10.0.3.21", 49443), "AD FS by certificate", 11, Comers.PEOPLE),
        ),
        (SDK, Call(Spot("sts.contoso.com", 443), "AD FS sign-in", 6, Caller.PEOPLE)),
    )


def test_an_application_is_for_people_and_fetches_keys_from_the_issuer(tmp_path: Path) -> None:
    assert read(tmp_path, "relying-party", PARTY) == Traffic(
        (Door(Spot("203.0.113.20", 443), "application expenses", 2, Comers.PEOPLE),),
        (
            Call(Spot("sts.contoso.com", 443), "keys of AD FS", 5),
            Call(Spot("expenses.contoso.com", 8443), "application expenses", 4, Caller.PEOPLE),
        ),
    )


def test_the_cloud_is_for_services_and_its_phones_for_people(tmp_path: Path) -> None:
    text = "endpoint: {host: 0.0.0.0, port: 443}\nhandsets: {host: 203.0.113.10, port: 8080}\n"
    assert read(tmp_path, "cloud", text).doors == (
        Door(Spot(None, 443), "cloud MFA Service", 1, Comers.SERVICES),
        Door(Spot("203.0.113.10", 8080), "handset pages", 2, Comers.PEOPLE),
    )


def test_control_is_a_door_only_where_it_is_not_on_loopback(tmp_path: Path) -> None:
    assert len(read(tmp_path, "mobile-app", f"{SERVED}control: {{port: 9443}}\n").doors) == 1
    told = read(tmp_path, "mobile-app", f"{SERVED}control: {{host: 10.0.3.21, port: 9443}}\n")
    expected = Door(Spot("10.0.3.21", 9443), "status, promotion and fault switches", 6, Comers.ALLOWED)
    assert told.doors[-1] == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("port: 443", "port: 0"), "endpoint: port 0 is any free one"),
        (("https://mfaapp.contoso.com/Sdk", "mfaapp.contoso.com"), "sdk.url is no URL with a host"),
    ],
)
def test_what_no_firewall_can_have_a_rule_for_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, "mobile-app", SERVED.replace(*change))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (MFA_SERVER, "mfa-server"),
        (SERVED + ADFS, "adfs"),
        (PARTY, "relying-party"),
        (f"{SERVED}mobile_app_url: ''\n", "user-portal"),
        (f"{SERVED}push_wait_s: 20\n", "mobile-app"),
        ("endpoint: {port: 443}\nactivation_codes: [a]\n", "cloud"),
        (SERVED, None),
    ],
)
def test_a_service_is_known_by_what_only_it_has(tmp_path: Path, text: str, kind: str | None) -> None:
    lines = lines_of(tmp_path, text)
    assert lines.kind() == kind
    assert kind is None or (kind in KINDS and lines.traffic(kind).doors is not None)


def test_json_as_the_estate_writes_it_has_lines_too(tmp_path: Path) -> None:
    tables = {"name": "one", "endpoint": {"host": "10.0.3.21", "port": 443}, "sdk": {"url": "https://a/", "cert": "c"}}
    told = lines_of(tmp_path, json.dumps(tables, indent=1), "settings.json").traffic("mobile-app")
    assert [(one.spot.host, one.line) for one in told.doors] == [("10.0.3.21", 3)]
    assert [(one.to.host, one.line) for one in told.calls] == [("a", 8)]


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "", "a: b: made-up-secret\n", "a: \x01\n", "a: 1\na: 2\n"])
def test_what_is_no_table_is_refused_without_a_word_of_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"this is not YAML$|are a table$") as told:
        lines_of(tmp_path, text)
    assert "made-up" not in str(told.value)
