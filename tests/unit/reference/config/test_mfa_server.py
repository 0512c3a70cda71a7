from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mfalb.reference.config.files import SettingsFile, write_settings
from mfalb.reference.config.ldap import LdapSettings
from mfalb.reference.config.mfa_server import GroupSettings, MfaServerSettings, RadiusSettings
from mfalb.reference.config.passwords import PasswordHash
from mfalb.reference.config.tables import read_table
from mfalb.reference.config.values import Account, Endpoint, User

RADIUS = RadiusSettings(Endpoint(), "127.0.0.0/8", "radius-secret")
SERVER = MfaServerSettings("mfa1", "http://127.0.0.1:1", Endpoint(), RADIUS, Account("mfa-service", "password"), ())


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("client_network", "127.0.0.1/8"),
        ("client_network", "everybody"),
        ("state", "sometimes"),
    ],
)
def test_radius_settings_that_make_no_sense_are_refused_before_the_first_datagram(
    tmp_path: Path, where: str, value: str
) -> None:
    path = tmp_path / "settings.json"
    write_settings(path, SERVER)
    tables = json.loads(path.read_text())
    tables["radius"][where] = value
    with pytest.raises(ValueError, match=value):
        SettingsFile(tables).mfa_server()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rpc": {"port": 4443}}, "certificate"),
        ({"kind": "mixed"}, "mixed"),
        ({"kept_changes": 0}, "kept_changes"),
        ({"poll_s": 0}, "poll_s"),
    ],
)
def test_a_place_in_a_group_that_makes_no_sense_is_refused(change: dict[str, object], reason: str) -> None:
    rpc = {"cert": "c", "key": "k"}
    table = {"name": "hq", "activation_code": "code", "data": "file", "rpc": rpc, "ca": "ca.pem"}
    assert read_table(GroupSettings, table).rpc.port == 4443
    with pytest.raises(ValueError, match=reason):
        read_table(GroupSettings, {**table, **change})


def test_users_need_a_password_or_its_hash_unless_a_directory_server_has_theirs(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    users = (User("alice", "p", "1"), User("bob", "", "2", password_hash=PasswordHash("5a" * 16, "cd" * 64)))
    write_settings(path, replace(SERVER, users=users))
    assert SettingsFile.read(path).mfa_server().users == users
    tables = json.loads(path.read_text())
    del tables["users"][1]["password"]
    assert SettingsFile(tables).mfa_server().users == users
    del tables["users"][1]["password_hash"]
    with pytest.raises(ValueError, match=r"^users\[1\]: password or password_hash is wanted$"):
        SettingsFile(tables).mfa_server()
    tables["ldap"] = asdict(LdapSettings("ldaps://dc1.test", "dc=test", "cn=reader", "secret"))
    tables["radius"]["protocols"] = ["pap"]
    assert SettingsFile(tables).mfa_server().users[1].password == ""
    del tables["users"][1]["phone"]
    with pytest.raises(ValueError, match=r"^users\[1\]\.phone: is missing$"):
        SettingsFile(tables).mfa_server()
