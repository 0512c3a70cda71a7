"""Promise: a write that was answered is on every server of the group in the end, whatever is killed and whenever.

SOAK_REPLICATION_KILLS is how many times a server is killed, 10 by default.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import pytest
from programs.mfa_group import (
    MfaGroup,
    MfaServer,
    NoAnswer,
    wait_until_level,
    with_group,
)
from programs.process import wait_until

KILLS: Final = int(os.environ.get("SOAK_REPLICATION_KILLS", "10"))
PHONE: Final = "+1 555 0199"


@pytest.fixture
def group(tmp_path: Path) -> Iterator[MfaGroup]:
    with MfaGroup(tmp_path) as running:
        yield running


def add(server: MfaServer, user: str) -> None:
    answer = server.call("AddUser", user=user, phone=PHONE)
    assert answer.is_good, answer.texts


class Writer:
    """Adds users by way of one server, one after another, as long as it is told to; keeps the names that were answered.

    Whatever was not answered may be there or not; whatever was answered has to be.
    """

    def __init__(self, server: MfaServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"writer at {server.name}")
        self.answered: list[str] = []
        self.tried = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            name = f"{self._server.name}-{self.tried}"
            self.tried += 1
            with suppress(NoAnswer):
                if self._server.call("AddUser", user=name, phone=PHONE).is_good:
                    self.answered.append(name)
                    continue
            self._stop.wait(0.02)


# ------------------------------------------------------------------------------------ without deaths


def test_a_write_anywhere_is_soon_everywhere_and_at_once_where_it_was_asked_for(group: MfaGroup) -> None:
    master, slave = group.pair()
    add(master, "written-at-the-master")
    add(slave, "written-at-the-slave")
    assert "written-at-the-slave" in slave.users(), "whoever writes reads it back from the same server"
    wait_until_level(master, slave)
    assert slave.users() == {"alice", "bob", "written-at-the-master", "written-at-the-slave"}
    wait_until(lambda: slave.status()["lag"]["seconds"] == 0, "the slave to know that it is level")
    assert slave.status()["lag"] == {"changes": 0, "seconds": 0}


def test_nobody_but_the_replicator_can_write_a_slave_s_copy(group: MfaGroup) -> None:
    _, slave = group.pair()
    assert slave.data.stat().st_mode & 0o077 == 0
    assert "alice" in slave.users(), "it is read while it is replicated"
    assert slave.status()["snapshots_taken"] == 1


def test_a_slave_that_was_away_takes_what_it_missed_and_no_snapshot(group: MfaGroup) -> None:
    master, slave = group.pair()
    slave.kill()
    for number in range(30):
        add(master, f"user{number}")
    slave.start()
    wait_until_level(master, slave)
    assert slave.status()["snapshots_taken"] == 0
    assert len(slave.users()) == 32


def test_a_slave_that_is_further_behind_than_the_log_reaches_takes_a_snapshot(tmp_path: Path) -> None:
    with MfaGroup(tmp_path, kept_changes=5) as group:
        master, slave = group.pair()
        slave.kill()
        for number in range(8):
            add(master, f"user{number}")
        slave.start()
        wait_until_level(master, slave)
        assert slave.status()["snapshots_taken"] == 1
        add(slave, "after-the-snapshot")
        wait_until_level(master, slave)
        assert not list(slave.data.parent.glob("*.incoming*")), "nothing of a snapshot is left lying about"
        assert not list(master.data.parent.glob("*.snapshot*"))


def test_lag_is_told_while_a_slave_is_cut_off_and_made_up_afterwards(group: MfaGroup) -> None:
    master, slave = group.pair()
    wait_until(lambda: slave.status()["lag"]["seconds"] is not None, "the slave to have been level once")
    slave.set_faults(master_lost=True)
    wait_until(lambda: not slave.status()["is_master_reached"], "the slave to miss its master")
    assert not slave.call("TestMasterConnection").is_good
    add(master, "unseen")
    wait_until(lambda: slave.status()["lag"]["seconds"] > 1.5, "the slave to know how old its data is")
    assert "unseen" not in slave.users()
    slave.set_faults(master_lost=False)
    wait_until_level(master, slave)
    wait_until(lambda: slave.call("TestMasterConnection").is_good, "the slave to reach its master")


# ------------------------------------------------------------------------------------ with deaths


def test_whichever_side_is_killed_and_whenever_no_answered_write_is_lost_and_the_copies_are_one(
    group: MfaGroup,
) -> None:
    master, slave = group.pair()
    chance = random.Random(20261128)  # noqa: S311 - which moment is no secret
    kills = {server.name: 0 for server in (master, slave)}
    with Writer(master) as at_master, Writer(slave) as at_slave:
        for kill in range(KILLS):
            either = ((master,), (slave,), (master, slave))
            victims = either[kill] if kill < len(either) else chance.choice(either)
            wait_until(progress(at_master, at_slave), "writes to be answered", deadline_s=60)
            threading.Event().wait(chance.uniform(0.0, 0.3))  # any moment will do, and this makes it any moment
            for victim in victims:
                victim.kill()
                kills[victim.name] += 1
            for victim in victims:
                victim.start()
        wait_until(progress(at_master, at_slave), "writes to be answered after the last death", deadline_s=60)
    wait_until_level(master, slave)
    answered = {*at_master.answered, *at_slave.answered}
    assert sum(kills.values()) >= KILLS
    assert min(kills.values()) > 0, "both sides have died"
    assert answered <= master.users(), f"lost: {sorted(answered - master.users())[:5]}"
    master.program.stop()
    slave.program.stop()
    assert master.digest() == slave.digest()


def progress(*writers: Writer) -> Callable[[], bool]:
    """True when each writer has had another write answered."""
    before = [len(writer.answered) for writer in writers]
    return lambda: all(len(writer.answered) > count for writer, count in zip(writers, before, strict=True))


def test_a_slave_that_is_killed_while_it_takes_a_snapshot_takes_another(tmp_path: Path) -> None:
    with MfaGroup(tmp_path, kept_changes=5) as group:
        master = group.start("mfa1")
        master.wait_for("master")
        for number in range(40):
            add(master, f"user{number}")
        slave = group.add(with_group(group.settings("mfa2"), poll_s=0.3))
        group.run(slave)
        for _ in range(3):
            slave.kill()
            slave.start()
        wait_until_level(master, slave)
        assert len(slave.users()) == 42
