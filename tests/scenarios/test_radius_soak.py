"""Promise: while servers are killed and come back in turn, only the sign-ins they had begun are lost, and clearly so.

SOAK_KILLS_S is how long the load lasts, 20 seconds by default; from two minutes on a server dies every 20 seconds, in
the short form every 5. A dead server comes back, its memory empty, after half of that.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import pytest
from programs.nas import Nas, NasHabits, open_nas
from programs.ports import free_udp_port
from programs.sms_site import NAS_SECRET, MfaServer, Phones, SmsServers, shown_id, sms_balancer, sms_servers, users

from mfalb.reference.config.values import User
from mfalb.wire import radius

LENGTH_S: Final = float(os.environ.get("SOAK_KILLS_S", "20"))
KILL_EVERY_S: Final = 20.0 if LENGTH_S >= 120 else 5.0
TURNS: Final = max(2, int(LENGTH_S / KILL_EVERY_S))
CALIBRATION_S: Final = 3.0
USERS: Final = users(40)  # each has one sign-in at a time
# Far longer than health needs to find a server dead: whoever is not answered in 20 s was forgotten
HABITS: Final = NasHabits(NAS_SECRET, retransmit_s=0.5, tries=40)


class End(Enum):
    """How a sign-in ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_CHALLENGED = "the first half was answered with something else"
    SILENCE = "nobody answered"


@dataclass(slots=True)
class SignIn:
    """One sign-in; times are monotonic seconds. `request_id` is its State as the servers' logs show it."""

    user: str
    begun_at: float
    challenged_at: float = 0.0
    ended_at: float = 0.0
    request_id: str = ""
    end: End = End.SILENCE


@dataclass(slots=True)
class Soak:
    """The load, what became of it, and when each server was killed."""

    nas: Nas
    phones: Phones
    sign_ins: list[SignIn] = field(default_factory=list)
    kills: dict[str, list[float]] = field(default_factory=dict)

    async def sign_in(self, user: User) -> None:
        one = SignIn(user.name, time.monotonic())
        self.sign_ins.append(one)
        one.end = await self._end_of(user, one)
        one.ended_at = time.monotonic()

    async def _end_of(self, user: User, one: SignIn) -> End:
        challenge = await self.nas.sign_in(user.name, user.password)
        if challenge is None:
            return End.SILENCE
        one.challenged_at = time.monotonic()
        state = challenge.first(radius.STATE)
        if challenge.code != radius.ACCESS_CHALLENGE or state is None:
            return End.NOT_CHALLENGED
        one.request_id = shown_id(state)
        answer = await self.nas.sign_in(user.name, await self.phones.code(user.name), state)
        if answer is None:
            return End.SILENCE
        return End.ACCEPTED if answer.code == radius.ACCESS_ACCEPT else End.REFUSED

    async def capacity(self) -> float:
        """Sign-ins a second when everybody signs in as fast as they can."""
        end_at, begun_at = time.monotonic() + CALIBRATION_S, time.monotonic()

        async def greedily(user: User) -> None:
            while time.monotonic() < end_at:
                await self.sign_in(user)

        await asyncio.gather(*(greedily(user) for user in USERS))
        return len(self.sign_ins) / (time.monotonic() - begun_at)

    async def load(self, per_s: float, length_s: float) -> None:
        """Begins `per_s` sign-ins a second; waits when all users are busy with one."""
        free: asyncio.Queue[User] = asyncio.Queue()
        for user in USERS:
            free.put_nowait(user)

        async def one(user: User) -> None:
            await self.sign_in(user)
            free.put_nowait(user)

        end_at = due_at = time.monotonic() + length_s
        due_at -= length_s
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < end_at:
                group.create_task(one(await free.get()))
                due_at = max(due_at + 1 / per_s, time.monotonic() - 1)  # what a stall held up is not all caught up
                await asyncio.sleep(max(0.0, due_at - time.monotonic()))

    async def kill_in_turn(self, servers: tuple[MfaServer, ...], times: int) -> None:
        """The next server dies in the middle of each turn, and comes back at its end."""
        begun_at = time.monotonic()
        for turn in range(times):
            server = servers[turn % len(servers)]
            await asyncio.sleep(begun_at + (turn + 0.5) * KILL_EVERY_S - time.monotonic())
            self.kills.setdefault(server.name, []).append(time.monotonic())
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(begun_at + (turn + 1) * KILL_EVERY_S - time.monotonic())
            await asyncio.to_thread(server.start)

    def was_killed(self, server: str, from_s: float, to_s: float) -> bool:
        return any(from_s <= moment <= to_s for moment in self.kills.get(server, ()))

    def ends(self) -> Counter[End]:
        return Counter(one.end for one in self.sign_ins)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmsServers]:
    with sms_servers(tmp_path / "servers", USERS) as running:
        yield running


async def test_only_sign_ins_of_killed_servers_are_lost_and_no_other_server_is_asked_about_them(
    site: SmsServers, tmp_path: Path
) -> None:
    port = free_udp_port()
    with sms_balancer(site, tmp_path, port) as balancer:
        async with site.phones() as phones, open_nas(port, HABITS) as nas:
            soak = Soak(nas, phones)
            per_s = await soak.capacity() / 2
            assert soak.ends() == {End.ACCEPTED: len(soak.sign_ins)}, "it did not even work with all servers up"
            async with asyncio.timeout(LENGTH_S + 60):
                await asyncio.gather(soak.load(per_s, LENGTH_S), soak.kill_in_turn(site.servers, TURNS))
            texts = (await phones.texts_sent()).total()
        metrics = balancer.metrics()
    assert metrics.total("mfalb_listener_in_flight") == 0
    assert metrics.total("mfalb_backend_active") == 0
    assert len(soak.sign_ins) > per_s * LENGTH_S / 2, f"the load was not kept up: {soak.ends()}, wanted {per_s}/s"
    assert_lost_only_with_their_server(soak, site)
    assert_asked_their_server_only(soak, site)
    assert_rang_once(soak, texts)


def begun_at(site: SmsServers) -> Mapping[str, set[str]]:
    """The servers that began a sign-in, by its identifier: of the 32 bits that logs have of it, two may be equal."""
    begun = defaultdict[str, set[str]](set)
    for half in site.halves():
        if half.is_first:
            begun[half.request_id].add(half.server)
    return begun


def assert_lost_only_with_their_server(soak: Soak, site: SmsServers) -> None:
    """Whatever was not accepted was refused, not forgotten, and had been begun by a server that died meanwhile."""
    begun = begun_at(site)
    lost = [one for one in soak.sign_ins if one.end is not End.ACCEPTED]
    unexcused = [
        one
        for one in lost
        if one.end is not End.REFUSED
        or not any(soak.was_killed(server, one.begun_at, one.ended_at) for server in begun[one.request_id])
    ]
    assert not unexcused, f"{len(unexcused)} of {len(soak.sign_ins)} were lost for no reason: {unexcused[:5]}"
    assert len(lost) < len(soak.sign_ins) / 10, f"{soak.ends()}"


def assert_asked_their_server_only(soak: Soak, site: SmsServers) -> None:
    """No server is asked about a code that another one sent, dead or alive."""
    begun = begun_at(site)
    second = [half for half in site.halves() if not half.is_first]
    assert not [half for half in second if half.server not in begun[half.request_id]]
    accepted = Counter(half.request_id for half in second if half.outcome == "accepted")
    assert accepted == Counter(one.request_id for one in soak.sign_ins if one.end is End.ACCEPTED)


def assert_rang_once(soak: Soak, texts: int) -> None:
    """A second text only to those whose first server died before it could say that it had sent one."""
    begun_again = [
        one
        for one in soak.sign_ins
        if any(soak.was_killed(server, one.begun_at, one.challenged_at) for server in soak.kills)
    ]
    assert len(soak.sign_ins) <= texts <= len(soak.sign_ins) + len(begun_again)
