"""A backend is killed under load: whoever comes afterwards notices nothing, on either protocol."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from programs.balancer import Balancer
from programs.freeradius import OTP_FIRST_PASSWORD, FreeRadius
from programs.http_backend import HttpBackend
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Target, send
from programs.radius_pool import radius_pool

HEALTH = {"type": "http", "path": "/healthz", "interval": "200ms", "timeout": "200ms", "rise": 1, "fall": 2}


@pytest.fixture
def backends(tmp_path: Path) -> Iterator[tuple[HttpBackend, HttpBackend]]:
    with ExitStack() as stack:
        one, two = (stack.enter_context(HttpBackend(name, tmp_path / name)) for name in ("b1", "b2"))
        yield one, two


class Load:
    """Clients that send one request after the other, each on a new connection, and note when each one began."""

    def __init__(self, front: Front, method: str) -> None:
        self.results: list[tuple[float, int]] = []
        self._front = front
        self._method = method
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        while not self._stop.is_set():
            begun_at = time.monotonic()
            connection = self._front.connect()
            try:
                connection.request(self._method, "/echo", body=b"otp" if self._method == "POST" else None)
                response = connection.getresponse()
                response.read()
                self.results.append((begun_at, response.status))
            except OSError:
                self.results.append((begun_at, 0))
            finally:
                connection.close()

    def begun_after(self, moment: float) -> Counter[int]:
        """Statuses of the requests that began after `moment`."""
        return Counter(status for begun_at, status in self.results if begun_at > moment)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("check", [HEALTH, None], ids=["probed", "unprobed"])
def test_http_requests_that_begin_after_a_kill_never_fail(
    backends: tuple[HttpBackend, HttpBackend], tmp_path: Path, method: str, check: dict[str, object] | None
) -> None:
    front, (killed, survivor) = new_front(), backends
    options = {} if check is None else {"health_check": check}
    config = {
        "listeners": [front.listener("web", [{"pool": "web"}])],
        "pools": {"web": http_pool(killed.address, survivor.address, **options)},
    }
    with Balancer(config, tmp_path / "mfalb") as balancer, Load(front, method) as load:
        wait_until(lambda: len(load.results) > 200, "some load")
        killed.kill()
        dead_since = time.monotonic()
        wait_until(lambda: load.begun_after(dead_since).total() > 400, "some load without the killed backend")
        assert balancer.metrics().total("mfalb_backend_failures_total", backend="b1") > 0
    assert set(load.begun_after(dead_since)) == {200}, f"{load.begun_after(dead_since)}"
    assert set(load.begun_after(0)) <= {200, 502}, "what was under way is answered clearly"


def test_http_backends_come_back_to_work_when_they_are_started_again(
    backends: tuple[HttpBackend, HttpBackend], tmp_path: Path
) -> None:
    front, (killed, survivor) = new_front(), backends
    config = {
        "listeners": [front.listener("web", [{"pool": "web"}])],
        "pools": {"web": http_pool(killed.address, survivor.address, health_check=HEALTH)},
    }
    with Balancer(config, tmp_path / "mfalb") as balancer:
        killed.kill()
        wait_until(lambda: balancer.metrics().total("mfalb_backend_up", backend="b1") == 0, "b1 to be found down")
        killed.start()
        wait_until(lambda: balancer.metrics().total("mfalb_backend_up", backend="b1") == 1, "b1 to be found up")
        before = killed.stats().requests
        assert [front.get("/echo")[0] for _ in range(10)] == [200] * 10
        assert killed.stats().requests - before >= 5


def test_radius_sign_ins_that_begin_around_a_kill_are_all_challenged(
    otp_servers: tuple[FreeRadius, FreeRadius], tmp_path: Path
) -> None:
    """Those under way lose a few seconds to health's verdict, those that begin later not even that."""
    killed, _ = otp_servers
    pool = radius_pool(otp_servers, tmp_path)
    codes: Counter[str] = Counter()
    with Balancer(pool.config, tmp_path / "mfalb", secrets=pool.secrets):
        target = replace(Target(LOOPBACK, pool.port, pool.client_secret, parallel=4), timeout_s=1.0, tries=8)
        for batch in range(20):
            killer = threading.Thread(target=killed.kill)
            if batch == 5:
                killer.start()
            users = [f"user{batch}-{number}" for number in range(12)]
            answers = send(target, [[("User-Name", user), ("User-Password", OTP_FIRST_PASSWORD)] for user in users])
            codes.update("silence" if one is None else one.code for one in answers)
            if batch == 5:
                killer.join()
    assert codes == {"Access-Challenge": 240}
