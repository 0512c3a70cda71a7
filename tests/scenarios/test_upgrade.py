"""Promise: the code of a running balancer is exchanged while everybody is served.

Nobody is refused, no answer is lost, no phone rings twice; what has begun goes on; and when the new process cannot
serve, the one that runs goes on as if nobody had tried.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pytest
import requests
from programs.balanced_estate import ACCOUNT, CALLED, RADIUS_SECRET, TEXTED, BalancedEstate, balanced_estate
from programs.balancer import Balancer, children_of, is_alive
from programs.certificates import CertificateFiles
from programs.handset import Handsets
from programs.http_backend import HttpBackend
from programs.http_pool import Front, Response, Responses, http_pool, new_front
from programs.nas import Nas, NasHabits, open_nas
from programs.operator import Operator, socket_path
from programs.ports import LOOPBACK
from programs.process import Launch, wait_until
from programs.radius_pool import radius_pool
from programs.radius_responder import Manners, RadiusResponder
from programs.radsec_client import access_request, client_tls, connected
from programs.radsec_pool import Trust, make_trust, radsec_listener
from programs.tls_clients import SClient
from scenarios.test_portal_sessions import Browser
from scenarios.test_portal_sessions import sign_in as sign_in_at_portal
from scenarios.test_service_manager import FakeManager
from scenarios.test_sms_otp_sdk import AdfsNode
from websockets.sync.client import connect
from zeep import Client
from zeep.transports import Transport

import mfalb
from mfalb.balancer.admin import api_models as api
from mfalb.cli.admin_client import AdminClient, NotDone
from mfalb.reference.config.values import User
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

WORKERS: Final = 2
SECRET: Final = "between-all-of-them-0"
OTHER_SECRET: Final = "towards-the-clients-0"
PATIENT: Final = NasHabits(SharedSecret(OTHER_SECRET.encode()), retransmit_s=8.0, tries=1)
HASTY: Final = NasHabits(SharedSecret(OTHER_SECRET.encode()), retransmit_s=0.3, tries=60)


@dataclass(frozen=True, slots=True)
class Site:
    """An HTTPS, an HTTP and a RADIUS listener before servers of each kind, and an operator."""

    balancer: Balancer
    operator: Operator
    secure: Front
    plain: Front
    radius_port: int
    radsec_port: int
    trust: Trust
    servers: tuple[RadiusResponder, ...]
    manager: FakeManager
    package: Path
    config: dict[str, Any]
    formers: list[int] = field(default_factory=list)

    def upgrade(self) -> api.Upgraded:
        """It has to succeed."""
        done = self.admin.post(api.Upgraded, "/v1/upgrade", api.UpgradeOrder())
        self.replaced_by(done.pid)
        return done

    def replaced_by(self, pid: int) -> None:
        self.formers.append(self.balancer.pid)
        self.balancer.replaced_by(pid)

    def be_silent(self) -> None:
        for server in self.servers:
            server.manners = Manners(access_after_s=None)

    def refused_upgrade(self) -> str:
        """It has to fail, and to change nothing; returns why."""
        before = self.balancer.pid
        with pytest.raises(NotDone, match="The running process serves on") as caught:
            self.admin.post(api.Upgraded, "/v1/upgrade", api.UpgradeOrder())
        assert self.admin.get(api.Status, "/v1/status").backends
        assert is_alive(before)
        assert self.balancer.metrics().total("mfalb_workers") == WORKERS
        assert self.secure.get("/echo")[0] == 200
        return str(caught.value)

    @property
    def admin(self) -> AdminClient:
        return AdminClient(self.operator.socket, 60.0)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[Site]:
    """A balancer that runs from a copy of the code: what a test leaves serving the next one goes on with."""
    run_dir = tmp_path_factory.mktemp("upgrade")
    package = run_dir / "code" / "mfalb"
    shutil.copytree(Path(mfalb.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    trust, secure, plain = make_trust(run_dir / "trust"), new_front(certificate), new_front()
    radsec, radsec_port = radsec_listener(trust, limits={"handshake_timeout": "1s"})
    with ExitStack() as stack:
        backends = [stack.enter_context(HttpBackend(f"b{n}", run_dir / f"b{n}")) for n in (1, 2)]
        servers = tuple(stack.enter_context(RadiusResponder(f"r{n}", SECRET)) for n in (1, 2))
        pool = radius_pool(servers, run_dir, client_secret=OTHER_SECRET)
        path = stack.enter_context(socket_path())
        config = {
            "workers": WORKERS,
            "admin": {"socket": str(path)},
            "listeners": [
                secure.listener("secure", [{"pool": "web"}], limits={"handshake_timeout": "1s"}),
                plain.listener("plain", [{"pool": "web"}]),
                radsec,
                *pool.config["listeners"],
            ],
            "pools": {"web": http_pool(*(one.address for one in backends)), **pool.config["pools"]},
            "drain_timeout": "60s",
        }
        manager = stack.enter_context(closing(FakeManager(str(path.with_name("notify")))))
        environment = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1", **manager.environment}
        launch = Launch(environment=environment)
        balancer = stack.enter_context(Balancer(config, run_dir / "mfalb", secrets=pool.secrets, launch=launch))
        yield Site(
            balancer, Operator(path), secure, plain, pool.port, radsec_port, trust, servers, manager, package, config
        )


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """Afterwards it has to serve as before, and no former process may be left."""
    for server in running.servers:
        server.manners = Manners(access_after_s=0.05)
        server.asked.clear()
    yield running
    running.balancer.write_config(running.balancer.completed(running.config))
    assert running.secure.get("/echo")[0] == 200
    assert running.balancer.metrics().total("mfalb_workers") == WORKERS
    for pid in running.formers:
        wait_until(lambda pid=pid: not is_alive(pid), f"the end of process {pid}", deadline_s=30)  # type: ignore[misc]


# ------------------------------------------------------------------------------------ under load


class Caller:
    """One client of the closed loop: calls again and again, in a thread, and keeps what went wrong."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.served = 0
        self.failures: list[str] = []
        self.is_over = threading.Event()
        self._call = call
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.is_over.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self.is_over.is_set():
            try:
                self._call()
                self.served += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(repr(error))
            self.is_over.wait(0.01)  # others share the machine


@contextmanager
def load_on(front: Front, count: int) -> Iterator[list[Caller]]:
    """New connections all the time, and as many that are kept alive."""

    def new_connection() -> None:
        assert front.get("/echo")[0] == 200

    def kept(connection: http.client.HTTPConnection) -> Callable[[], None]:
        def call() -> None:
            connection.request("POST", "/echo", body=b"not to be sent twice")  # connects anew after Connection: close
            response = connection.getresponse()
            response.read()
            assert response.status == 200

        return call

    with ExitStack() as stack:
        connections = [stack.enter_context(closing(front.connect())) for _ in range(count)]
        callers = [Caller(new_connection) for _ in range(count)] + [Caller(kept(one)) for one in connections]
        for caller in callers:
            stack.callback(caller.stop)
            caller.start()
        yield callers


async def ask_all_the_time(nas: Nas, over: asyncio.Event) -> int:
    """Sign-ins one after the other; returns how many got something else than an Access-Accept."""
    failed = 0
    while not over.is_set():
        answer = await nas.sign_in("alice", "secret")
        failed += answer is None or answer.code != radius.ACCESS_ACCEPT
    return failed


async def test_two_upgrades_under_load_refuse_nobody_and_lose_nothing(site: Site) -> None:
    over, pids = asyncio.Event(), [site.balancer.pid]
    async with AsyncExitStack() as stack:
        nases = [await stack.enter_async_context(open_nas(site.radius_port, PATIENT)) for _ in range(6)]
        callers = stack.enter_context(load_on(site.secure, 1)) + stack.enter_context(load_on(site.plain, 1))
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask_all_the_time(nas, over)) for nas in nases for _ in range(4)]
            for _ in range(2):
                await asyncio.sleep(0.3)
                pids.append((await asyncio.to_thread(site.upgrade)).pid)
            await asyncio.sleep(0.3)
            over.set()
    assert [caller.failures for caller in callers] == [[]] * len(callers)
    assert min(caller.served for caller in callers) > 20
    assert [task.result() for task in asked] == [0] * len(asked)
    tallies = [nas.tally for nas in nases]
    assert sum(one.unfit for one in tallies) == 0
    requests = sum(one.requests for one in tallies)
    assert sum(len(server.requests()) for server in site.servers) == requests > 100, "none twice"
    assert len(set(pids)) == 3
    wait_until(lambda: not is_alive(pids[1]), "the end of the second process", deadline_s=30)
    assert len(site.balancer.workers) == WORKERS


# ------------------------------------------------------------------------------------ what has begun goes on


async def test_requests_in_flight_are_gone_on_with_by_the_next_process_and_by_its_next_workers(
    site: Site,
) -> None:
    site.be_silent()
    one, other = site.servers
    async with AsyncExitStack() as stack:
        nas = await stack.enter_async_context(open_nas(site.radius_port, HASTY))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        asked = [group.create_task(nas.sign_in("alice", "secret")) for _ in range(2)]
        await asyncio.to_thread(wait_until, lambda: bool(one.requests() and other.requests()), "both requests")
        await asyncio.to_thread(site.upgrade)
        one.manners = Manners()
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        workers = site.balancer.workers
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        await asyncio.to_thread(
            wait_until, lambda: len(set(site.balancer.workers) - set(workers)) == WORKERS, "the next workers"
        )
        other.manners = Manners()
    assert [answer.code for task in asked if (answer := task.result())] == [radius.ACCESS_ACCEPT] * 2
    for server in site.servers:
        assert len({(again.port, again.data) for again in server.requests()}) == 1, "retransmits, all the others"


class KeptNode:
    """An AD FS node on one connection, which is open already."""

    def __init__(self, url: str) -> None:
        self._session = requests.Session()
        self._session.auth = (ACCOUNT.name, ACCOUNT.password)
        transport = Transport(session=self._session)  # type: ignore[no-untyped-call]  # zeep
        self._service = Client(f"{url}?wsdl", transport=transport).service  # type: ignore[no-untyped-call]  # zeep

    def call(self, operation: str, *arguments: str) -> Any:
        return self._service[operation](*arguments)

    def close(self) -> None:
        self._session.close()


async def half_two(balanced: BalancedEstate, node: AdfsNode | KeptNode, user: User, authreqid: str) -> bool:
    """Whether the code that was texted is accepted."""
    (code, *_) = await balanced.estate.cloud.codes(user.name)
    ended = await asyncio.to_thread(node.call, "VerifyOneWayOtp", user.name, authreqid, code)
    return bool(ended.VerifyOneWayOtpResult)


async def test_sign_ins_that_have_begun_end_well_and_a_phone_rings_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("programs.balancer.WORKERS", WORKERS)
    habits = NasHabits(SharedSecret(RADIUS_SECRET.encode()), tries=60)
    by_radius, by_sdk, at_portal, in_between = TEXTED[:4], TEXTED[4], TEXTED[5], TEXTED[6:8]
    with socket_path() as path:
        async with (
            balanced_estate(tmp_path, portals=2, admin_socket=path) as balanced,
            open_nas(balanced.radius_port, habits) as nas,
        ):
            handsets = Handsets(balanced.estate.cloud.service.ports["http"])
            await asyncio.to_thread(handsets.leave_ringing, CALLED.name)
            browser = Browser(balanced.portal_url, tmp_path / "jar")
            account = await sign_in_at_portal(balanced, browser, at_portal)
            begun = [await nas.sign_in(user.name, user.password) for user in by_radius]
            kept = [await asyncio.to_thread(KeptNode, balanced.sdk_url) for _ in in_between]
            half_one = await asyncio.to_thread(AdfsNode(balanced).call, "PfAuthUser_4", by_sdk.name, "adfs")
            async with asyncio.TaskGroup() as group:
                called = group.create_task(nas.sign_in(CALLED.name, CALLED.password))
                await asyncio.to_thread(handsets.wait_for_ring, CALLED.name)
                done = await asyncio.to_thread(Operator(path).ask, "upgrade")
                balanced.balancer.replaced_by(done["pid"])
                assert not called.done()
                await asyncio.to_thread(handsets.answer, CALLED.name, "approve")
            answer = called.result()
            assert answer is not None
            assert answer.code == radius.ACCESS_ACCEPT
            assert await balanced.estate.cloud.calls_made() == {CALLED.name: 1}
            for user, challenge in zip(by_radius, begun, strict=True):
                assert challenge is not None
                (code, *_) = await balanced.estate.cloud.codes(user.name)
                ended = await nas.sign_in(user.name, code, challenge.first(radius.STATE))
                assert ended is not None
                assert ended.code == radius.ACCESS_ACCEPT
            fresh = AdfsNode(balanced)
            assert await half_two(balanced, fresh, by_sdk, half_one.authreqid)
            # Each process knows what the other one pins, while the former one's connections are open
            for user, first, second in ((in_between[0], kept[0], fresh), (in_between[1], fresh, kept[1])):
                half_one = await asyncio.to_thread(first.call, "PfAuthUser_4", user.name, "adfs")
                assert await half_two(balanced, second, user, half_one.authreqid)
            for node in kept:
                node.close()
            assert {(await browser.get()).served_by for _ in range(4)} == {account.served_by}
            expected = dict.fromkeys([one.name for one in (*by_radius, by_sdk, at_portal, *in_between)], 1)
            assert await balanced.estate.cloud.texts_sent() == expected


class KeptConnection:
    """A connection for one request after the other."""

    def __init__(self, front: Front) -> None:
        self._sock = front.open()
        self._stream = Responses(self._sock)

    def ask(self) -> Response:
        self._sock.sendall(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        return self._stream.next()

    def is_ended(self) -> bool:
        return self._stream.rest() == b""

    def close(self) -> None:
        self._stream.close()
        self._sock.close()


def set_state(site: Site, backend: str, state: Literal["ready", "drain", "maint"]) -> None:
    deadline_s = 600.0 if state == "drain" else None
    change = api.AdminStateChange(backend=backend, state=state, deadline_s=deadline_s)
    site.admin.post(api.Changed, "/v1/admin-state", change)


def test_tls_sessions_and_operators_orders_outlive_the_process(
    site: Site, certificate: CertificateFiles, tmp_path: Path
) -> None:
    openssl, session = SClient(certificate.ca), tmp_path / "session"
    assert openssl.begin(site.secure.port, session).is_answered
    set_state(site, "web/b1", "drain")
    site.admin.post(api.Changed, "/v1/weight", api.WeightChange(backend="mfa/r2", weight=7))
    former = site.balancer.pid

    done = site.upgrade()

    assert (done.former_pid, done.addresses, done.drains) == (former, 4, 1)
    assert openssl.resume(site.secure.port, session).is_resumed
    found = {(one.pool, one.name): one for one in site.admin.get(api.Status, "/v1/status").backends}
    assert (found["web", "b1"].admin_state, found["web", "b2"].admin_state) == ("drain", "ready")
    assert found["mfa", "r2"].weight == 7
    (left,) = site.admin.get(api.Leavings, "/v1/leaving", backend="web/b1").backends
    assert left.deadline_in_s is not None
    set_state(site, "web/b1", "ready")
    site.admin.post(api.Changed, "/v1/weight", api.WeightChange(backend="mfa/r2", weight=None))


def test_open_connections_end_well_in_up_to_two_former_processes(site: Site) -> None:
    with ExitStack() as stack:
        former = site.balancer.pid
        kept = [stack.enter_context(closing(KeptConnection(site.plain))) for _ in range(20)]
        assert {one.ask().headers.get("connection") for one in kept} == {None}
        websockets = [stack.enter_context(connect(f"ws://{LOOPBACK}:{site.plain.port}/ws"))]
        set_state(site, "web/b1", "drain")
        second = site.upgrade().pid

        assert kept[0].ask().headers["connection"] == "close"
        assert kept.pop(0).is_ended()
        set_state(site, "web/b1", "ready")
        set_state(site, "web/b2", "maint")  # the former process hears of it
        wait_until(lambda: json.loads(kept.pop().ask().body)["name"] == "b1", "a former worker to know", deadline_s=5)
        set_state(site, "web/b2", "ready")
        for one in kept:
            one.close()

        websockets.append(stack.enter_context(connect(f"ws://{LOOPBACK}:{site.plain.port}/ws")))
        site.upgrade()
        for websocket in websockets:
            assert websocket.recv() in ("b1", "b2")
            websocket.send("still there")
            assert websocket.recv() == "still there"
        assert f"former processes still end their connections: {second}, {former}" in site.refused_upgrade()
        websockets[0].close()
        wait_until(lambda: not is_alive(former), "the end of the first process", deadline_s=30)
        assert is_alive(second)


def test_a_radsec_client_gets_its_answer_and_is_then_let_go_of(site: Site) -> None:
    site.be_silent()
    tls = client_tls(site.trust.ca, site.trust.client)
    with connected(site.radsec_port, tls) as client:
        client.send(access_request())
        wait_until(lambda: any(server.requests() for server in site.servers), "the request")
        site.upgrade()
        (server,) = [one for one in site.servers if one.requests()]
        (asked,) = server.requests()
        for one in site.servers:
            one.manners = Manners()
        with connected(site.radsec_port, tls) as another:
            assert another.ask(access_request()).code == radius.ACCESS_ACCEPT
        server.answer(asked)
        assert client.packet().code == radius.ACCESS_ACCEPT
        assert client.is_closed()


# ------------------------------------------------------------------------------------ when it cannot be


def write(file: Path, text: str) -> None:
    """Python knows compiled code by its source's size and second: an older one would pass for this."""
    file.write_text(text, "utf-8")
    shutil.rmtree(file.parent / "__pycache__", ignore_errors=True)


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text("utf-8")
    assert text.count(before) == 1
    write(file, text.replace(before, after))


def test_the_code_that_is_on_the_disk_counts_and_broken_code_leaves_the_running_one_serving(
    site: Site,
) -> None:
    package = site.package
    version, entry = package / "__init__.py", package / "cli" / "serve.py"
    sound = entry.read_text("utf-8")
    write(entry, "this is no Python\n")
    said = site.refused_upgrade()
    assert "the new process ended with 1 before it was ready" in said
    assert "SyntaxError" in site.balancer.log()
    write(entry, sound)

    change(package / "balancer/supervisor/hand_over.py", "FORMAT: Final = 1", "FORMAT: Final = 2")
    assert "this version takes over what has form 2, the running one hands over form 1" in site.refused_upgrade()
    change(package / "balancer/supervisor/hand_over.py", "FORMAT: Final = 2", "FORMAT: Final = 1")

    forget_tracebacks(site.balancer)

    change(version, f'"{mfalb.__version__}"', '"9.9.9"')
    site.upgrade()
    versions = {site.admin.get(api.Status, "/v1/status").version for _ in range(20)}
    assert versions == {"9.9.9"}, "who has heard of the upgrade and asks again is answered by the new process"


def forget_tracebacks(balancer: Balancer) -> None:
    """Those of processes that were to fail."""
    balancer.err_path.write_text(balancer.log().replace("Traceback", "traceback"), "utf-8")


def test_a_configuration_that_cannot_be_used_leaves_the_running_one_serving_and_says_why(
    site: Site,
) -> None:
    balancer, config, word = site.balancer, site.balancer.completed(site.config), "nobody took over"
    before = balancer.log().count(word)
    balancer.config_path.write_text("listeners: [\n", "utf-8")
    assert "mfalb.yaml:" in site.refused_upgrade()
    balancer.write_config({**config, "workers": WORKERS + 1})
    assert f"these settings take a restart: workers ({WORKERS} are running)" in site.refused_upgrade()
    broken = {**config["listeners"][0], "tls": {"certificates": [{"cert": __file__, "key": __file__}]}}
    balancer.write_config({**config, "listeners": [broken, *config["listeners"][1:]]})
    site.refused_upgrade()
    assert balancer.log().count(word) == before + 3


SERVES: Final = "await let_serve(self._crew, legacy.seats)"
DIES: Final = "os._exit(7)"


async def test_a_process_that_dies_in_the_midst_of_taking_over_costs_nobody_anything(
    site: Site,
) -> None:
    taking_over = site.package / "balancer/supervisor/supervisor.py"
    change(taking_over, SERVES, DIES)
    over = asyncio.Event()
    async with AsyncExitStack() as stack:
        nases = [await stack.enter_async_context(open_nas(site.radius_port, PATIENT)) for _ in range(4)]
        callers = stack.enter_context(load_on(site.secure, 1))
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask_all_the_time(nas, over)) for nas in nases]
            await asyncio.sleep(0.3)
            said = await asyncio.to_thread(site.refused_upgrade)
            await asyncio.sleep(0.3)
            over.set()
    change(taking_over, DIES, SERVES)
    assert "the new process ended with 7" in said
    assert "workers of ours go on" in site.balancer.log()
    assert [caller.failures for caller in callers] == [[]] * len(callers)
    assert [task.result() for task in asked] == [0] * len(asked)
    assert sum(len(one.requests()) for one in site.servers) == sum(nas.tally.requests for nas in nases)


# ------------------------------------------------------------------------------------ the service manager


def descendants_of(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):  # it may end while we look
        return [one for child in children_of(pid) for one in (child, *descendants_of(child))]
    return []


def test_the_service_manager_is_told_which_process_is_the_service(site: Site) -> None:
    manager = site.manager
    manager.forget()
    site.balancer.signal(signal.SIGUSR2)
    wait_until(lambda: manager.has("READY=1"), "the next process", deadline_s=30)
    words = [message for message in manager.heard() if message.startswith(("MAINPID=", "READY=1"))]
    site.replaced_by(int(words[0].removeprefix("MAINPID=")))
    assert site.balancer.pid not in descendants_of(site.formers[-1]), "systemd would kill it instead of stopping it"
    assert words[1].startswith("READY=1\nSTATUS=2 of 2 workers serve")
    wait_until(lambda: not is_alive(site.formers[-1]), "the end of the former process", deadline_s=30)
    manager.forget()
    wait_until(lambda: manager.has("WATCHDOG=1"), "a ping")
    assert not manager.has("STOPPING=1")
    assert site.secure.get("/echo")[0] == 200
