from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mfalb.reference.config.adfs import AdfsSettings, RelyingPartyTrust
from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.files import Settings, SettingsFile, write_settings
from mfalb.reference.config.mfa_server import (
    CallerCertificates,
    GroupSettings,
    MfaServerSettings,
    RadiusSettings,
    ServerKind,
)
from mfalb.reference.config.mobile_app import MobileAppSettings
from mfalb.reference.config.portal import PortalSettings
from mfalb.reference.config.relying_party import RelyingPartySettings
from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Account, Endpoint, Method, StateKind, User

ACCOUNT = Account("CONTOSO\\svc-mfa", 'quotes " and \\ and é')
USERS = (User("alice", "pässwörd", "+1 555 0101"), User("bob", "password-b", "+1 555 0102", Method.PHONE_CALL))
TLS = Endpoint("127.0.0.2", 8443, "chain.pem", "key.pem")
PLAIN = RadiusSettings(Endpoint(), "127.0.0.0/8", "radius-secret")
OLD_NAS = RadiusSettings(
    TLS, "2001:db8::/32", "radius-secret", StateKind.CONSTANT, requires_message_authenticator=False
)
GROUP = GroupSettings("hq", "activation-secret", "PhoneFactor.pfdata", TLS, "ca.pem")
OTHER_GROUP = replace(GROUP, kind=ServerKind.STANDALONE, rpc_address="mfa1.test:4443", kept_changes=7, poll_s=1.5)
SDK = SdkAccess("https://127.0.0.1:2/", None, ACCOUNT)
SDK_BY_CERTIFICATE = SdkAccess("https://127.0.0.1:2/", "ca.pem", None, "me.pem", "me.key")
TRUST = RelyingPartyTrust("expenses", ("https://expenses.example/token",))
FARM = ("farm.key", "token.pem", "token.key")
Reader = Callable[[SettingsFile], Settings]

SETTINGS: list[tuple[Settings, Reader]] = [
    (CloudSettings(), SettingsFile.cloud),
    (CloudSettings(TLS, 0.25), SettingsFile.cloud),
    (MfaServerSettings("mfa1", "http://127.0.0.1:1", Endpoint(), PLAIN, ACCOUNT, USERS), SettingsFile.mfa_server),
    (MfaServerSettings("mfa1", "http://127.0.0.1:1", TLS, OLD_NAS, ACCOUNT, (), control=TLS), SettingsFile.mfa_server),
    (MfaServerSettings("mfa1", "http://127.0.0.1:1", TLS, PLAIN, ACCOUNT, USERS, GROUP), SettingsFile.mfa_server),
    (
        MfaServerSettings(
            "mfa1",
            "http://127.0.0.1:1",
            TLS,
            PLAIN,
            ACCOUNT,
            USERS,
            OTHER_GROUP,
            TLS,
            CallerCertificates("ca", ("ab",)),
        ),
        SettingsFile.mfa_server,
    ),
    (PortalSettings("portal1", Endpoint(), SDK), SettingsFile.portal),
    (PortalSettings("portal1", TLS, SDK_BY_CERTIFICATE, "https://app.example/", TLS), SettingsFile.portal),
    (MobileAppSettings("app1", Endpoint(), SDK), SettingsFile.mobile_app),
    (MobileAppSettings("app1", TLS, SDK_BY_CERTIFICATE, 5.0, TLS), SettingsFile.mobile_app),
    (AdfsSettings("adfs1", TLS, SDK, "https://adfs.example/adfs", *FARM, (TRUST,)), SettingsFile.adfs),
    (AdfsSettings("adfs1", TLS, SDK, "https://adfs.example/adfs", *FARM, (), 60, TLS), SettingsFile.adfs),
    (
        RelyingPartySettings("party", TLS, "expenses", TRUST.redirect_uris[0], "https://i", "ca"),
        SettingsFile.relying_party,
    ),
]


@pytest.mark.parametrize(("settings", "read"), SETTINGS)
def test_settings_are_read_back_as_they_were_written(tmp_path: Path, settings: Settings, read: Reader) -> None:
    path = tmp_path / "settings.json"
    write_settings(path, settings)
    assert read(SettingsFile.read(path)) == settings


def test_settings_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    write_settings(path, CloudSettings())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_there_already_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("somebody else's")
    with pytest.raises(FileExistsError):
        write_settings(path, CloudSettings())
    assert path.read_text() == "somebody else's"


def test_a_link_laid_in_the_way_is_not_followed(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "settings.json", tmp_path / "elsewhere"
    path.symlink_to(elsewhere)
    with pytest.raises(FileExistsError):
        write_settings(path, CloudSettings())
    assert not elsewhere.exists()


def test_a_value_that_json_cannot_hold_is_refused_by_its_type_and_not_shown(tmp_path: Path) -> None:
    settings = CloudSettings(answer_delay_s=b"a-secret")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match="bytes has no place in a settings file") as refusal:
        write_settings(tmp_path / "settings.json", settings)
    assert "a-secret" not in str(refusal.value)


def test_yaml_is_read_where_the_file_is_named_so_and_defaults_are_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "mfa1.yaml"
    path.write_text(
        """
        name: mfa1
        cloud_url: https://pfd.test
        sdk: {host: 0.0.0.0, port: 443, cert: sdk.pem, key: sdk.key}
        radius: {endpoint: {port: 1812}, client_network: 10.0.0.0/8, secret: radius-secret}
        account: {name: svc, password: secret}
        group: {name: hq, activation_code: code, data: PhoneFactor.pfdata, rpc: {cert: c, key: k}, ca: ca.pem}
        """
    )
    settings = SettingsFile.read(path).mfa_server()
    assert settings.group is not None
    assert (settings.group.rpc.port, settings.group.kind) == (4443, ServerKind.DOMAIN_JOINED)
    assert (settings.users, settings.control, settings.radius.state) == ((), None, StateKind.UNIQUE)


@pytest.mark.parametrize("text", ["a: [", "- a", "", "a: !!python/object:os.system x"])
def test_yaml_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mfa1.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"."):
        SettingsFile.read(path)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        SettingsFile.read(path)


@pytest.mark.parametrize("settings", [settings for settings, _ in SETTINGS])
def test_settings_show_no_secret(settings: Settings) -> None:
    shown = repr(settings)
    assert not [
        secret
        for secret in ("radius-secret", "pässwörd", "password-b", "quotes", "activation-secret")
        if secret in shown
    ]


@pytest.mark.parametrize("wait_s", [0, -1, 121])
def test_a_mobile_app_service_waits_for_pushes_as_long_as_people_do(wait_s: float) -> None:
    tables = {"name": "app1", "endpoint": {}, "sdk": {"url": "u", "cert": "c", "key": "k"}, "push_wait_s": wait_s}
    with pytest.raises(ValueError, match="push_wait_s"):
        SettingsFile(tables).mobile_app()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("users: [{name: alice, password: a-secret: b}]", "line 1, column 41: expected ..."),
        ("name: mfa1\npassword: a-secret: b", "line 2, column 19: mapping values are not allowed here"),
        ('name: mfa1\npassword_hash: {salt: "a-secret', "line 2, column 32: found unexpected end of stream"),
        ("password: !a-secret x", "line 1, column 11: could not determine a constructor for the tag ..."),
        ("password: *a-secret", "line 1, column 11: found undefined alias ..."),
        ("password: p\npassword: a-secret", "line 2, column 1: found duplicate key ..."),
        ("password: \x07a-secret", "this is no YAML"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place_and_without_what_stands_there(
    tmp_path: Path, text: str, fault: str
) -> None:
    path = tmp_path / "mfa1.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".") as refusal:
        SettingsFile.read(path)
    assert str(refusal.value).startswith(fault)
    assert "secret" not in str(refusal.value)
