from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mfalb.reference.cloud_service.groups import Group, Member, ServerKind
from mfalb.reference.cloud_service.groups_file import load, save

MEMBERS = {
    "mfa1": Member(ServerKind.STANDALONE, "10.0.1.11:4443", "key-1"),
    "mfa2": Member(ServerKind.STANDALONE, "[::1]:4443", "key-2"),
}
GROUPS = {"contoso": Group("contoso", "mfa2", 7, MEMBERS), "fabrikam": Group("fabrikam", "mfa1", 1, MEMBERS)}


def test_what_was_saved_is_loaded_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    save(path, {"contoso": GROUPS["fabrikam"]})
    save(path, GROUPS)
    assert load(path) == GROUPS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["groups.json"], "no draft stays behind"


def test_no_file_is_no_groups(tmp_path: Path) -> None:
    assert load(tmp_path / "groups.json") == {}


def test_a_draft_that_a_crash_left_half_written_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    save(path, GROUPS)
    (tmp_path / "groups.json.new").write_text('{"contoso": {"mas')
    assert load(path) == GROUPS
    save(path, GROUPS)
    assert load(path) == GROUPS


@pytest.mark.parametrize(
    "text", ["", "{", '{"contoso": {}}', '{"contoso": {"master": "mfa3", "epoch": 1, "members": {}}}', "[]"]
)
def test_a_broken_file_is_an_error_and_not_an_empty_registry(tmp_path: Path, text: str) -> None:
    path = tmp_path / "groups.json"
    path.write_text(text)
    with pytest.raises((ValueError, KeyError, AttributeError)):
        load(path)
