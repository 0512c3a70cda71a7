"""Slow is not dead: Status-Server decides whether a RADIUS backend lives, and traffic only raises the question.

Ids are those of the requirements: D3 probes, D4 silence on one request, D5 the times of RFC 3539.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from programs.balancer import Balancer
from programs.freeradius import OTP_FIRST_PASSWORD, FreeRadius
from programs.nas import Nas, NasHabits, open_nas
from programs.radius_pool import NO_PINS, RadiusPool, radius_pool
from programs.radius_responder import Manners, RadiusResponder
from pyrad.packet import AuthPacket

from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

AS_SHIPPED: Final = {"type": "radius"}
EACH_SECOND: Final = {"type": "radius", "interval": "1s", "fast": True}
DEADLINE_S: Final = 20.0


@dataclass(slots=True)
class Load:
    """Sign-ins of one user after the other, some at once; `codes` by the moment at which each one began."""

    codes: list[tuple[float, int | None]] = field(default_factory=list)

    async def keep_up(self, nas: Nas) -> None:
        number = 0
        while True:
            number += 1
            begun_at = time.monotonic()
            answer = await nas.sign_in(f"user{number}", OTP_FIRST_PASSWORD)
            self.codes.append((begun_at, None if answer is None else answer.code))
            await asyncio.sleep(0.05)

    def begun_after(self, moment: float) -> Counter[int | None]:
        return Counter(code for begun_at, code in self.codes if begun_at > moment)


@dataclass(frozen=True, slots=True)
class Site:
    """A balancer before one or two servers, and its RADIUS port."""

    balancer: Balancer
    pool: RadiusPool

    def status(self) -> dict[str, Any]:
        page: dict[str, Any] = json.loads(self.balancer.get("/status"))
        return page

    def backend(self, name: str) -> dict[str, Any]:
        (found,) = (one for one in self.status()["pools"]["mfa"] if one["name"] == name)
        return dict(found)

    def is_up(self, name: str) -> bool:
        return bool(self.backend(name)["health"] == "up")

    def downs(self) -> list[str]:
        return [one["backend"] for one in self.status()["failovers"] if one["health"] == "down"]

    @asynccontextmanager
    async def nas(self, retransmit_s: float = 1.0, tries: int = 20) -> AsyncIterator[Nas]:
        habits = NasHabits(SharedSecret(self.pool.client_secret.encode()), retransmit_s, tries)
        async with open_nas(self.pool.port, habits) as nas:
            yield nas

    @asynccontextmanager
    async def load(self, lanes: int = 4) -> AsyncIterator[Load]:
        load = Load()
        async with self.nas() as nas:
            tasks = [asyncio.get_running_loop().create_task(load.keep_up(nas)) for _ in range(lanes)]
            try:
                yield load
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def until(is_true: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> float:
    """Returns the seconds that it took; raises TimeoutError naming `what`."""
    begun_at = time.monotonic()
    while not is_true():
        waited_s = time.monotonic() - begun_at
        if waited_s > deadline_s:
            raise TimeoutError(f"after {deadline_s} s still waiting for: {what}")
        await asyncio.sleep(0.02)
    return time.monotonic() - begun_at


OpenSite = Callable[..., Site]
OpenResponder = Callable[[str, Manners], RadiusResponder]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    """Starts a balancer before these servers, with this health check."""
    with ExitStack() as stack:

        def start(*servers: FreeRadius | RadiusResponder, health: dict[str, Any]) -> Site:
            pool = radius_pool(servers, tmp_path, affinity=NO_PINS, health=health)
            balancer = Balancer(pool.config, tmp_path / "mfalb", secrets=pool.secrets)
            return Site(stack.enter_context(balancer), pool)

        yield start


@pytest.fixture
def open_responder() -> Iterator[OpenResponder]:
    with ExitStack() as stack:
        yield lambda name, manners: stack.enter_context(RadiusResponder(name, f"towards-{name}-secret", manners))


# ------------------------------------------------------------------------------------ real programs


async def test_d5_a_silently_dead_server_is_left_and_comes_back_after_three_answered_probes(
    otp_servers: tuple[FreeRadius, FreeRadius], open_site: OpenSite
) -> None:
    """SIGSTOP: the port is open, and nobody answers. Tw is 1 s here, so all is over in seconds."""
    stopped, other = otp_servers
    site = open_site(*otp_servers, health=EACH_SECOND)
    async with site.load() as load:
        await until(lambda: len(load.codes) > 20, "some load")
        stopped.signal(signal.SIGSTOP)
        try:
            await until(lambda: not site.is_up(stopped.name), "the stopped server to be down")
            down_at = time.monotonic()
            answered_before = site.backend(stopped.name)["probes"]["answered"]
            await until(lambda: load.begun_after(down_at).total() > 40, "sign-ins at the other server")
            assert set(load.begun_after(down_at)) == {radius.ACCESS_CHALLENGE}
        finally:
            stopped.signal(signal.SIGCONT)
        back_s = await until(lambda: site.is_up(stopped.name), "the server to be up again")
        answered = site.backend(stopped.name)["probes"]["answered"] - answered_before
        up_at, before = time.monotonic(), len(load.codes)
        await until(lambda: len(load.codes) > before + 20, "load on both")
        assert set(load.begun_after(up_at)) == {radius.ACCESS_CHALLENGE}
    assert answered >= 3
    # It found the last probe waiting and may have answered that just before the next; then one whole Tw to the third.
    assert back_s > 1 - 1 / 3
    assert site.is_up(other.name)
    (down,) = [one for one in site.status()["failovers"] if one["health"] == "down"]
    assert (down["pool"], down["backend"], down["reason"]) == ("mfa", stopped.name, "no answer")


async def test_d4_d5_a_silently_dead_server_is_found_six_seconds_after_the_first_retransmit(
    otp_servers: tuple[FreeRadius, FreeRadius], open_site: OpenSite
) -> None:
    """With the times as shipped: waiting for Tw would take 30 s, and another 30 s for the probe's deadline."""
    stopped, _ = otp_servers
    site = open_site(*otp_servers, health=AS_SHIPPED)
    async with site.load() as load:
        await until(lambda: len(load.codes) > 20, "some load")
        stopped.signal(signal.SIGSTOP)
        try:
            await until(lambda: site.backend(stopped.name)["watchdog"] == "suspect", "a suspicion", 3.0)
            found_s = await until(lambda: not site.is_up(stopped.name), "the stopped server to be down", 12.0)
        finally:
            stopped.signal(signal.SIGCONT)
    assert 4.0 - 0.5 < found_s < 8.0 + 1.0
    assert site.backend(stopped.name)["probes"]["lost"] == 3


async def test_d5_a_killed_server_is_found_at_once_with_the_times_as_shipped(
    otp_servers: tuple[FreeRadius, FreeRadius], open_site: OpenSite
) -> None:
    killed, _ = otp_servers
    site = open_site(*otp_servers, health=AS_SHIPPED)
    async with site.load() as load:
        await until(lambda: len(load.codes) > 20, "some load")
        killed.kill()
        await until(lambda: not site.is_up(killed.name), "the killed server to be down", 3.0)
        down_at = time.monotonic()
        await until(lambda: load.begun_after(down_at).total() > 20, "sign-ins at the other server")
        assert set(load.begun_after(down_at)) == {radius.ACCESS_CHALLENGE}


async def test_d5_a_server_killed_in_an_idle_pool_is_found_by_its_probes(
    otp_servers: tuple[FreeRadius, FreeRadius], open_site: OpenSite
) -> None:
    killed, other = otp_servers
    site = open_site(*otp_servers, health=EACH_SECOND)
    killed.kill()
    # One Tw (1 s and a third) until the next probe, and two more refusals a third of a second apart.
    await until(lambda: not site.is_up(killed.name), "the killed server to be down", 4.0)
    assert site.backend(killed.name)["reason"] == "Connection refused"
    assert site.is_up(other.name)


# ------------------------------------------------------------------------------- servers with manners


async def test_d4_a_server_that_answers_status_server_only_stays_up(
    open_site: OpenSite, open_responder: OpenResponder
) -> None:
    mute = open_responder("mute", Manners(access_after_s=None))
    site = open_site(mute, health={"type": "radius", "interval": "4s", "fast": True})
    async with site.nas(retransmit_s=1.1, tries=6) as nas:  # for longer than a suspicion may last: 1.1 s + 4 s + 1.3 s
        assert await nas.sign_in("alice", "password") is None
    assert len(mute.requests()) >= 5, "the retransmits reach the server that has the request"
    assert len({one.data for one in mute.requests()}) == 1
    asked_s = mute.probes()[1].at_s - mute.requests()[1].at_s
    assert abs(asked_s) < 0.5, "the first retransmit is a reason to ask at once, long before Tw is over"
    assert site.is_up("mute")
    assert site.downs() == []


async def test_d4_an_answer_after_eight_seconds_is_delivered_by_a_server_that_stays_up(
    open_site: OpenSite, open_responder: OpenResponder
) -> None:
    slow = open_responder("slow", Manners(access_after_s=8.0))
    other = open_responder("other", Manners())
    site = open_site(slow, other, health=EACH_SECOND)
    async with site.nas(retransmit_s=1.1, tries=12) as nas:
        begun_at = time.monotonic()
        answers = await asyncio.gather(*(nas.sign_in(f"user{number}", "password") for number in range(2)))
        took_s = time.monotonic() - begun_at
    assert [answer and answer.code for answer in answers] == [radius.ACCESS_ACCEPT] * 2
    assert 7.9 < took_s < 10.0
    assert len({one.data for one in slow.requests()}) == 1, "one sign-in went to the slow server"
    assert len({one.data for one in other.requests()}) == 1, "and the other one to the other, once"
    assert site.downs() == []


async def test_d4_a_server_that_answers_traffic_but_no_status_server_is_judged_when_it_is_quiet_only(
    open_site: OpenSite, open_responder: OpenResponder
) -> None:
    """Any sound reply shows that it lives; that it knows no Status-Server comes out when nobody asks anything else."""
    deaf = open_responder("deaf", Manners())
    site = open_site(deaf, health=EACH_SECOND)
    deaf.manners = Manners(status_after_s=None)
    async with site.nas() as nas:
        for _ in range(20):
            assert await nas.sign_in("alice", "password") is not None
            await asyncio.sleep(0.1)
        assert site.downs() == []
    await until(lambda: not site.is_up("deaf"), "the quiet server to be down", 5.0)


async def test_d5_a_busy_server_is_never_probed_and_a_quiet_one_each_tw_with_jitter(
    open_site: OpenSite, open_responder: OpenResponder
) -> None:
    server = open_responder("one", Manners())
    site = open_site(server, health={"type": "radius", "interval": "600ms", "fast": True})
    async with site.nas() as nas:
        await nas.sign_in("alice", "password")
        probes_before = len(server.probes())
        busy_until = time.monotonic() + 2.0
        while time.monotonic() < busy_until:
            assert await nas.sign_in("alice", "password") is not None
            await asyncio.sleep(0.05)
        assert len(server.probes()) == probes_before, "a busy server was probed"
    await until(lambda: len(server.probes()) >= probes_before + 7, "six intervals between probes")
    times_s = [one.at_s for one in server.probes()[probes_before:]]
    gaps_s = [later - earlier for earlier, later in pairwise(times_s)]
    assert all(0.4 - 0.01 < gap_s < 0.8 + 0.3 for gap_s in gaps_s), f"{gaps_s}"
    assert max(gaps_s) - min(gaps_s) > 0.02, f"no jitter: {gaps_s}"
    assert site.backend("one")["last_reply_age_s"] < 2.0


async def test_d3_probes_are_all_different_and_carry_no_user(
    open_site: OpenSite, open_responder: OpenResponder
) -> None:
    server = open_responder("one", Manners())
    site = open_site(server, health={"type": "radius", "interval": "100ms", "fast": True})
    async with site.nas() as nas:
        assert await nas.sign_in("alice", "password") is not None
    await until(lambda: len(server.probes()) >= 20, "twenty probes")
    probes = server.probes()[:20]
    assert {tuple(one.attribute_types) for one in probes} == {(radius.MESSAGE_AUTHENTICATOR,)}
    assert len({one.authenticator for one in probes}) == 20
    assert len({one.identifier for one in probes}) == 20
    assert {one.port for one in probes}.isdisjoint({one.port for one in server.requests()}), "a socket of their own"
    for one in probes:
        packet = AuthPacket(packet=one.data, secret=server.secret.encode())
        assert packet.verify_message_authenticator()
    counts = site.backend("one")["probes"]
    assert counts["lost"] == 0
    assert counts["sent"] - counts["answered"] <= 1
    metrics = site.balancer.metrics()
    assert metrics.total("mfalb_backend_probes_answered_total", backend="one") >= counts["answered"]


async def test_d3_lost_probes_are_followed_by_new_ones_and_never_sent_again(
    open_site: OpenSite, open_responder: OpenResponder
) -> None:
    dead = open_responder("dead", Manners(status_after_s=None))
    site = open_site(dead, health={"type": "radius", "interval": "200ms", "fast": True})
    await until(lambda: len(dead.probes()) >= 10, "ten probes")
    probes = dead.probes()[:10]
    assert len({one.authenticator for one in probes}) == len({one.identifier for one in probes}) == 10
    assert (site.backend("dead")["health"], site.backend("dead")["reason"]) == ("down", "no answer")
    assert site.backend("dead")["probes"]["lost"] >= 8


async def test_d3_a_forged_answer_neither_ends_a_probe_nor_passes_for_one(
    open_site: OpenSite, open_responder: OpenResponder
) -> None:
    honest = open_responder("honest", Manners(forged_first=True))
    site = open_site(honest, health=EACH_SECOND)
    assert site.is_up("honest")
    await until(lambda: site.backend("honest")["probes"]["answered"] >= 3, "three probes")
    assert site.downs() == []


async def test_a_wrong_secret_is_named_as_the_reason(open_site: OpenSite, open_responder: OpenResponder) -> None:
    stranger = open_responder("stranger", Manners(signs_with="another secret"))
    site = open_site(stranger, health=EACH_SECOND)
    assert site.backend("stranger")["health"] == "down"
    assert site.backend("stranger")["reason"] == "wrong secret"
