"""Promise: what was written at one MFA Server is at the others when it is answered, so that it does not matter which of
them is asked next; and a server that does not keep pace holds up one write, not every one.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, Final

import pytest
from programs.mfa_group import MfaGroup, MfaServer
from programs.process import wait_until

from mfalb.reference.mfa_server.group.replicas import PATIENCE_S

WRITES: Final = 100
PHONE: Final = "+1 555 0199"


@pytest.fixture
def group(tmp_path: Path) -> Iterator[MfaGroup]:
    with MfaGroup(tmp_path) as running:
        yield running


def add(server: MfaServer, user: str) -> float:
    """Returns the seconds that it took."""
    before = monotonic()
    answer = server.call("AddUser", user=user, phone=PHONE)
    assert answer.is_good, answer.texts
    return monotonic() - before


def knows(server: MfaServer, user: str) -> bool:
    return server.call("GetUserSettings", user=user).is_good


def seen(master: MfaServer, slave: MfaServer) -> dict[str, Any]:
    """What the master's status says of a slave."""
    told: dict[str, Any] = master.status()["slaves"].get(slave.name, {})
    return told


def wait_until_in_step(master: MfaServer, *slaves: MfaServer) -> None:
    def are_in_step() -> bool:
        told = [seen(master, slave) for slave in slaves]
        return all(one.get("is_in_step") and one["applied"] == one["sent"] for one in told)

    wait_until(are_in_step, "the slaves to be in step", deadline_s=30)


def test_a_write_is_at_every_server_when_it_is_answered_wherever_it_was_asked_for(group: MfaGroup) -> None:
    master, slave = group.pair()
    third = group.start("mfa3")
    third.wait_for("slave")
    wait_until_in_step(master, slave, third)
    places = ((master, slave), (slave, third), (third, master))
    for number in range(WRITES):
        asked, other = places[number % len(places)]
        add(asked, f"user{number}")
        assert knows(other, f"user{number}"), f"write {number} at {asked.name} is not at {other.name}"
    assert master.status()["refused_peers"] == {}, "all that slaves said of themselves was possible"


def test_a_server_that_stands_still_holds_up_one_write_until_it_has_caught_up(group: MfaGroup) -> None:
    master, slave = group.pair()
    wait_until_in_step(master, slave)
    slave.program.signal(signal.SIGSTOP)
    try:
        assert add(master, "waits") > 0.9 * PATIENCE_S
        assert not seen(master, slave)["is_in_step"]
        assert sum(add(master, f"does-not-wait-{number}") for number in range(5)) < 5 * PATIENCE_S / 2
    finally:
        slave.program.signal(signal.SIGCONT)
    wait_until_in_step(master, slave)
    add(master, "in-step")
    assert knows(slave, "in-step")
    assert slave.users() == master.users()
    slave.kill()
    wait_until(lambda: master.status()["slaves"] == {}, "the master to see that it has no slave any more")
    slave.start()
    wait_until_in_step(master, slave)  # it lacks nothing, and says so without a change to apply
