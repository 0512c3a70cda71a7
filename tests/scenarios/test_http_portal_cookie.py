"""A browser's session stays on one server as long as it sends its cookies back; without them requests are spread."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs.balancer import Balancer, write_secret
from programs.certificates import CertificateFiles
from programs.http_backend import HttpBackend
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK
from programs.process import find_program, wait_until


@dataclass(frozen=True)
class Portal:
    """A balancer with a cookie pool of two servers."""

    front: Front
    balancer: Balancer
    servers: tuple[HttpBackend, HttpBackend]

    def curl(self, jar: Path | None, *arguments: str) -> dict[str, object]:
        """One request of a browser with that cookie jar: what the server saw."""
        assert self.front.certificate is not None
        command = [find_program("curl"), "-sS", "--cacert", str(self.front.certificate.ca)]
        if jar is not None:
            command += ["-b", str(jar), "-c", str(jar)]
        command += [*arguments, f"https://{LOOPBACK}:{self.front.port}/MultiFactorAuth/page"]
        finished = subprocess.run(command, capture_output=True, check=True, timeout=20)
        seen: dict[str, object] = json.loads(finished.stdout)
        return seen


@pytest.fixture
def portal(tmp_path: Path, certificate: CertificateFiles) -> Iterator[Portal]:
    key = base64.b64encode(os.urandom(32)).decode()
    front = new_front(certificate)
    with ExitStack() as stack:
        one, two = (stack.enter_context(HttpBackend(name, tmp_path / name)) for name in ("b1", "b2"))
        check = {"type": "http", "path": "/healthz", "interval": "200ms", "timeout": "200ms", "rise": 1, "fall": 1}
        pool = http_pool(one.address, two.address, affinity={"type": "cookie"}, health_check=check)
        config = {
            "listeners": [front.listener("web", [{"path": "/MultiFactorAuth", "pool": "portal"}])],
            "pools": {"portal": pool},
            "pins": {"cookie_keys_file": write_secret(tmp_path, "cookie-keys", key)},
        }
        yield Portal(front, stack.enter_context(Balancer(config, tmp_path / "mfalb", secrets=[key])), (one, two))


def test_a_browser_s_session_stays_and_sessions_are_spread(portal: Portal, tmp_path: Path) -> None:
    homes: list[object] = []
    for browser in range(6):
        jar = tmp_path / f"jar{browser}"
        names = {portal.curl(jar)["name"] for _ in range(5)}
        assert len(names) == 1, f"browser {browser} wandered: {names}"
        homes += names
    assert (homes.count("b1"), homes.count("b2")) == (3, 3)


def test_without_cookies_requests_are_spread(portal: Portal) -> None:
    assert [portal.curl(None)["name"] for _ in range(6)].count("b1") == 3


def test_the_server_never_sees_the_cookie_and_the_log_never_shows_it(portal: Portal, tmp_path: Path) -> None:
    jar = tmp_path / "jar"
    portal.curl(jar)
    seen = portal.curl(jar, "-H", "Cookie: own=1")
    value = jar.read_text("utf-8").rsplit("mfalb\t", 1)[1].strip()
    assert len(value) > 60
    assert "mfalb" not in json.dumps(seen)
    assert value not in portal.balancer.log()


def test_the_cookie_is_for_tls_and_scripts_cannot_read_it(portal: Portal, tmp_path: Path) -> None:
    jar = tmp_path / "jar"
    portal.curl(jar)
    line = next(line for line in jar.read_text("utf-8").splitlines() if "mfalb\t" in line)
    assert line.startswith("#HttpOnly_")
    assert line.split("\t")[3] == "TRUE", "sent over TLS only"


def test_a_session_whose_server_died_goes_on_at_the_other_one_and_stays_there(portal: Portal, tmp_path: Path) -> None:
    jar = tmp_path / "jar"
    home = portal.curl(jar)["name"]
    dead = next(server for server in portal.servers if server.name == home)
    dead.kill()
    moved = {portal.curl(jar)["name"] for _ in range(3)}
    assert moved == {"b1", "b2"} - {home}
    dead.start()
    wait_until(lambda: portal.balancer.metrics().total("mfalb_backend_up", backend=str(home)) == 1, "it to be back")
    assert {portal.curl(jar)["name"] for _ in range(3)} == moved
