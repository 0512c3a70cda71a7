"""Promise: a node uses all its cores, and a worker that dies takes nothing with it but what it was carrying."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from programs import radclient
from programs.balanced_estate import ACCOUNT, RADIUS_SECRET, SDK_PATH, TEXTED, BalancedEstate, balanced_estate
from programs.balancer import Balancer
from programs.http_backend import HttpBackend
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Target

from mfalb.reference.config.values import User

WORKERS = 4
REQUESTS_EACH = 40


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(child) for child in listed.split()]


class Site:
    """Two backends, a balancer of several workers before them, and its front."""

    def __init__(self, balancer: Balancer, front: Front, backends: tuple[HttpBackend, ...]) -> None:
        self.balancer = balancer
        self.front = front
        self.backends = backends

    def kill_a_worker(self) -> int:
        """SIGKILL; returns the pid that is no more."""
        victim = self.balancer.workers[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in self.balancer.workers, "the end of a worker")
        return victim

    def total(self, name: str, **labels: str) -> float:
        return self.balancer.metrics().total(name, **labels)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        backends = tuple(stack.enter_context(HttpBackend(f"b{n}", tmp_path / f"b{n}")) for n in (1, 2))
        front = new_front()
        check = {"type": "http", "path": "/status/200", "interval": "100ms"}
        config = {
            "workers": WORKERS,
            "listeners": [front.listener("web", [{"pool": "web"}])],
            "pools": {"web": http_pool(*(one.address for one in backends), health_check=check)},
            "log": {"access_file": str(tmp_path / "access.log")},
        }
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb"))
        yield Site(balancer, front, backends)


def get_often(front: Front, target: str = "/echo") -> None:
    for _ in range(REQUESTS_EACH):
        status, _ = front.get(target)
        assert status == 200


def test_connections_are_dealt_out_among_workers_and_their_numbers_are_added_up(site: Site) -> None:
    callers = [threading.Thread(target=get_often, args=(site.front,)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(site.balancer.workers) == WORKERS
    assert site.total("mfalb_workers") == WORKERS
    assert site.total("mfalb_listener_requests_total", listener="web") == 4 * REQUESTS_EACH
    sent = sum(site.balancer.backend("web", name)["requests"] for name in ("b1", "b2"))
    assert sent == 4 * REQUESTS_EACH
    used = {worker for worker in site.balancer.workers if switches_of(worker) > REQUESTS_EACH // 4}
    assert len(used) == WORKERS, "some worker has done nothing"


def switches_of(pid: int) -> int:
    """How often a process has waited of its own accord: once a request at least."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    (count,) = re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", status, re.MULTILINE)
    return int(count)


def test_each_access_line_is_whole_though_several_workers_write_into_one_file(site: Site, tmp_path: Path) -> None:
    callers = [threading.Thread(target=get_often, args=(site.front, f"/echo?caller={n}")) for n in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    log = tmp_path / "access.log"
    wait_until(lambda: log.read_text().count("\n") == 4 * REQUESTS_EACH, "all lines of the access log")
    form = re.compile(r"\S+ info request .* ms=\d+\.\d.*|\S+ info http .*")
    assert [line for line in log.read_text().splitlines() if line.count(" info ") != 1 or not form.match(line)] == []


def test_a_backend_is_probed_once_and_not_by_each_worker(site: Site) -> None:
    sent = site.total("mfalb_backend_probes_sent_total", backend="b1")
    wait_until(lambda: site.total("mfalb_backend_probes_sent_total", backend="b1") >= sent + 10, "ten probes")
    probed = site.backends[0].stats().requests
    told = site.total("mfalb_backend_probes_sent_total", backend="b1")
    assert probed - 1 <= told  # each request that it saw is one that the supervisor counts


def test_all_workers_hear_that_a_backend_is_gone_and_that_it_is_back(site: Site) -> None:
    site.backends[0].kill()
    wait_until(lambda: site.balancer.backend("web", "b1")["health"] == "down", "b1 to be down")
    before = site.balancer.backend("web", "b1")["requests"]
    get_often(site.front)
    assert site.balancer.backend("web", "b1")["requests"] == before
    site.backends[0].start()
    wait_until(lambda: site.balancer.backend("web", "b1")["health"] == "up", "b1 to be up")
    get_often(site.front)
    assert site.balancer.backend("web", "b1")["requests"] >= before + REQUESTS_EACH // 4


def test_a_killed_worker_is_replaced_and_what_waits_for_it_is_served_by_the_next_one(site: Site) -> None:
    get_often(site.front)
    before = site.total("mfalb_listener_requests_total", listener="web")
    victim = site.kill_a_worker()
    get_often(site.front)  # a fourth of them come to the socket of the dead one, and wait there
    wait_until(lambda: len(site.balancer.workers) == WORKERS, "a new worker")
    assert victim not in site.balancer.workers
    assert site.total("mfalb_worker_restarts_total") == 1
    wait_until(lambda: "a worker was replaced" in site.balancer.log(), "word of the new worker")
    (took_ms,) = re.findall(r"a worker was replaced worker=\d+ took_ms=(\d+)", site.balancer.log())
    assert int(took_ms) < 1000
    assert re.search(rf"a worker has ended pid={victim} signal=9", site.balancer.log())
    after = site.total("mfalb_listener_requests_total", listener="web")
    assert after == before + REQUESTS_EACH, "what the dead one had counted is forgotten"


def test_workers_that_die_at_once_are_begun_more_and_more_slowly(site: Site) -> None:
    for death in range(1, 4):
        restarted = site.total("mfalb_worker_restarts_total", worker="0")
        seen = set(site.balancer.workers)
        os.kill(max(seen) if death > 1 else min(seen), signal.SIGKILL)
        wait_until(lambda: site.total("mfalb_worker_restarts_total") > restarted, "the replacement")  # noqa: B023
        wait_until(lambda: site.total("mfalb_workers") == WORKERS, "all workers")
    wait_until(lambda: "a worker crashes again and again" in site.balancer.log(), "the warning")


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    front = new_front()
    config = {"listeners": [front.listener("web", [{"pool": "web"}])], "pools": {"web": http_pool(f"{LOOPBACK}:9")}}
    balancer = Balancer({**config, "workers": WORKERS}, tmp_path)
    balancer.start()
    family = [*children_of(balancer.pid), *balancer.workers]
    assert len(family) == WORKERS + 1
    balancer.kill()
    wait_until(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists() and not is_zombie(pid)], "their end")


def is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text("ascii")
    except FileNotFoundError:
        return True


# ------------------------------------------------------------------------------------ pins are the node's


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estates get a balancer of several workers."""
    monkeypatch.setattr("programs.balancer.WORKERS", WORKERS)


async def radius_halves(balanced: BalancedEstate, user: User) -> str:
    """Both halves by radclient, each from a port of its own, and so from any two workers."""
    target = Target(LOOPBACK, balanced.radius_port, RADIUS_SECRET)
    (begun,) = await asyncio.to_thread(
        radclient.send, target, [(("User-Name", user.name), ("User-Password", user.password))]
    )
    assert begun is not None
    (code, *_) = await balanced.estate.cloud.codes(user.name)
    given = (("User-Name", user.name), ("User-Password", code), ("State", begun.attributes["State"]))
    (ended,) = await asyncio.to_thread(radclient.send, target, [given])
    assert ended is not None
    return ended.code


async def sdk_halves(balanced: BalancedEstate, user: User) -> bool:
    """Both halves, each on a connection of its own."""
    begun = await asyncio.to_thread(call, balanced, f"<PfAuthUser_4><username>{user.name}</username></PfAuthUser_4>")
    (request_id,) = re.findall("<authreqid>(.*?)</authreqid>", begun)
    (code, *_) = await balanced.estate.cloud.codes(user.name)
    fields = f"<username>{user.name}</username><authreqid>{request_id}</authreqid><otp>{code}</otp>"
    ended = await asyncio.to_thread(call, balanced, f"<VerifyOneWayOtp>{fields}</VerifyOneWayOtp>")
    return "<VerifyOneWayOtpResult>true</VerifyOneWayOtpResult>" in ended


def call(balanced: BalancedEstate, body: str) -> str:
    envelope = f'<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>{body}</Body></Envelope>'
    headers = {"Content-Type": "text/xml; charset=utf-8"}
    url = f"http://{LOOPBACK}:{balanced.http_port}{SDK_PATH}"
    answer = requests.post(url, envelope, headers=headers, auth=(ACCOUNT.name, ACCOUNT.password), timeout=20)
    return answer.text


@pytest.mark.usefixtures("many")
async def test_sign_ins_whose_halves_meet_different_workers_all_complete(tmp_path: Path) -> None:
    async with balanced_estate(tmp_path) as balanced:
        by_radius = [await radius_halves(balanced, user) for user in TEXTED]
        by_sdk = [await sdk_halves(balanced, user) for user in TEXTED]
        assert by_radius == ["Access-Accept"] * len(TEXTED)
        assert by_sdk == [True] * len(TEXTED)
        assert await balanced.estate.cloud.texts_sent() == Counter({user.name: 2 for user in TEXTED})
        metrics = balanced.balancer.metrics()
        assert metrics.total("mfalb_pins_hit_total") == 2 * len(TEXTED)
        assert metrics.total("mfalb_pins") == 2 * len(TEXTED)


@pytest.mark.usefixtures("many")
async def test_a_code_is_accepted_though_every_worker_was_killed_since_it_was_sent(tmp_path: Path) -> None:
    async with balanced_estate(tmp_path) as balanced:
        balancer, user = balanced.balancer, TEXTED[0]
        target = Target(LOOPBACK, balanced.radius_port, RADIUS_SECRET)
        (begun,) = await asyncio.to_thread(
            radclient.send, target, [(("User-Name", user.name), ("User-Password", user.password))]
        )
        assert begun is not None
        victims = balancer.workers
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        await asyncio.to_thread(wait_until, lambda: len(set(balancer.workers) - set(victims)) == WORKERS, "new workers")
        (code, *_) = await balanced.estate.cloud.codes(user.name)
        given = (("User-Name", user.name), ("User-Password", code), ("State", begun.attributes["State"]))
        (ended,) = await asyncio.to_thread(radclient.send, target, [given])
        assert ended is not None
        assert ended.code == "Access-Accept"
