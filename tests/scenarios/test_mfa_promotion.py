"""Promise: while the master is away sign-ins go on and writes fail clearly; a server is promoted by an operator and by
nobody else; and an old master that comes back never overwrites what came after it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest
import requests
from programs.mfa_group import ACCOUNT, MfaGroup, MfaServer, wait_until_level
from programs.ports import LOOPBACK
from programs.process import wait_until

NO_MASTER = 4
DIVERGENT = 12
PHONE = "+1 555 0199"


@pytest.fixture
def group(tmp_path: Path) -> Iterator[MfaGroup]:
    with MfaGroup(tmp_path) as running:
        yield running


def add(server: MfaServer, user: str) -> None:
    answer = server.call("AddUser", user=user, phone=PHONE)
    assert answer.is_good, answer.texts


def promote(server: MfaServer, *, epoch: int) -> None:
    told = server.operator("promote")
    assert told.returncode == 0, told.stderr
    assert told.stdout == f"{server.name} is the master now (epoch {epoch}).\n"


def sign_in(group: MfaGroup, server: MfaServer) -> None:
    """Alice, by one-way SMS: both halves at one server."""
    begun = server.call("PfAuthUser_4", username="alice")
    assert begun.is_good, begun.texts
    code = group.codes("alice")[0]
    verified = server.call("VerifyOneWayOtp", username="alice", authreqid=begun.texts["authreqid"], otp=code)
    assert verified.is_good


def test_while_the_master_is_away_sign_ins_go_on_and_writes_fail_clearly(group: MfaGroup) -> None:
    master, slave = group.pair()
    master.kill()
    sign_in(group, slave)
    for operation, texts in (
        ("AddUser", {"user": "carol", "phone": PHONE}),
        ("ChangeUserPin", {"user": "alice", "newPin": "4711"}),
        ("OneTimeBypass", {"user": "alice", "seconds": "60"}),
    ):
        refused = slave.call(operation, **texts)
        assert not refused.is_good
        assert (refused.code, refused.texts["Description"]) == (NO_MASTER, "The master server cannot be reached.")
    wait_until(lambda: not slave.call("TestMasterConnection").is_good, "the slave to miss its master")
    assert slave.status()["role"] == "slave", "nobody is promoted by itself"


def test_promotion_restores_writes_and_the_old_master_steps_down_when_it_comes_back(group: MfaGroup) -> None:
    old, new = group.pair()
    add(old, "before")
    wait_until_level(old, new)
    old.kill()
    promote(new, epoch=2)
    add(new, "after")
    old.start()
    old.wait_for("slave", epoch=2)
    wait_until_level(old, new)
    assert {"before", "after"} <= old.users()
    add(old, "passed-on-by-the-old-master")
    wait_until_level(old, new)
    assert old.status()["divergence"] == ""


def test_a_promotion_beside_a_living_master_loses_nothing(group: MfaGroup) -> None:
    old, new = group.pair()
    for number in range(20):
        add(old, f"user{number}")
    promote(new, epoch=2)
    old.wait_for("slave", epoch=2)
    add(new, "after")
    wait_until_level(old, new)
    assert len(old.users()) == 23
    promote(old, epoch=3)  # and back again
    new.wait_for("slave", epoch=3)
    add(new, "and-back")
    wait_until_level(old, new)


def test_the_other_slaves_follow_the_new_master(group: MfaGroup) -> None:
    old, new = group.pair()
    third = group.start("mfa3")
    third.wait_for("slave")
    wait_until_level(old, new, third)
    old.kill()
    promote(new, epoch=2)
    third.wait_for("slave", epoch=2)
    add(third, "by-way-of-the-third")
    wait_until_level(new, third)
    assert "by-way-of-the-third" in new.users()


def test_an_old_master_with_writes_that_nobody_saw_is_divergent_until_an_operator_discards_them(
    group: MfaGroup,
) -> None:
    old, new = group.pair()
    wait_until_level(old, new)
    new.kill()
    add(old, "seen-by-nobody")
    old.kill()
    new.start()
    new.wait_until_confirmed()
    promote(new, epoch=2)
    add(new, "newer")
    old.start()
    wait_until(lambda: bool(old.status()["divergence"]), "the old master to see that its past is another")
    refused = old.call("AddUser", user="carol", phone=PHONE)
    assert (refused.is_good, refused.code) == (False, DIVERGENT)
    assert "mfalb reference rejoin --discard-local" in old.status()["divergence"]
    assert not old.call("TestMasterConnection").is_good
    sign_in(group, old)
    assert "newer" not in old.users()
    assert "seen-by-nobody" not in new.users(), "newer data is never overwritten"
    for words in (("promote",), ("rejoin",)):
        assert old.operator(*words).returncode == 1, "neither by mistake"
    rejoined = old.operator("rejoin", "--discard-local")
    assert rejoined.returncode == 0, rejoined.stderr
    old.wait_for("slave", epoch=2)
    wait_until_level(old, new)
    assert "seen-by-nobody" not in old.users()
    (copy,) = re.findall(r"kept in (\S+)", rejoined.stdout)
    assert b"seen-by-nobody" in Path(copy).read_bytes()
    assert Path(copy).stat().st_mode & 0o077 == 0


def test_a_server_killed_in_the_middle_of_its_promotion_is_one_or_the_other_and_the_group_is_whole(
    group: MfaGroup,
) -> None:
    master, slave = group.pair()
    for delay_s in (0.0, 0.02, 0.05, 0.1):
        kill_in_promotion(master, slave, delay_s)
        if slave.status()["role"] == "master":
            master, slave = slave, master
    assert master.status()["divergence"] == slave.status()["divergence"] == ""


def kill_in_promotion(master: MfaServer, slave: MfaServer, delay_s: float) -> None:
    """Begin to promote the slave, kill it so much later, and see that the group takes writes again."""
    add(master, f"before-{delay_s}")
    wait_until_level(master, slave)
    with ThreadPoolExecutor(1) as operator:
        promotion = operator.submit(ask_for_promotion, slave)
        Event().wait(delay_s)
        slave.kill()
        promotion.result()
    slave.start()
    wait_until(lambda: sorted(roles(master, slave)) == ["master", "slave"], "one master to be left", deadline_s=30)
    wait_until(
        lambda: master.call("AddUser", user=f"after-{delay_s}", phone=PHONE).is_good, "writes to be made", deadline_s=30
    )
    wait_until_level(master, slave)


def ask_for_promotion(server: MfaServer) -> None:
    """What the command does, without the time that a command takes to begin."""
    headers = {"Authorization": ACCOUNT.authorization}
    with suppress(requests.RequestException):
        requests.post(f"http://{LOOPBACK}:{server.control.port}/promotion", json={}, headers=headers, timeout=30)


def roles(*servers: MfaServer) -> list[str]:
    """The roles of confirmed servers that agree about the epoch; otherwise none."""
    statuses = [server.status() for server in servers]
    is_agreed = len({status["epoch"] for status in statuses}) == 1
    return [status["role"] for status in statuses if status["is_confirmed_by_cloud"] and is_agreed]


def test_a_master_that_lost_its_file_overwrites_nobody(group: MfaGroup) -> None:
    master, slave = group.pair()
    add(master, "precious")
    wait_until_level(master, slave)
    master.kill()
    shutil.rmtree(master.data.parent)
    master.data.parent.mkdir()
    master.start()
    master.wait_for("master")
    wait_until(lambda: bool(slave.status()["divergence"]), "the slave to see that its master has forgotten it all")
    assert "precious" in slave.users()
    assert "precious" not in master.users()


def test_a_server_says_why_it_cannot_be_promoted(group: MfaGroup) -> None:
    master, slave = group.pair()
    for server, reason in ((master, "the master already"), (slave, "cannot be reached")):
        if server is slave:
            group.cloud.stop()
        told = server.operator("promote")
        assert told.returncode == 1
        assert reason in told.stderr
    assert slave.status()["role"] == "slave"
    wait_until(
        lambda: master.call("AddUser", user="still-written", phone=PHONE).is_good, "the master to resume", deadline_s=30
    )


def test_who_does_not_know_the_account_promotes_nobody(group: MfaGroup) -> None:
    master, slave = group.pair()
    text = slave.settings_file.read_text()
    slave.settings_file.write_text(text.replace("password-of-the-service", "another"))
    told = slave.operator("promote")
    assert told.returncode == 1
    assert "account" in told.stderr
    assert (master.status()["role"], slave.status()["role"]) == ("master", "slave")
    master.kill()
    assert "does not answer" in master.operator("status").stderr
