from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mfalb.errors import MalformedMessage
from mfalb.reference.mfa_server.group.messages import SnapshotBegins
from mfalb.reference.mfa_server.group.snapshot_file import IncomingSnapshot, description

CONTENT = bytes(range(256)) * 10


def test_a_file_that_came_in_pieces_is_complete_with_the_last_one_and_gone_afterwards(tmp_path: Path) -> None:
    source, path = tmp_path / "source", tmp_path / "incoming"
    source.write_bytes(CONTENT)
    path.write_bytes(b"of a process that was killed")
    with IncomingSnapshot(path, description(source)) as incoming:
        assert [incoming.add(CONTENT[start : start + 1000]) for start in (0, 1000, 2000)] == [False, False, True]
        assert path.read_bytes() == CONTENT
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_a_file_that_is_longer_or_another_than_it_was_told_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    for content, reason in ((CONTENT + b"x", "snapshot_too_long"), (bytes(len(CONTENT)), "snapshot_damaged")):
        snapshot = IncomingSnapshot(tmp_path / "incoming", description(source))
        with snapshot as incoming, pytest.raises(MalformedMessage, match=reason):
            incoming.add(content)
    assert not (tmp_path / "incoming").exists()


def test_a_file_is_described_by_its_size_and_its_digest(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4's own example
    assert description(source) == SnapshotBegins(3, digest)
