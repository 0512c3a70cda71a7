from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.data.position import Position
from mfalb.reference.mfa_server.group import replicas
from mfalb.reference.mfa_server.group.ledger import Ledger, NotMaster
from mfalb.reference.mfa_server.group.lone import Lone, lone_standing


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Pfdata(tmp_path / "PhoneFactor.pfdata") as pfdata:
        pfdata.begin_epoch(1)
        yield Ledger(pfdata, lone_standing(), lambda: 1_000_000.0)


async def test_whoever_waits_for_a_change_is_woken_by_it(ledger: Ledger) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(ledger.has_reached(2, 60.0))
        for user in ("alice", "bob"):
            await ledger.write("AddUser", {"user": user, "phone": "+1"})
    assert waiting.result()
    assert await ledger.has_reached(2, 0.0)
    assert not await ledger.has_reached(3, 0.0)


async def test_a_write_is_answered_when_a_slave_in_step_has_it_and_is_in_the_file_before(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PATIENCE_S", 60.0)
    slave = ledger.replicas.join("mfa2")
    slave.sent = 2
    ledger.replicas.has_applied_untrusted(slave, 0)
    async with asyncio.TaskGroup() as tasks:
        writes = [tasks.create_task(ledger.write("AddUser", {"user": user, "phone": "+1"})) for user in ("a", "b")]
        assert await ledger.has_reached(2, 60.0), "a write that waits keeps no other one from being made"
        assert await ledger.settled() == Position(1, 2), "nor a reign from being ended"
        assert not [write for write in writes if write.done()]
        ledger.replicas.has_applied_untrusted(slave, 1)
        await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
        assert [write.done() for write in writes].count(True) == 1
        ledger.replicas.has_applied_untrusted(slave, 2)
    assert sorted(write.result()[1].sequence for write in writes) == [1, 2]


async def test_a_slave_that_applies_nothing_delays_a_write_and_does_not_undo_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PATIENCE_S", 0.0)
    slave = ledger.replicas.join("mfa2")
    ledger.replicas.has_applied_untrusted(slave, 0)
    assert slave.is_in_step
    assert await ledger.write("AddUser", {"user": "alice", "phone": "+1"}) == ({}, Position(1, 1))
    assert not slave.is_in_step


async def test_a_write_that_comes_after_the_reign_has_ended_is_not_made(ledger: Ledger) -> None:
    ledger._standing.is_retiring = True
    with pytest.raises(NotMaster):
        await ledger.write("AddUser", {"user": "alice", "phone": "+1"})
    assert await ledger.settled() == Position(1, 0)


async def test_a_server_without_a_group_makes_its_writes_itself(ledger: Ledger) -> None:
    lone = Lone(ledger)
    assert lone.is_master_reached
    assert await lone.write("AddUser", {"user": "alice", "phone": "+1"}) == {}
    assert ledger.position == Position(1, 1)
