from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from unit.still_loop import run

from mfalb.errors import MalformedMessage
from mfalb.reference.mfa_server.group.replicas import BACKWARDS, BEYOND, PATIENCE_S, Replica, Replicas

FAR = 1_000  # sent to a slave whose limit is not what the test is about


@dataclass
class Rig:
    """A master that is at change 7, and the slaves that follow it."""

    position: int = 7
    replicas: Replicas = field(init=False)

    def __post_init__(self) -> None:
        self.replicas = Replicas(lambda: self.position)

    def slave(self, name: str = "mfa2", *, applied: int | None = None) -> Replica:
        """A slave in step, unless it has not applied all."""
        replica = self.replicas.join(name)
        replica.sent = FAR
        self.replicas.has_applied_untrusted(replica, self.position if applied is None else applied)
        return replica

    async def write(self) -> float:
        """Make the next change and wait for it; returns the seconds that this took."""
        self.position += 1
        return await seconds(self.replicas.wait_for(self.position))

    async def later(self, delay_s: float, replica: Replica, sequence: int) -> None:
        await asyncio.sleep(delay_s)
        self.replicas.has_applied_untrusted(replica, sequence)


async def seconds(waiting: Coroutine[Any, Any, None]) -> float:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await waiting
    return loop.time() - before


def test_without_a_slave_nobody_waits() -> None:
    assert run(Rig().write()) == 0.0


def test_a_write_waits_until_every_slave_in_step_has_it_and_no_longer() -> None:
    async def story() -> None:
        rig = Rig()
        fast, slow = rig.slave("mfa2"), rig.slave("mfa3")
        took, *_ = await asyncio.gather(rig.write(), rig.later(0.3, fast, 8), rig.later(0.7, slow, 8))
        assert took == pytest.approx(0.7)
        assert fast.is_in_step
        assert slow.is_in_step
        assert await seconds(rig.replicas.wait_for(8)) == 0.0, "they have it already"

    run(story())


def test_a_write_does_not_wait_for_the_next_one_and_holds_up_no_other() -> None:
    async def story() -> None:
        rig = Rig()
        slave = rig.slave()
        both = asyncio.gather(rig.write(), rig.write())
        took, *_ = await asyncio.gather(both, rig.later(0.5, slave, 8), rig.later(0.9, slave, 9))
        assert took == pytest.approx([0.5, 0.9])

    run(story())


def test_a_slave_that_keeps_a_write_waiting_for_too_long_is_waited_for_once(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        rig = Rig()
        stuck, good = rig.slave("mfa2"), rig.slave("mfa3")
        took, _ = await asyncio.gather(rig.write(), rig.later(1.9, good, 8))
        assert took == pytest.approx(PATIENCE_S)
        good.applied = FAR
        assert (stuck.is_in_step, good.is_in_step) == (False, True)
        assert await rig.write() == 0.0
        assert rig.replicas.shown()["mfa2"] == {"sent": FAR, "applied": 7, "is_in_step": False}

    with caplog.at_level(logging.WARNING):
        run(story())
    (record,) = (vars(record) for record in caplog.records)
    assert (record["msg"], record["slave"], record["applied"], record["wanted"]) == (
        "slave out of step, writes do not wait for it",
        "mfa2",
        "7",
        "8",
    )


def test_whoever_waits_for_a_slave_that_falls_out_of_step_goes_on_with_whom_it_held_up_first() -> None:
    async def story() -> None:
        rig = Rig()
        rig.slave()

        async def a_second_later() -> float:
            await asyncio.sleep(1.0)
            return await rig.write()

        took = await asyncio.gather(rig.write(), a_second_later())
        assert list(took) == pytest.approx([PATIENCE_S, PATIENCE_S - 1.0])

    run(story())


@pytest.mark.parametrize("how", ["leave", "mute", "join"])
def test_a_slave_that_goes_is_not_waited_for_any_more(how: str) -> None:
    async def story() -> None:
        rig = Rig()
        slave = rig.slave()

        async def go() -> None:
            await asyncio.sleep(0.1)
            if how == "join":  # it is back before its end was noticed
                rig.replicas.join("mfa2")
            else:
                getattr(rig.replicas, how)(slave)

        took, _ = await asyncio.gather(rig.write(), go())
        assert took == pytest.approx(0.1)
        assert not slave.is_in_step

    run(story())


def test_what_a_former_stream_of_a_slave_still_says_or_its_end_changes_nothing_for_the_new_one() -> None:
    async def story() -> None:
        rig = Rig()
        former, new = rig.slave(), rig.slave()
        rig.replicas.has_applied_untrusted(former, 7)
        assert (former.is_in_step, new.is_in_step) == (False, True)
        rig.replicas.leave(former)
        assert list(rig.replicas.shown()) == ["mfa2"]
        assert new.is_in_step
        rig.replicas.leave(new)
        assert rig.replicas.shown() == {}

    run(story())


def test_a_slave_is_not_in_step_before_it_has_caught_up() -> None:
    async def story() -> None:
        rig = Rig()
        silent = rig.replicas.join("mfa3")  # an older version never says how far it is
        slave = rig.slave(applied=6)
        assert not silent.is_in_step
        assert not slave.is_in_step
        assert await rig.write() == 0.0
        rig.replicas.has_applied_untrusted(slave, 8)
        assert slave.is_in_step

    run(story())


def test_a_slave_that_has_all_is_in_step_however_long_it_took() -> None:
    async def story() -> None:
        rig = Rig()
        slave = rig.slave(applied=0)
        rig.position = 100
        await rig.later(60.0, slave, 100)
        assert slave.is_in_step

    run(story())


def test_under_writes_that_never_stop_a_slave_that_is_close_behind_gets_in_step() -> None:
    async def story() -> None:
        rig = Rig()
        slave = rig.slave(applied=0)
        rig.position = 100
        await asyncio.sleep(60.0)  # it has much to apply
        in_step = []
        for _ in range(3):  # each time the master has written on in the meantime
            rig.position += 1
            await rig.later(0.1, slave, rig.position - 1)
            in_step.append(slave.is_in_step)
        assert in_step == [False, True, True]

    run(story())


def test_a_slave_that_was_a_little_late_once_is_in_step_again_when_it_is_there() -> None:
    async def story() -> None:
        rig = Rig()
        slave = rig.slave()
        assert await rig.write() == pytest.approx(PATIENCE_S)
        rig.position += 1  # another write has not waited for it
        await rig.later(0.1, slave, 8)
        assert slave.is_in_step

    run(story())


def test_a_slave_that_is_far_behind_does_not() -> None:
    async def story() -> None:
        rig = Rig()
        slave = rig.slave(applied=0)
        for _ in range(20):
            await asyncio.sleep(1.0)  # it reaches where the master was a second ago, and that is all it can do
            before, rig.position = rig.position, rig.position + 50
            rig.replicas.has_applied_untrusted(slave, before)
            assert not slave.is_in_step

    run(story())


def test_out_of_step_it_has_to_catch_up_with_what_was_written_since() -> None:
    async def story() -> None:
        rig = Rig()
        slave = rig.slave()
        assert await rig.write() == pytest.approx(PATIENCE_S)
        rig.position += 100
        await asyncio.sleep(60.0)
        for sequence in (8, 100):
            rig.replicas.has_applied_untrusted(slave, sequence)
            assert not slave.is_in_step
        rig.replicas.has_applied_untrusted(slave, 108)
        assert slave.is_in_step

    run(story())


@pytest.mark.parametrize(("sequence", "reason"), [(10, BEYOND), (2**62, BEYOND), (6, BACKWARDS), (0, BACKWARDS)])
def test_what_a_slave_cannot_have_applied_is_refused_and_changes_nothing(sequence: int, reason: str) -> None:
    async def story() -> None:
        rig = Rig(position=9)
        slave = rig.slave(applied=7)
        slave.sent = 9
        with pytest.raises(MalformedMessage, match=reason):
            rig.replicas.has_applied_untrusted(slave, sequence)
        assert (slave.applied, slave.is_in_step) == (7, False)
        rig.replicas.has_applied_untrusted(slave, 9)
        assert slave.is_in_step

    run(story())
