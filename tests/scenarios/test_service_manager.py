"""Promise: a service manager knows how the balancer is, gives it sockets, and stamps its log.

`test_systemd` has a real one, which keeps its sockets over restarts.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from programs import radclient
from programs.balancer import Balancer
from programs.http_backend import HttpBackend
from programs.http_pool import Front, http_pool, new_front
from programs.operator import Operator, socket_path
from programs.ports import LOOPBACK, free_tcp_port, free_udp_port
from programs.process import Launch, wait_until
from programs.radclient import Target
from programs.radius_pool import radius_pool
from programs.radius_server import RadiusServer

WATCHDOG_S = 0.4


class FakeManager:
    """The socket that $NOTIFY_SOCKET names, and what came over it."""

    def __init__(self, address: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self._sock.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1_000_000))}
        self._heard: list[str] = []

    def heard(self) -> list[str]:
        """All messages up to now."""
        with suppress(BlockingIOError):
            while True:
                self._heard.append(self._sock.recv(4096).decode())
        return self._heard

    def has(self, word: str) -> bool:
        return any(word in message.split("\n") for message in self.heard())

    def forget(self) -> None:
        self.heard().clear()

    def close(self) -> None:
        self._sock.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeManager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@mfalb-test-{os.getpid()}-{free_tcp_port()}"
    manager = FakeManager(name)
    yield manager
    manager.close()


def config_of(front: Front, *addresses: str, workers: int = 2) -> dict[str, Any]:
    return {
        "workers": workers,
        "listeners": [front.listener("web", [{"pool": "web"}])],
        "pools": {"web": http_pool(*addresses)},
    }


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[HttpBackend]:
    with HttpBackend("b1", tmp_path / "b1") as backend:
        yield backend


def test_a_service_manager_is_told_of_readiness_reload_and_the_end(
    manager: FakeManager, backend: HttpBackend, tmp_path: Path
) -> None:
    front = new_front()
    launch = Launch(environment=manager.environment)
    with Balancer(config_of(front, backend.address), tmp_path / "mfalb", launch=launch) as balancer:
        wait_until(lambda: manager.has("READY=1"), "READY=1")
        assert "READY=1\nSTATUS=2 of 2 workers serve" in manager.heard()
        assert front.get("/echo")[0] == 200
        wait_until(lambda: manager.heard().count("WATCHDOG=1") >= 3, "pings")
        manager.forget()
        balancer.signal(signal.SIGHUP)
        wait_until(lambda: manager.has("READY=1"), "the end of the reload")
        words = [message.split("\n") for message in manager.heard() if message != "WATCHDOG=1"]
        assert [message[0] for message in words[:2]] == ["RELOADING=1", "READY=1"]
        assert words[0][1].removeprefix("MONOTONIC_USEC=").isdigit()
        manager.forget()
    assert manager.has("STOPPING=1")


def test_a_service_manager_is_told_of_a_reload_that_an_operator_asks_for_and_of_no_dry_run(
    backend: HttpBackend, tmp_path: Path
) -> None:
    manager = FakeManager(str(tmp_path / "notify"))
    launch = Launch(environment=manager.environment)
    with socket_path() as admin_socket:
        config = config_of(new_front(), backend.address, workers=1) | {"admin": {"socket": str(admin_socket)}}
        with Balancer(config, tmp_path / "mfalb", launch=launch) as balancer:
            wait_until(lambda: manager.has("READY=1"), "READY=1")
            operator = Operator(admin_socket)
            manager.forget()
            assert operator.ask("reload", "--dry-run")["is_dry_run"]
            assert [message for message in manager.heard() if message != "WATCHDOG=1"] == []
            for text, exit_code in ((balancer.config_path.read_text("utf-8"), 0), ("pools: 7\n", 1)):
                balancer.config_path.write_text(text, "utf-8")
                assert operator.run("reload").exit_code == exit_code
                wait_until(lambda: manager.has("READY=1"), "the end of the reload")
                words = [message.split("\n") for message in manager.heard() if message != "WATCHDOG=1"]
                assert [message[0] for message in words] == ["RELOADING=1", "READY=1"]
                assert words[0][1].removeprefix("MONOTONIC_USEC=").isdigit()
                manager.forget()
    manager.close()


def test_a_balancer_that_cannot_start_never_says_that_it_is_ready(backend: HttpBackend, tmp_path: Path) -> None:
    manager = FakeManager(str(tmp_path / "notify"))
    taken = socket.create_server((LOOPBACK, 0))
    front = Front(taken.getsockname()[1])
    balancer = Balancer(
        config_of(front, backend.address), tmp_path / "mfalb", launch=Launch(environment=manager.environment)
    )
    with pytest.raises(Exception, match="cannot bind"):
        balancer.start()
    assert manager.heard() == []
    taken.close()
    manager.close()


# Where Python starts with it, one of the workers waits until somebody has opened the pipe and closed it again.
HOLD_A_WORKER = """
import os
depth = forks = 0
def before():
    global forks
    forks += 1
def in_child():
    global depth, forks
    number, depth, forks = forks, depth + 1, 0
    if depth == 2 and number == int(os.environ["HELD"]):  # the supervisor forks a nursery, and that the workers
        open(os.environ["HELD_UNTIL"]).read()
os.register_at_fork(before=before, after_in_child=in_child)
"""


def held(pipe: Path, number: int = 2) -> dict[str, str]:
    """An environment in which it is the `number`th that is begun, from 1 on."""
    os.mkfifo(pipe)
    folder = pipe.parent / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOLD_A_WORKER)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "HELD_UNTIL": str(pipe), "HELD": str(number)}


def status_verb(admin_socket: Path) -> int:
    argv = [sys.executable, "-m", "mfalb", "status", "--socket", str(admin_socket)]
    return subprocess.run(argv, capture_output=True, check=False, timeout=60).returncode


def test_nobody_is_told_of_readiness_before_the_last_worker_serves(backend: HttpBackend, tmp_path: Path) -> None:
    manager, pipe = FakeManager(str(tmp_path / "notify")), tmp_path / "held"
    with ExitStack() as stack:
        stack.callback(manager.close)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mfalb-")))  # a socket's path may not be long
        config = config_of(new_front(), backend.address) | {"admin": {"socket": str(folder / "admin.sock")}}
        launch = Launch(environment={**manager.environment, **held(pipe)})
        balancer = Balancer(config, tmp_path / "mfalb", launch=launch)
        starting = threading.Thread(target=balancer.start)
        starting.start()
        stack.callback(starting.join)
        wait_until(lambda: balancer.ready_page() == (503, "workers that do not serve: 1\n"), "all workers but one")
        assert status_verb(folder / "admin.sock") == 3
        assert manager.heard() == []
        assert starting.is_alive(), "whoever started it was told"
        pipe.write_bytes(b"")
        starting.join()
        stack.callback(balancer.stop)
        wait_until(lambda: manager.has("READY=1"), "READY=1")
        assert balancer.ready_page() == (200, "ready\n")
        assert status_verb(folder / "admin.sock") == 0
        balancer.assert_clean(balancer.stop())


def test_a_node_whose_worker_is_gone_is_not_ready_until_it_is_replaced(backend: HttpBackend, tmp_path: Path) -> None:
    with Balancer(config_of(new_front(), backend.address), tmp_path / "mfalb") as balancer:
        assert balancer.ready_page() == (200, "ready\n")
        for _ in range(5):  # whoever dies again and again is waited for, longer each time
            wait_until(lambda: len(balancer.workers) == 2, "two workers", deadline_s=20)
            victim = max(balancer.workers)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda victim=victim: victim not in balancer.workers, "its end")  # type: ignore[misc]
        wait_until(lambda: balancer.ready_page() == (503, "workers that do not serve: 1\n"), "a worker that is missing")
        wait_until(lambda: balancer.ready_page() == (200, "ready\n"), "the next worker", deadline_s=20)


def test_pings_stop_while_the_supervisor_stands_still(backend: HttpBackend, tmp_path: Path) -> None:
    manager = FakeManager(str(tmp_path / "notify"))
    launch = Launch(environment=manager.environment)
    with Balancer(config_of(new_front(), backend.address), tmp_path / "mfalb", launch=launch) as balancer:
        wait_until(lambda: manager.has("WATCHDOG=1"), "a ping")
        balancer.signal(signal.SIGSTOP)
        state = Path(f"/proc/{balancer.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(") ")[2].startswith("T"), "a stopped supervisor")
        manager.forget()
        threading.Event().wait(4 * WATCHDOG_S)
        assert manager.heard() == []
        balancer.signal(signal.SIGCONT)
        wait_until(lambda: manager.has("WATCHDOG=1"), "a ping again")
    manager.close()


def test_a_worker_that_stands_still_is_told_of_pings_go_on_and_it_may_come_back(
    backend: HttpBackend, tmp_path: Path
) -> None:
    manager = FakeManager(str(tmp_path / "notify"))
    launch = Launch(environment=manager.environment)
    with Balancer(config_of(new_front(), backend.address), tmp_path / "mfalb", launch=launch) as balancer:
        with standing_still(balancer.workers[0]):
            wait_until(lambda: manager.has("STATUS=1 of 2 workers serve"), "the status", deadline_s=30)
            manager.forget()
            wait_until(lambda: manager.has("WATCHDOG=1"), "a ping")
            assert "a worker does not answer" in balancer.log()
            assert balancer.metrics().total("mfalb_worker_silences_total") >= 5
        wait_until(lambda: manager.has("STATUS=2 of 2 workers serve"), "all workers again", deadline_s=30)
    manager.close()


@contextmanager
def standing_still(worker: int) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end, where it has not been killed by then."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)


def test_pings_stop_while_no_worker_answers(backend: HttpBackend, tmp_path: Path) -> None:
    manager = FakeManager(str(tmp_path / "notify"))
    launch = Launch(environment=manager.environment)
    config = config_of(new_front(), backend.address, workers=1)
    with Balancer(config, tmp_path / "mfalb", launch=launch) as balancer:
        with standing_still(balancer.worker):
            wait_until(lambda: manager.has("STATUS=0 of 1 workers serve"), "the status", deadline_s=30)
            manager.forget()
            threading.Event().wait(4 * WATCHDOG_S)
            assert manager.heard() == []
        wait_until(lambda: manager.has("WATCHDOG=1"), "a ping again", deadline_s=30)
    manager.close()


# What systemd does between fork and exec; LISTEN_PID can only be known there.
ACTIVATE = """
import fcntl, os, sys
names, *rest = sys.argv[1:]
count = len(names.split(":"))
out_of_the_way = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in rest[:count]]
for target, source in enumerate(out_of_the_way, 3):
    os.dup2(source, target)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=names)
os.execv(rest[count], rest[count:])
"""


def activated(sockets: Sequence[socket.socket], names: str) -> Launch:
    """Give a balancer sockets as systemd does."""
    numbers = tuple(sock.fileno() for sock in sockets)
    wrapper = (sys.executable, "-c", ACTIVATE, names, *map(str, numbers))
    return Launch(wrapper=wrapper, pass_fds=numbers)


def test_a_socket_that_nobody_uses_and_a_listener_without_one_are_told_by_name(tmp_path: Path) -> None:
    front = new_front()
    with socket.create_server((LOOPBACK, 0)) as other:
        run_dir = tmp_path / "mfalb"
        balancer = Balancer(config_of(front, "127.0.0.1:9"), run_dir, launch=activated([other], "foreign"))
        with pytest.raises(Exception, match="do not fit") as caught:
            balancer.start()
        assert f"the socket foreign (TCP 127.0.0.1:{other.getsockname()[1]}) is no listener's" in str(caught.value)
        assert f"listener web has no socket for 127.0.0.1:{front.port}" in str(caught.value)


def test_the_journal_gets_priorities_and_no_time_stamps(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    code = (
        "import os; s = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{s.st_dev}:{s.st_ino}'\n"
        "import logging; from mfalb.telemetry.log import configure\n"
        "configure('info', is_json=False); logging.error('it is broken'); logging.info('it is well')"
    )
    with file.open("wb") as stderr:
        subprocess.run([sys.executable, "-c", code], stderr=stderr, check=True)
    assert file.read_text() == "<3>error it is broken\n<6>info it is well\n"


@pytest.mark.parametrize("given", [1, 2])
def test_radius_is_served_on_a_given_socket_by_as_many_workers_as_there_are_sockets(given: int, tmp_path: Path) -> None:
    sockets = []
    port = free_udp_port()
    for _ in range(given):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((LOOPBACK, port))
        sockets.append(sock)
    with RadiusServer("b1", "towards-the-server") as server:
        pool = radius_pool([server], tmp_path)
        config = {**pool.config, "workers": 2}
        config["listeners"] = [{**pool.config["listeners"][0], "bind": [f"{LOOPBACK}:{port}"]}]
        launch = activated(sockets, ":".join(["radius"] * given))
        with Balancer(config, tmp_path / "mfalb", launch=launch):
            requests = [[("User-Name", f"user{number}"), ("User-Password", "x")] for number in range(40)]
            for request in requests[:8]:  # each client has a port of its own
                (answer,) = radclient.send(Target(LOOPBACK, port, pool.client_secret), [request])
                assert answer is not None
            answers = radclient.send(Target(LOOPBACK, port, pool.client_secret), requests)
            assert None not in answers
    for sock in sockets:
        sock.close()
