from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfalb.reference.config.files import SettingsFile, write_settings
from mfalb.reference.config.mfa_server import GroupSettings, MfaServerSettings, RadiusSettings
from mfalb.reference.config.tables import read_table
from mfalb.reference.config.values import Account, Endpoint

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
