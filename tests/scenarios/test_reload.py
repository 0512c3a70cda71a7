"""Promise: another configuration is taken up while everybody goes on working, as a whole or not at all."""

from __future__ import annotations

import copy
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from programs.balancer import Balancer
from programs.certificates import make_certificate
from programs.http_backend import HttpBackend
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, wait_until
from programs.reload_site import Site, served_by
from scenarios.test_service_manager import held

WORKERS: Final = 2


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        backends = tuple(stack.enter_context(HttpBackend(f"b{n}", tmp_path / f"b{n}")) for n in (1, 2))
        front = new_front()
        config = {
            "workers": WORKERS,
            "listeners": [front.listener("web", [{"pool": "one"}])],
            "pools": {name: http_pool(b.address) for name, b in zip(("one", "two"), backends, strict=True)},
        }
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb"))
        yield Site(balancer, front, backends, config)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[HttpBackend]:
    with HttpBackend("b1", tmp_path / "b1") as backend:
        yield backend


def one_request(front: Front) -> str:
    """Who serves a request on a connection of its own."""
    with closing(front.connect()) as connection:
        return served_by(connection)


def test_an_open_connection_follows_the_new_routes_with_its_next_request(site: Site) -> None:
    changed = copy.deepcopy(site.config)
    changed["listeners"][0]["routes"] = [{"pool": "two"}]
    with closing(site.front.connect()) as kept:
        assert served_by(kept) == "b1"
        assert "listener web: routes" in site.reload(changed)
        sock = kept.sock
        assert served_by(kept) == "b2"
        assert kept.sock is sock, "it was another connection"


def test_listeners_come_and_go_while_the_others_keep_their_connections(site: Site) -> None:
    other = Front(free_tcp_port())
    changed = copy.deepcopy(site.config)
    changed["listeners"].append(other.listener("more", [{"pool": "two"}]))
    with closing(site.front.connect()) as kept:
        assert served_by(kept) == "b1"
        assert "listener more: added" in site.reload(changed)
        for _ in range(8):  # whichever worker it comes to
            assert other.get("/echo")[0] == 200
        assert "listener more: removed" in site.reload(site.config)
        with pytest.raises(ConnectionRefusedError):
            other.get("/echo")
        sock = kept.sock
        assert served_by(kept) == "b1"
        assert kept.sock is sock


def test_a_listener_of_the_first_configuration_is_given_up_by_every_process_and_can_be_had_again(
    backend: HttpBackend, tmp_path: Path
) -> None:
    fronts = [new_front(), new_front()]
    listeners = [front.listener(name, [{"pool": "one"}]) for front, name in zip(fronts, ("web", "more"), strict=True)]
    config = {"workers": WORKERS, "listeners": listeners, "pools": {"one": http_pool(backend.address)}}
    with Balancer(config, tmp_path / "mfalb") as balancer:
        site = Site(balancer, fronts[0], (backend,), config)
        assert fronts[1].get("/echo")[0] == 200
        assert "listener more: removed" in site.reload({**config, "listeners": listeners[:1]})
        with pytest.raises(ConnectionRefusedError):
            fronts[1].get("/echo")
        assert "listener more: added" in site.reload(config)
        for _ in range(8):  # whichever worker it comes to
            assert fronts[1].get("/echo")[0] == 200


def test_a_worker_that_is_just_being_begun_does_not_serve_the_former_configuration(tmp_path: Path) -> None:
    with ExitStack() as stack:
        backends = tuple(stack.enter_context(HttpBackend(f"b{n}", tmp_path / f"b{n}")) for n in (1, 2))
        front, pipe = new_front(), tmp_path / "held"
        config: dict[str, Any] = {
            "workers": WORKERS,
            "listeners": [front.listener("web", [{"pool": "one"}])],
            "pools": {name: http_pool(b.address) for name, b in zip(("one", "two"), backends, strict=True)},
        }
        launch = Launch(environment=held(pipe, WORKERS + 1))
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb", launch=launch))
        os.kill(balancer.workers[0], signal.SIGKILL)
        wait_until(lambda: balancer.ready_page() == (503, "workers that do not serve: 1\n"), "a worker that is held")
        changed = copy.deepcopy(config)
        changed["listeners"][0]["routes"] = [{"pool": "two"}]
        Site(balancer, front, backends, config).reload(changed)
        pipe.write_bytes(b"")
        wait_until(lambda: balancer.ready_page() == (200, "ready\n"), "all workers")
        assert {one_request(front) for _ in range(20)} == {"b2"}


def test_a_pool_that_gets_another_backend_keeps_what_it_knows_of_the_others(site: Site, tmp_path: Path) -> None:
    for _ in range(6):
        site.front.get("/echo")
    before = site.balancer.backend("one", "b1")
    with HttpBackend("b3", tmp_path / "b3") as third:
        changed = copy.deepcopy(site.config)
        check = {"type": "tcp", "interval": "1h"}
        first, second = site.backends[0].address, third.address
        changed["pools"]["one"] = http_pool(first, second, health_check=check)
        line = site.reload(changed)
        assert "pool one: backend b2: added" in line
        assert "pool one: health_check" in line
        names = set()
        for _ in range(12):
            names.add(one_request(site.front))
        assert names == {"b1", "b3"}, "its first probe came before its first request"
        assert site.balancer.backend("one", "b1")["requests"] >= before["requests"] + 6
        assert "pool one: backend b2: removed" in site.reload(site.config)
        assert {one_request(site.front) for _ in range(6)} == {"b1"}


def test_a_configuration_with_a_mistake_changes_nothing_and_its_place_is_told(site: Site) -> None:
    changed = copy.deepcopy(site.config)
    changed["listeners"][0]["routes"] = [{"pool": "twoo"}]
    line = site.reload(changed, "the new configuration is not used")
    assert "mfalb.yaml:" in line
    assert "did you mean 'two'" in line
    assert one_request(site.front) == "b1"


def test_a_listener_that_cannot_be_had_leaves_all_as_it_was(site: Site) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        other = Front(taken.getsockname()[1])
        changed = copy.deepcopy(site.config)
        changed["listeners"].append(other.listener("more", [{"pool": "two"}]))
        changed["listeners"][0]["routes"] = [{"pool": "two"}]
        line = site.reload(changed, "the new configuration is not used")
        assert "listener more: cannot bind" in line
    assert one_request(site.front) == "b1"


def test_what_takes_a_restart_is_refused_by_name(site: Site) -> None:
    line = site.reload({**site.config, "workers": WORKERS + 1}, "the new configuration is not used")
    assert "these settings take a restart, nothing was changed: workers" in line
    assert len(site.balancer.workers) == WORKERS


def test_a_worker_that_dies_after_a_reload_is_replaced_by_one_that_knows_the_new_configuration(site: Site) -> None:
    changed = copy.deepcopy(site.config)
    changed["listeners"][0]["routes"] = [{"pool": "two"}]
    site.reload(changed)
    victims = site.balancer.workers
    for victim in victims:
        os.kill(victim, 9)
    wait_until(lambda: len(set(site.balancer.workers) - set(victims)) == WORKERS, "new workers")
    assert {one_request(site.front) for _ in range(8)} == {"b2"}


def test_a_tls_listener_shows_another_certificate_after_a_reload_and_keeps_its_connections(tmp_path: Path) -> None:
    first, second = (make_certificate(tmp_path / name, LOOPBACK) for name in ("first", "second"))
    with HttpBackend("b1", tmp_path / "b1") as backend:
        front = Front(free_tcp_port(), first)
        config = {
            "workers": WORKERS,
            "listeners": [front.listener("web", [{"pool": "one"}])],
            "pools": {"one": http_pool(backend.address)},
        }
        with Balancer(config, tmp_path / "mfalb") as balancer:
            site = Site(balancer, front, (backend,), config)
            later = Front(front.port, second)
            changed = {**config, "listeners": [later.listener("web", [{"pool": "one"}])]}
            with closing(front.connect()) as kept:
                assert served_by(kept) == "b1"
                assert "listener web: tls" in site.reload(changed)
                for _ in range(6):
                    assert later.get("/echo")[0] == 200
                sock = kept.sock
                assert served_by(kept) == "b1"
                assert kept.sock is sock


def verb(socket_path: Path, *words: str) -> tuple[int, str]:
    """`mfalb reload` as an operator types it: its exit code, and what it says."""
    argv = [sys.executable, "-m", "mfalb", "reload", *words, "--socket", str(socket_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_the_verb_tells_what_would_change_then_does_it_and_says_why_it_does_not(tmp_path: Path) -> None:
    with ExitStack() as stack:
        one, two = (stack.enter_context(HttpBackend(f"b{n}", tmp_path / f"b{n}")) for n in (1, 2))
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mfalb-")))  # a socket's path may not be long
        front = new_front()
        config = {
            "workers": WORKERS,
            "listeners": [front.listener("web", [{"pool": "p"}])],
            "pools": {"p": http_pool(one.address, two.address)},
            "admin": {"socket": str(folder / "admin.sock")},
        }
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb"))
        socket_path = folder / "admin.sock"
        assert verb(socket_path) == (0, "Nothing has changed.\n")
        balancer.write_config(balancer.completed({**config, "pools": {"p": http_pool(two.address)}}))
        code, text = verb(socket_path, "--dry-run")
        assert code == 0
        assert "pool p: backend b2: removed" in text
        assert "0 pins of b2" in text or "sessions in cookies of b2" in text
        assert text.endswith("This would change.\n")
        assert {one_request(front) for _ in range(8)} == {"b1", "b2"}
        code, text = verb(socket_path)
        assert (code, text.splitlines()[-1]) == (0, "Done.")
        assert {one_request(front) for _ in range(8)} == {"b2"}
        balancer.config_path.write_text("listeners: []\n", "utf-8")
        code, text = verb(socket_path)
        assert code == 1
        assert "mfalb.yaml:" in text
        assert {one_request(front) for _ in range(4)} == {"b2"}
