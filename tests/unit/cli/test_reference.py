from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mfalb.cli import command_line
from mfalb.cli.services import SERVICES
from mfalb.reference.config.files import write_settings
from mfalb.reference.config.mfa_server import MfaServerSettings, RadiusSettings
from mfalb.reference.config.values import Account, Endpoint

RADIUS = RadiusSettings(Endpoint(), "127.0.0.0/8", "radius-secret")
ACCOUNT = Account("svc", "secret-of-the-account")


def settings(path: Path, control: Endpoint | None) -> Path:
    write_settings(
        path, MfaServerSettings("mfa1", "http://cloud.test", Endpoint(), RADIUS, ACCOUNT, (), control=control)
    )
    return path


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_has_a_start_and_a_command(name: str) -> None:
    assert callable(importlib.import_module(SERVICES[name]).start)
    assert CliRunner().invoke(command_line(), ["reference", name, "--help"]).exit_code == 0


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_misspelt_setting_is_told_with_what_was_meant_by_every_service(tmp_path: Path, name: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"controll": {"port": 0}}')
    ended = CliRunner().invoke(command_line(), ["reference", name, "-c", str(path)])
    assert ended.exit_code == 1
    assert ended.output == f"mfalb reference: {path}: controll: there is no such setting; did you mean control?\n"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": "mfa1", "group": {"rpc": 7}}'])
def test_settings_that_make_no_sense_end_a_service_with_a_line_and_no_traceback(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mfa1.json"
    path.write_text(text)
    for command in ("mfa-server", "promote"):
        ended = CliRunner().invoke(command_line(), ["reference", command, "-c", str(path)])
        assert ended.exit_code == 1
        assert ended.output.startswith(f"mfalb reference: {path}: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = CliRunner().invoke(command_line(), ["reference", "cloud", "-c", str(tmp_path / "missing.json")])
    assert ended.exit_code == 1
    assert "missing.json" in ended.output


@pytest.mark.parametrize("control", [None, Endpoint()])
def test_a_server_without_a_control_port_cannot_be_spoken_to(tmp_path: Path, control: Endpoint | None) -> None:
    path = settings(tmp_path / "mfa1.json", control)
    for words in (["promote"], ["rejoin", "--discard-local"], ["status"]):
        ended = CliRunner().invoke(command_line(), ["reference", *words, "-c", str(path)])
        assert ended.exit_code == 1
        assert "`control`" in ended.output
        assert "secret" not in ended.output
