from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.files import Settings, SettingsFile, write_settings
from mfalb.reference.config.mfa_server import MfaServerSettings, RadiusSettings
from mfalb.reference.config.portal import PortalSettings
from mfalb.reference.config.values import Account, Endpoint, Method, StateKind, User

ACCOUNT = Account("CONTOSO\\svc-mfa", 'quotes " and \\ and é')
USERS = (User("alice", "pässwörd", "+1 555 0101"), User("bob", "password-b", "+1 555 0102", Method.PHONE_CALL))
TLS = Endpoint("127.0.0.2", 8443, "chain.pem", "key.pem")
PLAIN = RadiusSettings(Endpoint(), "127.0.0.0/8", "radius-secret")
OLD_NAS = RadiusSettings(
    TLS, "2001:db8::/32", "radius-secret", StateKind.CONSTANT, requires_message_authenticator=False
)
Reader = Callable[[SettingsFile], Settings]

SETTINGS: list[tuple[Settings, Reader]] = [
    (CloudSettings(), SettingsFile.cloud),
    (CloudSettings(TLS, 0.25), SettingsFile.cloud),
    (MfaServerSettings("mfa1", "http://127.0.0.1:1", Endpoint(), PLAIN, ACCOUNT, USERS), SettingsFile.mfa_server),
    (MfaServerSettings("mfa1", "http://127.0.0.1:1", TLS, OLD_NAS, ACCOUNT, (), TLS), SettingsFile.mfa_server),
    (PortalSettings("portal1", Endpoint(), "https://127.0.0.1:2/", None, ACCOUNT, USERS), SettingsFile.portal),
    (PortalSettings("portal1", TLS, "https://127.0.0.1:2/", "ca.pem", ACCOUNT, USERS[:1]), SettingsFile.portal),
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


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        SettingsFile.read(path)


@pytest.mark.parametrize("settings", [settings for settings, _ in SETTINGS])
def test_settings_show_no_secret(settings: Settings) -> None:
    shown = repr(settings)
    assert not [secret for secret in ("radius-secret", "pässwörd", "password-b", "quotes") if secret in shown]
