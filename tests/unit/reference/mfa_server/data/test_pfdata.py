from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import apsw
import pytest

from mfalb.reference.mfa_server.data.pfdata import DataError, Misfit, Pfdata, snapshot_position
from mfalb.reference.mfa_server.data.position import Change, Epoch, Position
from mfalb.reference.mfa_server.data.records import find_user
from mfalb.reference.mfa_server.data.writes import perform

NOW = 1_000_000.0


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Pfdata]:
    with Pfdata(tmp_path / "master.pfdata") as data:
        data.begin_epoch(1)
        yield data


@pytest.fixture
def slave(tmp_path: Path) -> Iterator[Pfdata]:
    with Pfdata(tmp_path / "slave.pfdata") as data:
        yield data


def add(data: Pfdata, *names: str) -> None:
    for name in names:
        data.write(lambda db, name=name: perform(db, "AddUser", {"user": name, "phone": "+1"}, NOW), NOW)  # type: ignore[misc]


def copy(master: Pfdata, slave: Pfdata) -> None:
    for change in master.changes_after(slave.position().sequence):
        slave.apply(change)
    slave.adopt_history(master.history())


def test_each_write_is_one_change_in_an_order_without_gaps(master: Pfdata) -> None:
    add(master, "alice", "bob", "carol")
    changes = master.changes_after(0)
    assert [change.position for change in changes] == [Position(1, 1), Position(1, 2), Position(1, 3)]
    assert [change.position.sequence for change in master.changes_after(2)] == [3]
    assert master.changes_after(3) == []


def test_a_slave_that_applies_all_changes_has_the_same_data_at_the_same_position(master: Pfdata, slave: Pfdata) -> None:
    add(master, "alice", "bob")
    master.write(lambda db: perform(db, "UpdateUser", {"user": "bob", "phone": "+2"}, NOW), NOW)
    master.write(lambda db: perform(db, "ChangeUserPin", {"user": "bob", "newPin": "4711"}, NOW), NOW)
    master.write(lambda db: perform(db, "OneTimeBypass", {"user": "bob"}, NOW), NOW)
    master.write(lambda db: perform(db, "UseBypass", {"user": "bob"}, NOW), NOW)
    assert slave.digest() != master.digest()
    copy(master, slave)
    assert (slave.digest(), slave.position()) == (master.digest(), Position(1, 6))
    assert slave.changes_after(0) == master.changes_after(0), "a slave may be the next master"


def test_what_changes_nothing_is_no_change(master: Pfdata) -> None:
    add(master, "alice")
    master.write(lambda db: perform(db, "UseBypass", {"user": "alice"}, NOW), NOW)
    assert master.position() == Position(1, 1)


def test_a_write_that_fails_leaves_everything_as_it_was(master: Pfdata) -> None:
    add(master, "alice")
    before = (master.digest(), master.position())

    def fail(db: apsw.Connection) -> NoReturn:
        db.execute("DELETE FROM users")
        raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        master.write(fail, NOW)
    with pytest.raises(DataError, match="SQLError"):
        master.write(lambda db: db.execute("no SQL"), NOW)
    assert (master.digest(), master.position()) == before
    add(master, "bob")


def test_a_change_that_comes_twice_or_too_early_does_not_fit(master: Pfdata, slave: Pfdata) -> None:
    add(master, "alice", "bob", "carol")
    first, second, third = master.changes_after(0)
    slave.apply(first)
    for change in (first, third):
        with pytest.raises(Misfit, match="does not follow 1"):
            slave.apply(change)
    slave.apply(second)
    assert slave.position() == Position(1, 2)


def test_a_change_to_a_row_that_is_not_as_it_was_does_not_fit_and_changes_nothing(
    master: Pfdata, slave: Pfdata
) -> None:
    add(master, "alice")
    copy(master, slave)
    slave.begin_epoch(2)
    add(slave, "somebody-else")
    add(master, "bob")
    master.write(lambda db: perform(db, "UpdateUser", {"user": "bob", "phone": "+2"}, NOW), NOW)
    before = (slave.digest(), slave.position())
    change = replace(master.changes_after(2)[0], position=Position(2, 3))
    with pytest.raises(Misfit, match="does not fit"):
        slave.apply(change)
    assert (slave.digest(), slave.position()) == before


@pytest.mark.parametrize("changeset", [b"\xff" * 40, b"T\x02\x01\x00users\x00\x12"])
def test_a_changeset_that_is_none_is_refused(slave: Pfdata, changeset: bytes) -> None:
    with pytest.raises(DataError):
        slave.apply(Change(Position(1, 1), NOW, changeset))
    assert slave.position() == Position(0, 0)


def test_a_changeset_touches_the_group_s_tables_and_no_others(master: Pfdata, slave: Pfdata) -> None:
    with apsw.Connection(":memory:") as db:
        db.execute("CREATE TABLE epochs (number INTEGER PRIMARY KEY, after_sequence INTEGER NOT NULL)")
        session = apsw.Session(db, "main")
        session.attach("epochs")
        db.execute("INSERT INTO epochs VALUES (77, 0)")
        changeset = session.changeset()
        session.close()
    slave.apply(Change(Position(1, 1), NOW, changeset))
    assert slave.history() == ()


def test_the_log_reaches_back_as_far_as_it_is_kept(tmp_path: Path) -> None:
    with Pfdata(tmp_path / "short.pfdata", kept_changes=2) as data:
        data.begin_epoch(1)
        add(data, "a", "b", "c", "d")
        assert [data.has_changes_after(sequence) for sequence in range(5)] == [False, False, True, True, True]
        assert [change.position.sequence for change in data.changes_after(0)] == [3, 4]


def test_a_snapshot_is_all_of_it_at_one_moment_and_for_its_owner_only(
    tmp_path: Path, master: Pfdata, slave: Pfdata
) -> None:
    add(master, "alice", "bob")
    add(slave, "somebody-else")
    path = tmp_path / "snapshot"
    assert master.save_snapshot(path) == Position(1, 2)
    add(master, "carol")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    slave.load_snapshot(path)
    assert (slave.position(), slave.history()) == (Position(1, 2), (Epoch(1, 0),))
    assert slave.read(lambda db: find_user(db, "somebody-else")) is None
    copy(master, slave)
    assert slave.digest() == master.digest()


def test_a_snapshot_that_is_damaged_is_not_loaded(tmp_path: Path, master: Pfdata, slave: Pfdata) -> None:
    add(slave, "alice")
    before = slave.digest()
    path = tmp_path / "snapshot"
    master.save_snapshot(path)
    for content in (b"", b"no database at all" * 100, path.read_bytes()[:6000]):
        path.write_bytes(content)
        with pytest.raises(DataError):
            slave.load_snapshot(path)
    assert slave.digest() == before


def test_a_snapshot_goes_into_no_file_that_is_there(tmp_path: Path, master: Pfdata) -> None:
    path = tmp_path / "precious"
    path.write_bytes(b"somebody else's")
    with pytest.raises(FileExistsError):
        master.save_snapshot(path)


def test_each_epoch_begins_after_what_was_there(master: Pfdata) -> None:
    add(master, "alice", "bob")
    master.begin_epoch(3)
    add(master, "carol")
    assert master.history() == (Epoch(1, 0), Epoch(3, 2))
    assert (master.epoch(), master.position()) == (3, Position(3, 3))
    for number in (2, 3):
        with pytest.raises(DataError, match="is not after epoch 3"):
            master.begin_epoch(number)


def test_an_epoch_that_began_after_what_a_server_has_is_none_of_its_past(master: Pfdata, slave: Pfdata) -> None:
    add(master, "alice", "bob")
    slave.apply(master.changes_after(0)[0])
    slave.adopt_history((Epoch(1, 0), Epoch(2, 2)))
    slave.begin_epoch(3)
    assert slave.history() == (Epoch(1, 0), Epoch(3, 1))


def test_a_file_keeps_what_was_written_and_belongs_to_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "kept.pfdata"
    with Pfdata(path) as data:
        data.begin_epoch(1)
        add(data, "alice")
        digest = data.digest()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Pfdata(path) as data:
        assert (data.digest(), data.position()) == (digest, Position(1, 1))


def test_readers_cannot_write(master: Pfdata) -> None:
    with pytest.raises(DataError, match="ReadOnlyError"):
        master.read(lambda db: db.execute("DELETE FROM users"))


def test_a_file_of_another_format_or_none_at_all_is_refused(tmp_path: Path) -> None:
    newer, noise = tmp_path / "newer.pfdata", tmp_path / "noise.pfdata"
    with apsw.Connection(str(newer)) as db:
        db.execute("PRAGMA user_version = 99")
    noise.write_bytes(b"no database at all" * 100)
    for path in (newer, noise, tmp_path / "no-such-directory" / "file"):
        with pytest.raises(DataError):
            Pfdata(path)
    with pytest.raises(DataError):
        snapshot_position(newer)
