"""Promise: a server whose traffic fails is taken out for a time, probes or not, never the last one, and comes back."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer
from programs.http_backend import OK, HttpBackend, RawBackend, RawPeer, Script, answering
from programs.http_pool import Front, Responses, http_pool, new_front, read_all
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import wait_until
from programs.tcp_pool import new_tcp_front

RULE = {"consecutive_failures": 3, "ejection_time": "2s", "max_ejection_time": "1m"}
PROBE = {"type": "http", "path": "/probe", "interval": "50ms", "timeout": "1s", "rise": 1, "fall": 1}


def probed(script: Script) -> Script:
    """A server that answers probes well, whatever it does with everybody else."""

    def both(peer: RawPeer) -> None:
        head = peer.read_head()
        if head.startswith(b"GET /probe "):
            peer.send(OK)
        elif head:
            script(peer)

    return both


def reset(peer: RawPeer) -> None:
    peer.reset()


def silent(peer: RawPeer) -> None:
    peer.read_body(1)


def close(peer: RawPeer) -> None:
    peer.socket.close()


def garbage(peer: RawPeer) -> None:
    peer.send(b"what?\r\n\r\n")


def halfway(peer: RawPeer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    peer.reset()


def cut_short(peer: RawPeer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    peer.socket.close()


def busy(peer: RawPeer) -> None:
    peer.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    peer.read_head()


def fine(peer: RawPeer) -> None:
    peer.send(OK)


@dataclass(frozen=True)
class Site:
    """A balancer before a bad server (b1) and a good one (b2)."""

    front: Front
    balancer: Balancer
    bad: RawBackend

    def ask(self, times: int = 1) -> list[int]:
        """What clients get, each on a connection of its own; 0 for an answer that broke off."""
        found = []
        for _ in range(times):
            with self.front.open() as client, suppress(EOFError, ConnectionError):
                found.append(0)
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                found[-1] = Responses(client).next().status
        return found

    def seen(self, name: str = "b1") -> dict[str, Any]:
        return self.balancer.backend("p", name)

    def metric(self, name: str, backend: str = "b1") -> float:
        return self.balancer.metrics().total(f"mfalb_backend_{name}", backend=backend)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Starts a site with a script of the bad server's; everything is stopped at the end."""
    with ExitStack() as stack:

        def start(script: Script, **more: object) -> Site:
            bad = stack.enter_context(RawBackend(script))
            good = stack.enter_context(HttpBackend("b2", tmp_path / "b2"))
            front = new_front()
            pool = http_pool(bad.address, good.address, response_timeout="300ms", **{"passive_check": RULE, **more})
            config = {"listeners": [front.listener("web", [{"pool": "p"}])], "pools": {"p": pool}}
            return Site(front, stack.enter_context(Balancer(config, tmp_path / "mfalb")), bad)

        yield start


FAILURES: dict[str, tuple[Script, str]] = {
    "reset": (reset, "reset"),
    "closed": (close, "closed_early"),
    "half an answer": (halfway, "reset"),
    "an answer cut short behind a good head": (cut_short, "closed_early"),
    "silence": (silent, "silent"),
    "garbage": (garbage, "status_line"),
    "503": (busy, "status_503"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("is_probed", [False, True], ids=["unprobed", "probed"])
def test_a_server_that_fails_everybody_is_ejected_though_probes_find_nothing_wrong(
    started: Callable[..., Site], name: str, *, is_probed: bool
) -> None:
    script, reason = FAILURES[name]
    site = started(probed(script), health_check=PROBE if is_probed else None)
    first = site.ask(6)
    assert first.count(200) == 3, "each second one had the good server"
    seen = site.seen()
    assert (seen["health"], seen["consecutive_failures"], seen["admin_state"]) == ("up", 3, "ready")
    assert seen["ejected_until"] is not None
    assert (site.metric("ejected"), site.metric("ejections_total"), site.metric("up")) == (1, 1, 1)
    assert 0 < site.metric("ejection_left_seconds") <= 2
    assert site.ask(6) == [200] * 6
    assert f"reason={reason}" in site.balancer.log()
    site.bad.script = probed(fine)
    wait_until(lambda: site.seen()["ejected_until"] is None, "the ejection to end")
    assert site.ask(4) == [200] * 4
    assert site.seen()["consecutive_failures"] == 0
    assert site.metric("ejected") == 0
    log = site.balancer.log()
    assert (log.count("backend ejected"), log.count("backend back from ejection")) == (1, 1)
    if is_probed:
        wait_until(lambda: site.seen()["probes"]["sent"] > 10, "many probes meanwhile")
        assert site.seen()["probes"]["lost"] == 0


def test_a_server_that_fails_again_is_out_for_twice_as_long(started: Callable[..., Site]) -> None:
    site = started(probed(reset), passive_check=RULE | {"ejection_time": "500ms"})
    site.ask(6)
    wait_until(lambda: site.seen()["ejected_until"] is None, "the first ejection to end")
    assert site.ask(6).count(200) == 3
    assert 0.5 < site.metric("ejection_left_seconds") <= 1
    wait_until(lambda: site.seen()["ejected_until"] is None, "the second ejection to end")
    assert site.metric("ejections_total") == 2


def test_a_good_answer_now_and_then_keeps_a_server_in(started: Callable[..., Site]) -> None:
    site = started(answering(OK))
    turns = iter(range(1000))

    def two_of_three(peer: RawPeer) -> None:
        if peer.read_head():
            (fine if next(turns) % 3 == 2 else reset)(peer)

    site.bad.script = two_of_three
    assert site.ask(24).count(200) == 12 + 4
    assert (site.seen()["ejected_until"], site.metric("ejections_total")) == (None, 0)


def test_ordinary_errors_and_refusals_of_clients_are_no_failures(started: Callable[..., Site]) -> None:
    site = started(answering(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"))
    assert site.ask(20).count(500) == 10
    assert site.seen()["consecutive_failures"] == 0
    site.bad.forget()
    site.bad.script = answering(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    assert site.ask(20).count(401) == 10
    assert site.metric("ejections_total") == 0


def test_the_last_server_is_never_ejected_and_ejected_ones_come_back_when_the_others_go(tmp_path: Path) -> None:
    with RawBackend(reset) as bad, HttpBackend("b2", tmp_path / "b2") as good:
        front = new_front()
        check = {"type": "http", "path": "/probe", "interval": "100ms", "timeout": "1s", "rise": 1, "fall": 1}
        bad.script = probed(reset)
        pool = http_pool(bad.address, good.address, health_check=check, passive_check=RULE | {"ejection_time": "1m"})
        config = {"listeners": [front.listener("web", [{"pool": "p"}])], "pools": {"p": pool}}
        with Balancer(config, tmp_path / "mfalb") as balancer:
            site = Site(front, balancer, bad)
            site.ask(6)
            assert site.seen()["ejected_until"] is not None
            good.kill()
            wait_until(lambda: site.seen("b2")["health"] == "down", "the probes to notice")
            assert site.seen()["ejected_until"] is None
            assert site.ask(10).count(200) == 0
            assert site.seen()["ejected_until"] is None, "it is the last one"
            bad.script = probed(fine)
            assert site.ask(3) == [200] * 3


def test_tcp_connections_that_are_refused_eject_and_no_client_notices(tmp_path: Path) -> None:
    def named(peer: RawPeer) -> None:
        peer.send(b"b2")

    with RawBackend(named) as good:
        front = new_tcp_front()
        gone = f"{LOOPBACK}:{free_tcp_port()}"
        config = {
            "listeners": [front.listener([{"pool": "p"}])],
            "pools": {"p": http_pool(gone, good.address, passive_check=RULE)},
        }
        with Balancer(config, tmp_path / "mfalb") as balancer:
            for _ in range(12):
                with front.open() as client:
                    assert read_all(client) == b"b2"
            assert balancer.backend("p")["ejected_until"] is not None
            assert balancer.metrics().total("mfalb_backend_failures_total", backend="b1") == 3
            (change,) = json.loads(balancer.get("/status"))["failovers"]
            assert (change["backend"], change["reason"]) == ("b1", "ejected: connect_refused")


def test_a_good_tcp_connection_now_and_then_keeps_a_server_in(tmp_path: Path) -> None:
    def named(peer: RawPeer) -> None:
        peer.send(b"b2")

    port = free_tcp_port()
    with RawBackend(named) as good:
        front = new_tcp_front()
        rule = RULE | {"consecutive_failures": 2}
        pool = http_pool(f"{LOOPBACK}:{port}", good.address, passive_check=rule)
        config = {"listeners": [front.listener([{"pool": "p"}])], "pools": {"p": pool}}

        def ask_both() -> set[bytes]:
            answers = set()
            for _ in range(2):
                with front.open() as client:
                    answers.add(read_all(client))
            return answers

        with Balancer(config, tmp_path / "mfalb") as balancer:
            for turn in range(1, 4):
                assert ask_both() == {b"b2"}
                assert balancer.backend("p")["consecutive_failures"] == 1, turn
                with socket.create_server((LOOPBACK, port)) as server:
                    back = threading.Thread(target=_greet_one, args=(server,))
                    back.start()
                    assert ask_both() == {b"b1", b"b2"}
                    back.join(10)
                assert balancer.backend("p")["consecutive_failures"] == 0, turn
            assert balancer.metrics().total("mfalb_backend_ejections_total") == 0


def _greet_one(server: socket.socket) -> None:
    peer, _ = server.accept()
    with peer:
        peer.sendall(b"b1")
