from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from unit.reference.mfa_server.group.fakes import FakeRegistry

from mfalb.reference.config.values import User
from mfalb.reference.mfa_server.data.pfdata import Pfdata, snapshot_position
from mfalb.reference.mfa_server.data.position import Epoch, Position
from mfalb.reference.mfa_server.data.records import find_user
from mfalb.reference.mfa_server.data.writes import Texts, WriteRefused
from mfalb.reference.mfa_server.group.activation import CloudAway, CloudRefused, CloudRegistry, MembershipFile
from mfalb.reference.mfa_server.group.follower import Follower, Lag, MasterAway
from mfalb.reference.mfa_server.group.ledger import Ledger
from mfalb.reference.mfa_server.group.member import Member, NotPossible, Plan
from mfalb.reference.mfa_server.group.replication_server import DIVERGED
from mfalb.reference.mfa_server.group.standing import Membership, Role, Standing

ME, OTHER = "mfa1.test:4443", "mfa2.test:4443"
MASTER_1, SLAVE_1 = Membership(Role.MASTER, 1, ME), Membership(Role.SLAVE, 1, OTHER)
MASTER_2, SLAVE_2 = Membership(Role.MASTER, 2, ME), Membership(Role.SLAVE, 2, OTHER)
USERS = (User("alice", "password-a", "+1 555 0101"),)
ADD = {"user": "bob", "phone": "+1"}


@dataclass
class FakeFollower:
    """Follows nobody; what it was told to do is kept."""

    lag: Lag = field(default_factory=Lag)
    followed: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    gives: dict[str, str] | Exception = field(default_factory=lambda: MasterAway("not there"))
    wants_snapshot: bool = False
    is_heard: bool = True
    told: Callable[[str], None] = lambda _word: None

    async def run(self, master: str) -> None:
        self.followed.append(master)
        await asyncio.Event().wait()

    async def write(self, name: str, _texts: Texts) -> dict[str, str]:
        self.written.append(name)
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives

    def is_live(self, _now: float) -> bool:
        return self.is_heard


class Rig:
    """A member whose cloud and follower are the test's."""

    def __init__(self, pfdata: Pfdata) -> None:
        self.pfdata = pfdata
        self.standing = Standing()
        self.ledger = Ledger(pfdata, self.standing, lambda: 1_000_000.0)
        self.registry = FakeRegistry(MASTER_1)
        self.follower = FakeFollower()
        self.file = MembershipFile(pfdata.path.with_suffix(".membership.json"))
        self.member = Member(
            Plan("mfa1", ME, USERS, poll_s=60.0),
            self.ledger,
            self.standing,
            cast("CloudRegistry", self.registry),
            cast("Follower", self.follower),
        )

    async def hear(self, told: Membership | Exception) -> None:
        """The cloud says this."""
        self.registry.says = told
        await self.member._ask()
        await asyncio.sleep(0)  # whoever was told to follow begins


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Pfdata(tmp_path / "PhoneFactor.pfdata") as pfdata:
        yield Rig(pfdata)


async def test_the_first_server_of_a_group_is_its_master_and_takes_its_settings_users_over_once(rig: Rig) -> None:
    await rig.hear(MASTER_1)
    await rig.hear(MASTER_1)
    assert (rig.standing.role, rig.pfdata.history()) == (Role.MASTER, (Epoch(1, 0),))
    assert rig.pfdata.position() == Position(1, 1)
    assert rig.pfdata.read(lambda db: find_user(db, "alice")) is not None
    assert rig.file.read() == MASTER_1
    assert await rig.member.write("AddUser", ADD) == {}
    assert rig.member.is_master_reached


async def test_a_slave_follows_whom_the_cloud_names_and_passes_writes_on(rig: Rig) -> None:
    rig.follower.gives = {"activationCode": "1"}
    await rig.hear(SLAVE_1)
    assert rig.follower.followed == [OTHER]
    assert await rig.member.write("NewActivation", {"user": "alice"}) == {"activationCode": "1"}
    assert rig.pfdata.position() == Position(0, 0)
    moved = Membership(Role.SLAVE, 1, "mfa2.moved:4443")
    await rig.hear(moved)
    assert rig.follower.followed == [OTHER, "mfa2.moved:4443"]
    await rig.member.close()


async def test_without_the_cloud_a_server_stays_what_it_is(rig: Rig) -> None:
    await rig.hear(CloudAway("down"))
    assert rig.standing.role is Role.UNACTIVATED
    await rig.hear(MASTER_1)
    await rig.hear(CloudAway("down"))
    assert rig.standing.is_writable


async def test_a_refusal_is_kept_for_the_operator_until_the_cloud_changes_its_mind(rig: Rig) -> None:
    await rig.hear(CloudRefused("mixed group: ..."))
    assert (rig.standing.role, rig.standing.refusal) == (Role.UNACTIVATED, "mixed group: ...")
    await rig.hear(SLAVE_1)
    assert rig.standing.refusal == ""
    await rig.member.close()


async def test_a_master_steps_down_for_a_later_epoch_and_takes_no_more_writes_itself(rig: Rig) -> None:
    await rig.hear(MASTER_1)
    await rig.hear(SLAVE_2)
    assert (rig.standing.role, rig.follower.followed) == (Role.SLAVE, [OTHER])
    with pytest.raises(MasterAway):
        await rig.member.write("AddUser", ADD)
    assert rig.follower.written == ["AddUser"]
    await rig.member.close()


async def test_a_cloud_that_has_forgotten_makes_no_second_master_of_an_epoch(rig: Rig) -> None:
    await rig.hear(SLAVE_2)
    for told in (MASTER_1, Membership(Role.MASTER, 2, ME)):
        await rig.hear(told)
        assert (rig.standing.role, rig.standing.epoch) == (Role.SLAVE, 2)
    assert rig.pfdata.position() == Position(0, 0)
    await rig.member.close()


async def followed_some(rig: Rig) -> None:
    """Be a slave that has replicated something."""
    await rig.hear(SLAVE_1)
    rig.pfdata.adopt_history((Epoch(1, 0),))


async def test_promotion_is_told_to_the_cloud_first_and_then_begins_the_epoch(rig: Rig) -> None:
    await followed_some(rig)
    assert await rig.member.promote() == 2
    assert rig.registry.promotions == [2]
    assert (rig.standing.role, rig.standing.epoch, rig.pfdata.epoch()) == (Role.MASTER, 2, 2)
    assert rig.file.read() == MASTER_2
    assert rig.follower.written == ["Retire"]
    await rig.member.write("AddUser", ADD)
    assert rig.pfdata.position() == Position(2, 1)


@pytest.mark.parametrize("failure", [CloudAway("down"), CloudRefused("the next epoch is 3")])
async def test_a_promotion_that_the_cloud_does_not_record_changes_nothing(
    rig: Rig, failure: CloudAway | CloudRefused
) -> None:
    await followed_some(rig)
    rig.registry.promotion_fails = failure
    with pytest.raises(NotPossible, match=str(failure)):
        await rig.member.promote()
    assert (rig.standing.role, rig.pfdata.epoch()) == (Role.SLAVE, 1)
    await rig.member.close()


async def test_a_promotion_whose_end_a_crash_has_cut_off_is_made_good_at_the_next_start(rig: Rig) -> None:
    await followed_some(rig)
    await rig.hear(MASTER_2)
    assert (rig.standing.role, rig.pfdata.history()) == (Role.MASTER, (Epoch(1, 0), Epoch(2, 0)))
    assert rig.pfdata.read(lambda db: find_user(db, "alice")) is None, "only a group's first master imports users"


async def test_who_is_master_unconfirmed_empty_or_divergent_is_not_promoted(rig: Rig) -> None:
    for told, reason in ((None, "not confirmed"), (SLAVE_1, "no data yet"), (MASTER_2, "the master already")):
        if told is not None:
            await rig.hear(told)
        with pytest.raises(NotPossible, match=reason):
            await rig.member.promote()
    assert rig.registry.promotions == []


async def test_a_living_master_that_is_ahead_keeps_a_slave_from_being_promoted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await followed_some(rig)
    rig.follower.gives = {"sequence": "5"}

    async def never(_sequence: int, _timeout_s: float) -> bool:
        return False

    monkeypatch.setattr(rig.ledger, "has_reached", never)
    with pytest.raises(NotPossible, match="5 changes behind"):
        await rig.member.promote()
    assert rig.registry.promotions == []
    await rig.member.close()


async def test_a_divergent_server_writes_nothing_and_says_what_to_do(rig: Rig) -> None:
    await followed_some(rig)
    rig.member._hear(DIVERGED)
    assert "rejoin --discard-local" in rig.standing.divergence
    assert not rig.member.is_master_reached
    with pytest.raises(MasterAway):
        await rig.member.write("AddUser", ADD)
    with pytest.raises(NotPossible, match="never saw"):
        await rig.member.promote()
    copy = await rig.member.discard_local()
    assert snapshot_position(Path(copy)) == rig.ledger.position
    assert rig.follower.wants_snapshot
    rig.member._hear("")
    assert rig.standing.divergence == ""
    with pytest.raises(NotPossible, match="not divergent"):
        await rig.member.discard_local()
    await rig.member.close()


async def test_what_was_known_is_taken_up_before_the_cloud_has_answered(rig: Rig) -> None:
    rig.file.write(SLAVE_1)
    rig.registry.says = CloudAway("down")
    leftover = rig.pfdata.path.with_name("PhoneFactor.pfdata.snapshot-abc")
    leftover.write_bytes(b"of a process that was killed")
    await rig.member.start()
    await asyncio.sleep(0)
    assert (rig.standing.role, rig.follower.followed) == (Role.SLAVE, [OTHER])
    assert not leftover.exists()
    await rig.member.close()


async def test_a_disk_that_takes_nothing_is_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_membership: Membership) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as disk:
        disk.setattr(rig.member._file, "write", fail)
        with pytest.raises(OSError, match="no space left"):
            await rig.hear(MASTER_1)
        assert not rig.standing.is_writable
    await rig.hear(MASTER_1)
    assert rig.standing.is_writable
    assert rig.file.read() == MASTER_1


async def test_a_refused_write_is_the_caller_s_to_see(rig: Rig) -> None:
    await rig.hear(MASTER_1)
    with pytest.raises(WriteRefused):
        await rig.member.write("AddUser", {"user": "alice", "phone": "+1"})
