"""Promise: the units of conf/systemd do under systemd, fully locked up, what they and the README say.

A real systemd runs them as they are shipped: on a host of its own, beside the drop-in for Debian 12 (which it is).
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from programs.certificates import CertificateFiles, make_certificate
from programs.http_backend import HttpBackend
from programs.http_pool import Front, http_pool
from programs.nas import Nas, open_nas
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radius_pool import RadiusPool, radius_pool
from programs.radius_responder import Manners, RadiusResponder
from programs.systemd_host import UNITS, SystemdHost
from scenarios.test_upgrade import PATIENT, Caller, ask_all_the_time, load_on

from mfalb.balancer.admin import api_models as api
from mfalb.cli.admin_client import AdminClient
from mfalb.wire import radius

WORKERS: Final = 2
CLIENT_SECRET: Final = "towards-the-clients-0"
SECRET: Final = "towards-the-servers-0"
ETC: Final = "/etc/mfalb"
CONFIG: Final = f"{ETC}/balancer.yaml"
ACCESS_LOG: Final = "/var/log/mfalb/access.log"
ADMIN_SOCKET: Final = "/run/mfalb/admin.sock"
DROP_INS: Final = "/etc/systemd/system/mfalb.service.d"
SERVICE: Final = "mfalb.service"
SERVE: Final = f"{WORKERS} of {WORKERS} workers serve"
NET_BIND_SERVICE: Final = 1 << 10
WEB_NAME: Final = "web.example.test"
RESTART_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Node:
    """The host with mfalb installed on it, and who is before and behind it, in the host's network."""

    host: SystemdHost
    front: Front
    servers: tuple[RadiusResponder, ...]
    config: dict[str, Any]

    def write_config(self, **changes: object) -> None:
        """JSON is YAML."""
        self.host.write(CONFIG, json.dumps(self.config | changes, indent=2))

    def write_certificate(self, files: CertificateFiles) -> None:
        for name, path in (("portal.key", files.key), ("portal.pem", files.cert)):
            self.host.write(f"{ETC}/tls/{name}", path.read_text())

    def shown(self, name: str) -> str:
        return self.host.shown(SERVICE, name)[name]

    @property
    def is_serving(self) -> bool:
        return self.shown("ActiveState") == "active" and self.shown("StatusText") == SERVE

    def drop_in(self, name: str, *lines: str) -> None:
        """A drop-in of the operator's; it counts from the next start on."""
        path = self.host.path(f"{DROP_INS}/{name}.conf")
        path.write_text("\n".join((*lines, "")))
        self.host.systemctl("daemon-reload")

    def status(self) -> api.Status:
        """What `mfalb status` shows."""
        return AdminClient(self.host.path(ADMIN_SOCKET), 30.0).get(api.Status, "/v1/status")

    def journal(self) -> str:
        return self.host.journal_text(SERVICE)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """As the units' comments say it: the program, its user, its configuration, the unit and the drop-in."""
    run_dir = tmp_path_factory.mktemp("systemd")
    with ExitStack() as stack:
        host = stack.enter_context(SystemdHost(run_dir / "host"))
        host.install_package()
        host.install(UNITS / SERVICE, "/etc/systemd/system")
        host.install(UNITS / "debian-12.conf", DROP_INS)
        stack.enter_context(host.network())
        backend = stack.enter_context(HttpBackend("b1", run_dir / "b1"))
        manners = Manners(challenges=True)
        servers = tuple(stack.enter_context(RadiusResponder(f"r{n}", SECRET, replace(manners))) for n in (1, 2))
        pool = radius_pool(servers, run_dir, client_secret=CLIENT_SECRET)
        certificate = make_certificate(run_dir / "tls", LOOPBACK)
        node = Node(host, Front(443, certificate), servers, configuration(pool, backend))
        for name, secret in (("clients", CLIENT_SECRET), ("servers", SECRET)):
            host.write(f"{ETC}/secrets/{name}", secret)
        node.write_certificate(certificate)
        with host.path("/etc/hosts").open("a") as hosts:
            hosts.write(f"{LOOPBACK} {WEB_NAME}\n")
        yield node


def configuration(pool: RadiusPool, backend: HttpBackend) -> dict[str, Any]:
    """HTTPS and RADIUS on their own ports, and files where they belong."""
    (radius_listener,), mfa = pool.config["listeners"], pool.config["pools"]["mfa"]
    backends = [one | {"secret_file": f"{ETC}/secrets/servers"} for one in mfa["backends"]]
    clients = [one | {"secret_file": f"{ETC}/secrets/clients"} for one in radius_listener["clients"]]
    pair = {"cert": f"{ETC}/tls/portal.pem", "key": f"{ETC}/tls/portal.key"}
    portal = {
        "name": "portal",
        "protocol": "https",
        "bind": ["0.0.0.0:443"],
        "tls": {"certificates": [pair]},
        "routes": [{"pool": "web"}],
        "limits": {"handshake_timeout": "1s"},  # so long a former process waits for who began a handshake
    }
    return {
        "workers": WORKERS,
        "listeners": [portal, radius_listener | {"bind": ["0.0.0.0:1812"], "clients": clients}],
        "pools": {"web": http_pool(f"{WEB_NAME}:{backend.port}"), "mfa": mfa | {"backends": backends}},
        "tls": {"file_check_interval": "500ms"},
        "log": {"access": True, "access_file": ACCESS_LOG},
    }


@contextmanager
def watched(node: Node) -> Iterator[Node]:
    """As it was installed, whatever the test before has left; no traceback and no secret may be told."""
    for server in node.servers:
        server.manners = Manners(challenges=True)
    node.write_config()
    for path in node.host.path(DROP_INS).iterdir():
        if path.name != "debian-12.conf":
            path.unlink()
    node.host.systemctl("daemon-reload")
    node.host.run("systemctl", "reset-failed", SERVICE, may_fail=True)  # starts are counted, too
    yield node
    log = node.journal()
    assert "Traceback" not in log
    assert not any(secret in log for secret in (SECRET, CLIENT_SECRET))


@pytest.fixture
def node(installed: Node) -> Iterator[Node]:
    """The service runs."""
    with watched(installed) as node:
        node.host.systemctl("start", SERVICE)
        yield node


@pytest.fixture
def stopped(installed: Node) -> Iterator[Node]:
    """The service is for the test to start, and does not go on behind it."""
    installed.host.systemctl("stop", SERVICE)
    with watched(installed) as node:
        yield node
        node.host.systemctl("stop", SERVICE)


# ------------------------------------------------------------------------------------ locked up, and at work


def fields(node: Node, pid: int, *names: str) -> list[str]:
    """Of /proc/PID/status."""
    lines = node.host.path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return [found[name] for name in names]


def mount_options(node: Node, pid: int, place: str) -> set[str]:
    """Of what is mounted there last, as a process of the service sees it; none when nothing is."""
    lines = [line.split() for line in node.host.path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return next((set(words[5].split(",")) for words in reversed(lines) if words[4] == place), set())


def test_a_start_returns_when_every_worker_serves_with_one_capability_and_nothing_to_write_to(node: Node) -> None:
    assert node.is_serving
    assert node.front.get("/echo")[0] == 200
    assert "Failed" not in node.journal()
    uid = node.host.run("id", "--user", "mfalb").strip()
    pids = node.host.processes(SERVICE)
    assert len(pids) == WORKERS + 2, "the supervisor, the nursery, the workers"
    for pid in pids:
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(fields(node, pid, name)[0], 16) == NET_BIND_SERVICE, name
        assert fields(node, pid, "Uid")[0].split() == [uid] * 4
        assert fields(node, pid, "NoNewPrivs", "Seccomp") == ["1", "2"], "SECCOMP_MODE_FILTER"
        for place in ("/", "/etc", "/proc/sys", "/sys/fs/cgroup"):
            assert "ro" in mount_options(node, pid, place), place
        for place in ("/run/mfalb", "/var/log/mfalb", "/tmp"):  # noqa: S108 - it is private there
            assert "rw" in mount_options(node, pid, place), place


async def sign_in_by_halves(first: Nas, second: Nas, user: str) -> bool:
    """Whether the server that began it was found again, from another port of the client's."""
    challenge = await first.sign_in(user, "password")
    assert challenge is not None
    assert challenge.code == radius.ACCESS_CHALLENGE
    ended = await second.sign_in(user, "123456", challenge.first(radius.STATE))
    return ended is not None and ended.code == radius.ACCESS_ACCEPT


async def test_sign_ins_by_radius_end_where_they_began_whichever_worker_has_the_second_half(node: Node) -> None:
    async with AsyncExitStack() as stack:
        nases = [await stack.enter_async_context(open_nas(1812, PATIENT)) for _ in range(8)]
        rounds = [
            (nas, nases[number - 1], f"user{number}x{turn}") for turn in range(8) for number, nas in enumerate(nases)
        ]
        accepted = await asyncio.gather(*(sign_in_by_halves(*one) for one in rounds))
    assert accepted == [True] * len(rounds)
    assert all(server.requests() for server in node.servers)


def access_lines(node: Node) -> list[str]:
    return node.host.path(ACCESS_LOG).read_text().splitlines()


def test_the_access_log_is_the_services_own_and_a_reload_begins_another_one(node: Node) -> None:
    path = node.host.path(ACCESS_LOG)
    before = len(access_lines(node))
    assert node.front.get("/echo/first")[0] == 200
    wait_until(lambda: len(access_lines(node)) > before, "its line")
    assert node.host.run("stat", "--format=%U %a", ACCESS_LOG).split() == ["mfalb", "600"]
    path.rename(path.with_name("access.log.1"))
    node.host.systemctl("reload", SERVICE)
    wait_until(path.exists, "another file")
    assert node.front.get("/echo/second")[0] == 200
    wait_until(lambda: any("/echo/second" in line for line in access_lines(node)), "its line")


def served_certificate(front: Front) -> bytes:
    """What a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((LOOPBACK, front.port), timeout=10) as plain, context.wrap_socket(plain) as client:
        return client.getpeercert(binary_form=True) or b""


def test_a_certificate_that_was_renewed_is_taken_up(node: Node, tmp_path: Path) -> None:
    assert node.front.certificate is not None
    first = served_certificate(node.front)
    node.write_certificate(make_certificate(tmp_path, LOOPBACK))
    wait_until(lambda: served_certificate(node.front) != first, "another certificate")
    node.write_certificate(node.front.certificate)
    wait_until(lambda: served_certificate(node.front) == first, "the former one again")


def test_operators_are_answered_and_a_killed_worker_is_replaced(node: Node) -> None:
    node.host.verb("drain", "mfa/r2")
    backends = node.status().backends
    assert {one.name: one.admin_state for one in backends} == {"b1": "ready", "r1": "ready", "r2": "drain"}
    pids = node.host.processes(SERVICE)
    node.host.run("kill", "-KILL", str(max(pids)))
    wait_until(lambda: len(set(node.host.processes(SERVICE)) - set(pids)) == 1, "the next worker")
    wait_until(lambda: node.is_serving, SERVE)
    assert node.front.get("/echo")[0] == 200
    assert node.shown("NRestarts") == "0"


# ------------------------------------------------------------------------------------ reload, upgrade, stop


def test_a_reload_takes_up_another_configuration_and_a_bad_one_changes_nothing_and_is_told(node: Node) -> None:
    pid = node.host.main_pid(SERVICE)
    more = node.config["listeners"][0] | {"name": "second", "bind": ["0.0.0.0:444"]}
    node.write_config(listeners=[*node.config["listeners"], more])
    node.host.systemctl("reload", SERVICE)
    second = Front(444, node.front.certificate)

    def is_served() -> bool:
        try:
            return second.get("/echo")[0] == 200
        except ConnectionRefusedError:
            return False

    wait_until(is_served, "the other listener")
    node.host.write(CONFIG, "listeners: [\n")
    node.host.systemctl("reload", SERVICE)
    wait_until(lambda: f"{CONFIG}:2:1" in node.journal(), "its mistake in the journal")
    told = [one["PRIORITY"] for one in node.host.journal(SERVICE) if f"{CONFIG}:2:1" in one["MESSAGE"]]
    assert set(told) == {"3"}, "errors"
    wait_until(lambda: node.is_serving, SERVE)
    assert (second.get("/echo")[0], node.front.get("/echo")[0]) == (200, 200)
    assert (node.host.main_pid(SERVICE), node.shown("NRestarts")) == (pid, "0")


def assert_none_failed(callers: list[Caller]) -> None:
    assert [caller.failures for caller in callers] == [[]] * len(callers)
    assert min(caller.served for caller in callers) > 10


async def test_an_upgrade_under_load_refuses_nobody_and_systemd_goes_on_with_the_new_process(node: Node) -> None:
    former, over = node.host.main_pid(SERVICE), asyncio.Event()
    for server in node.servers:
        server.manners = Manners()
    node.host.install_package("9.9.9")
    async with AsyncExitStack() as stack:
        nases = [await stack.enter_async_context(open_nas(1812, PATIENT)) for _ in range(4)]
        callers = stack.enter_context(load_on(node.front, 1))
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask_all_the_time(nas, over)) for nas in nases]
            await asyncio.sleep(0.3)
            done = json.loads(await asyncio.to_thread(node.host.verb, "upgrade", "--json"))
            await asyncio.sleep(0.3)
            over.set()
    assert_none_failed(callers)
    assert [task.result() for task in asked] == [0] * len(asked)
    wait_until(lambda: not node.host.path(f"/proc/{former}").exists(), "the end of the former process", deadline_s=30)
    assert node.host.main_pid(SERVICE) == done["pid"] != former
    assert (node.is_serving, node.shown("NRestarts")) == (True, "0")
    assert node.status().version == "9.9.9"

    node.host.systemctl("reload", SERVICE)
    node.host.systemctl("stop", SERVICE)
    assert (node.shown("ActiveState"), node.shown("Result"), node.shown("NRestarts")) == ("inactive", "success", "0")
    log = node.journal()
    assert "not our child" not in log
    assert "SIGKILL" not in log
    assert node.host.processes(SERVICE) == []


def test_members_of_a_group_use_the_admin_socket_with_the_two_lines_that_the_unit_tells(stopped: Node) -> None:
    stopped.host.run("groupadd", "--force", "operators")
    stopped.write_config(admin={"socket": ADMIN_SOCKET, "socket_group": "operators"})
    lines = [line.lstrip("# ") for line in (UNITS / SERVICE).read_text().splitlines()]
    at = lines.index("SystemCallFilter=@chown")
    stopped.drop_in("group", "[Service]", *(one.replace("the-group", "operators") for one in lines[at - 1 : at + 1]))
    stopped.host.systemctl("start", SERVICE)
    assert stopped.host.run("stat", "--format=%G %a", ADMIN_SOCKET).split() == ["operators", "660"]


# ------------------------------------------------------------------------------------ ends that nobody wanted


def wait_for_another(node: Node, former: int, restarts: int) -> None:
    """Until another process serves, by a restart of systemd's, and nothing of the former one is left."""
    wait_until(lambda: node.shown("NRestarts") == str(restarts), "a restart", deadline_s=RESTART_S)
    wait_until(lambda: node.is_serving, SERVE, deadline_s=RESTART_S)
    assert node.host.main_pid(SERVICE) != former
    assert node.front.get("/echo")[0] == 200
    assert len(node.host.processes(SERVICE)) == WORKERS + 2


def test_a_supervisor_that_stands_still_is_restarted_by_the_watchdog(stopped: Node) -> None:
    stopped.drop_in("watchdog", "[Service]", "WatchdogSec=2s")
    stopped.host.systemctl("start", SERVICE)
    former = stopped.host.main_pid(SERVICE)
    stopped.host.signal_main(SERVICE, signal.SIGSTOP)
    wait_for_another(stopped, former, 1)
    assert "Watchdog timeout" in stopped.journal()


def test_a_supervisor_that_was_killed_is_restarted_and_nothing_of_it_is_left(node: Node) -> None:
    restarts = int(node.shown("NRestarts"))
    former, pids = node.host.main_pid(SERVICE), node.host.processes(SERVICE)
    node.host.signal_main(SERVICE, signal.SIGKILL)
    wait_for_another(node, former, restarts + 1)
    assert not set(pids) & set(node.host.processes(SERVICE))
    assert not [pid for pid in pids if node.host.path(f"/proc/{pid}").exists()]


# ------------------------------------------------------------------------------------ sockets that systemd keeps


def socket_units(node: Node) -> list[str]:
    """The one that is shipped, and those that its comment tells of, for RADIUS with several workers."""
    copy = node.host.install(UNITS / "mfalb.socket", "/etc/systemd/system")
    text = copy.read_text()
    for old, new in (
        ("ListenStream=0.0.0.0:443", "ListenDatagram=0.0.0.0:1812\nReusePort=yes"),
        ("FileDescriptorName=portal", "FileDescriptorName=radius"),
        ("Backlog=4096\nNoDelay=yes\n", ""),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    names = [f"mfalb-radius-{number}.socket" for number in range(1, WORKERS + 1)]
    for name in names:
        copy.with_name(name).write_text(text)
    return [copy.name, *names]


@contextmanager
def new_connections(front: Front, count: int) -> Iterator[list[Caller]]:
    """All the time."""

    def call() -> None:
        assert front.get("/echo")[0] == 200

    callers = [Caller(call) for _ in range(count)]
    with ExitStack() as stack:
        for caller in callers:
            stack.callback(caller.stop)
            caller.start()
        yield callers


async def test_nobody_is_refused_over_a_restart_when_systemd_keeps_the_sockets(stopped: Node) -> None:
    units = socket_units(stopped)
    stopped.drop_in("sockets", "[Unit]", f"Requires={' '.join(units)}", f"After={' '.join(units)}")
    for server in stopped.servers:
        server.manners = Manners()
    stopped.host.systemctl("start", *units)
    over = asyncio.Event()
    async with AsyncExitStack() as stack:
        callers = stack.enter_context(new_connections(stopped.front, 4))
        nases = [await stack.enter_async_context(open_nas(1812, PATIENT)) for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            for nas in nases:
                group.create_task(ask_all_the_time(nas, over))
            for verb in ("start", "restart"):
                await asyncio.sleep(0.3)
                await asyncio.to_thread(stopped.host.systemctl, verb, SERVICE)
            await asyncio.sleep(0.3)
            over.set()
    failures = [failure for caller in callers for failure in caller.failures]
    refused = [failure for failure in failures if "Refused" in failure]
    assert refused == []
    assert min(caller.served for caller in callers) > 10
    assert len(failures) <= 2 * len(callers), "what was being served when it ended"
    stopped.host.systemctl("stop", *units, SERVICE)
    for name in units:
        stopped.host.path(f"/etc/systemd/system/{name}").unlink()
