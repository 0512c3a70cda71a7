"""Promise: on a network that loses, repeats and reorders, every sign-in ends well and no phone rings twice.

The relay's faults are far worse than a real link's. A NAS repeats what was not answered; whatever copy arrives first,
late or twice, the balancer makes one request of it and gives one answer to all of them.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from programs.nas import Nas, NasHabits, open_nas
from programs.ports import LOOPBACK, free_udp_port
from programs.sms_site import HEALTH, NAS_SECRET, Phones, SmsServers, shown_id, sms_balancer, sms_servers, users
from programs.udp_relay import Faults, Tally, UdpRelay

from mfalb.reference.config.values import User
from mfalb.wire import radius

SIGN_INS: Final = int(os.environ.get("LOSSY_SIGN_INS", "1000"))
USERS: Final = users(50)  # each has one sign-in at a time, so 50 are under way at once
SEED: Final = 20
FAULTS: Final = Faults(loss=0.05, duplication=0.05, holding=0.1, held_s=0.1)
# Probes are lost on this link too. For a living server to be taken for dead, three in a row and all else must be.
PATIENT_HEALTH: Final = {**HEALTH, "interval": "2s"}


@dataclass(slots=True)
class Results:
    """What became of the sign-ins. `states` are those of completed ones, as the servers' logs show them."""

    begun: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    states: set[str] = field(default_factory=set)
    given_up: int = 0


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[SmsServers]:
    with sms_servers(tmp_path / "servers", USERS) as running:
        yield running


async def sign_in(nas: Nas, phones: Phones, user: User, results: Results) -> None:
    """Both halves of one sign-in; what is not answered as it should be is noted and ends it."""
    results.begun[user.name] += 1
    challenge = await nas.sign_in(user.name, user.password)
    if challenge is None:
        results.given_up += 1
        return
    state = challenge.first(radius.STATE)
    if challenge.code != radius.ACCESS_CHALLENGE or state is None:
        results.codes[challenge.code] += 1
        return
    end = await nas.sign_in(user.name, await phones.code(user.name), state)
    if end is None:
        results.given_up += 1
        return
    results.codes[end.code] += 1
    results.states.add(shown_id(state))


async def sign_in_all(nas: Nas, phones: Phones, times: int) -> Results:
    """Each user signs in `times` times, one after the other; all users at once."""
    results = Results()

    async def repeatedly(user: User) -> None:
        for _ in range(times):
            await sign_in(nas, phones, user, results)

    await asyncio.gather(*(repeatedly(user) for user in USERS))
    return results


async def assert_all_well(site: SmsServers, results: Results, phones: Phones, sign_ins: int) -> None:
    """Every sign-in accepted, at the server that began it, after one text."""
    assert results.begun.total() == sign_ins
    assert results.given_up == 0, f"nobody answered {results.given_up} of the sign-ins"
    assert results.codes == {radius.ACCESS_ACCEPT: sign_ins}
    assert await phones.texts_sent() == results.begun, "a phone rang twice, or not at all"
    for server in site.servers:
        halves = server.halves()
        texted = [half.request_id for half in halves if half.is_first]
        accepted = [half.request_id for half in halves if not half.is_first]
        assert {half.outcome for half in halves} == {"text sent", "accepted"}
        assert sorted(accepted) == sorted(texted), f"{server.name} was not asked about its own codes, once each"
        assert len(texted) >= sign_ins // 3, f"{server.name} was hardly used"
    assert {half.request_id for half in site.halves()} == results.states


def assert_was_bad(tallies: Sequence[Tally]) -> None:
    """Guards the test itself: the network did to each direction what it was told to."""
    for tally in tallies:
        assert FAULTS.loss / 2 < tally.lost / tally.arrived < FAULTS.loss * 2, f"{tally}"
        assert FAULTS.duplication / 2 < tally.duplicated / tally.arrived < FAULTS.duplication * 2, f"{tally}"
        assert FAULTS.holding / 2 < tally.held / tally.arrived < FAULTS.holding * 2, f"{tally}"


async def test_a_thousand_sms_sign_ins_over_a_bad_link_to_the_nas_all_succeed_and_ring_once(
    servers: SmsServers, tmp_path: Path
) -> None:
    port, habits = free_udp_port(), NasHabits(NAS_SECRET, retransmit_s=0.3, tries=30)
    with sms_balancer(servers, tmp_path, port) as balancer, UdpRelay((LOOPBACK, port), FAULTS, SEED) as link:
        async with servers.phones() as phones, open_nas(link.port, habits) as nas:
            results = await sign_in_all(nas, phones, SIGN_INS // len(USERS))
            await assert_all_well(servers, results, phones, SIGN_INS)
        assert balancer.metrics().total("mfalb_listener_in_flight") == 0
    assert nas.tally.retransmits > 2 * SIGN_INS * FAULTS.loss, f"the NAS had no cause to repeat itself: {nas.tally}"
    assert_was_bad([link.to_server, link.to_client])


async def test_sms_sign_ins_over_bad_links_on_both_sides_all_succeed_and_ring_once(
    servers: SmsServers, tmp_path: Path
) -> None:
    """The balancer resends at most once a second, so a loss behind it costs the user that second, and nothing else."""
    port, habits = free_udp_port(), NasHabits(NAS_SECRET, retransmit_s=0.3, tries=60)
    with ExitStack() as stack:
        links = {
            server.name: stack.enter_context(UdpRelay((LOOPBACK, server.port), FAULTS, SEED + index))
            for index, server in enumerate(servers.servers)
        }
        addresses = {name: link.port for name, link in links.items()}
        stack.enter_context(sms_balancer(servers, tmp_path, port, addresses=addresses, health=PATIENT_HEALTH))
        front = stack.enter_context(UdpRelay((LOOPBACK, port), FAULTS, SEED))
        async with servers.phones() as phones, open_nas(front.port, habits) as nas:
            sign_ins = 4 * len(USERS)
            results = await sign_in_all(nas, phones, sign_ins // len(USERS))
            await assert_all_well(servers, results, phones, sign_ins)
    assert all(link.to_server.lost > 0 and link.to_client.lost > 0 for link in links.values())
