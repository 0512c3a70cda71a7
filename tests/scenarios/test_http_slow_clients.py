"""slowhttptest in all its modes: slow clients are closed in time, and everybody else is served meanwhile."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.http_backend import HttpBackend
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK
from programs.process import wait_until

CLIENTS: Final = 60
LENGTH_S: Final = 40  # more than it takes to close them all
UNSENT_BYTES: Final = 2 * 128 * 1024  # what may wait in the kernel, with its own rounding
ANSWER_BYTES: Final = 8_000_000
LIMITS: Final = {
    "header_timeout": "1s",
    "idle_timeout": "1s",
    "send_timeout": "1s",
    "body_bytes_per_second": 5000,
}
HOLDING: Final = {
    "slow headers": ("-H", "-i", "1"),
    "slow bodies": ("-B", "-i", "1", "-s", "8192"),
    "slow reading": ("-X", "-n", "1", "-z", "5", "-w", "10", "-y", "20"),
}
RANGES: Final = ("-R", "-a", "1", "-b", "100")


@dataclass(frozen=True)
class Attacked:
    """A balancer with short limits before one server."""

    balancer: Balancer
    front: Front
    backend: HttpBackend

    @property
    def connections(self) -> float:
        return self.balancer.metrics().total("mfalb_listener_connections")

    @contextmanager
    def under(self, options: tuple[str, ...], run_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
        """While slowhttptest runs. Its own verdict is not asked: it says that a closed port is available."""
        scheme = "http" if self.front.certificate is None else "https"
        url = f"{scheme}://{LOOPBACK}:{self.front.port}/bytes/{ANSWER_BYTES}"
        command = ["slowhttptest", "-c", str(CLIENTS), "-r", str(CLIENTS), "-l", str(LENGTH_S), "-u", url, *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=run_dir) as attack:
            try:
                yield attack
            finally:
                attack.kill()

    def probe(self) -> None:
        assert self.front.get("/echo")[0] == 200
        time.sleep(0.05)  # so that the probe is no load


@pytest.fixture(scope="module", params=["plain", "tls"])
def attacked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles
) -> Iterator[Attacked]:
    run_dir = tmp_path_factory.mktemp("slow")
    front = new_front(certificate if request.param == "tls" else None)
    with ExitStack() as stack:
        backend = stack.enter_context(HttpBackend("b1", run_dir / "b1"))
        config = {
            "listeners": [front.listener("web", [{"pool": "p"}], limits=LIMITS)],
            "pools": {"p": http_pool(backend.address)},
        }
        yield Attacked(stack.enter_context(Balancer(config, run_dir / "mfalb")), front, backend)


@pytest.mark.parametrize("mode", HOLDING)
def test_slow_clients_are_closed_and_others_are_served(attacked: Attacked, mode: str, tmp_path: Path) -> None:
    """Slow readers do not notice: they go on with what they hold already, long after they were closed."""
    most = probes = 0
    with attacked.under(HOLDING[mode], tmp_path) as attack:
        while attack.poll() is None and not (most > CLIENTS / 2 and attacked.connections == 0):
            most = max(most, int(attacked.connections))
            attacked.probe()
            probes += 1
    assert most > CLIENTS / 2, "they were there"
    assert probes > 5
    assert attacked.connections == 0
    assert "Traceback" not in attacked.balancer.log()


def test_requests_for_a_hundred_ranges_reach_the_server_as_any_others(attacked: Attacked, tmp_path: Path) -> None:
    before = attacked.backend.stats().requests
    with attacked.under(RANGES, tmp_path) as attack:
        attacked.probe()
        wait_until(lambda: attack.poll() is not None, "it had all its answers")
    assert attacked.backend.stats().requests >= before + CLIENTS
    wait_until(lambda: attacked.connections == 0, "nothing left over")


def test_little_of_an_answer_waits_in_the_kernel_for_a_client_that_does_not_read(attacked: Attacked) -> None:
    """The kernel alone would take megabytes for each."""
    with attacked.front.open() as client:
        client.sendall(b"GET /bytes/%d HTTP/1.1\r\nHost: a\r\n\r\n" % ANSWER_BYTES)
        port = client.getsockname()[1]
        most = 0
        while (waiting := _send_queue_bytes(attacked.front.port, port)) is not None:  # until send_timeout
            most = max(most, waiting)
            time.sleep(0.01)
    assert 0 < most <= UNSENT_BYTES


def _send_queue_bytes(port: int, peer_port: int) -> int | None:
    """Of one connection of this machine; None when it is over (proc(5), /proc/net/tcp)."""
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        _, ours, theirs, state, queues = line.split()[:5]
        is_it = int(ours.split(":")[1], 16) == port and int(theirs.split(":")[1], 16) == peer_port
        if is_it and int(state, 16) == 1:  # ESTABLISHED
            return int(queues.split(":")[0], 16)
    return None
