"""The access log: one line an exchange, with HAProxy's letters, in a file that is rotated as logrotate does it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from programs.balancer import Balancer
from programs.http_backend import OK, RawBackend, RawPeer, Script, answering
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import wait_until

Line = dict[str, Any]
_HOSTILE: Final = (
    b"GET /a=1;status=200 HTTP/1.1",
    b"GET /'quoted'&$! HTTP/1.1",
    b"GET /(a)~@:,+*-_. HTTP/1.1",
    b'e"vil /method HTTP/1.1',
    b"GET /%0d%0aevil=1 HTTP/1.1",
    b"GET /%1b%5b31m HTTP/1.1",
    b"GET /\x1b[31m HTTP/1.1",
    b"GET /\xc3\xa9\x80\xff HTTP/1.1",
    b"GET /two words HTTP/1.1",
)


@dataclass(frozen=True)
class Logged:
    """A balancer before one raw backend, with one connection to it (`/one`), any number (`/`), or none (`/gone`)."""

    balancer: Balancer
    front: Front
    backend: RawBackend
    file: Path

    def serve(self, script: Script) -> None:
        """All that comes from now on meets this script: no connection of the one before is left."""
        self.backend.forget()
        self.backend.script = script

    def lines(self, path: str) -> list[Line]:
        """The lines of the access log about this path."""
        found = [json.loads(line) for line in self.file.read_text("utf-8").splitlines()]
        return [line for line in found if line["path"] == path]

    def line(self, path: str) -> Line:
        """The only one; waits for it."""
        wait_until(lambda: bool(self.lines(path)), f"an access line for {path}", deadline_s=20)
        (line,) = self.lines(path)
        return line


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    run_dir = tmp_path_factory.mktemp("access")
    front, file = new_front(), run_dir / "access.log"
    with ExitStack() as stack:
        backend = stack.enter_context(RawBackend(answering(OK)))
        times = {"response_timeout": "1s"}
        one = http_pool(backend.address, **times, queue={"limit": 1, "timeout": "500ms"})
        one["backends"][0]["connections"] = 1
        pools = {
            "raw": http_pool(backend.address, **times),
            "one": one,
            "gone": http_pool(f"{LOOPBACK}:{free_tcp_port()}"),
        }
        routes = [
            {"path": path, "host": LOOPBACK, "pool": pool}
            for path, pool in (("/gone", "gone"), ("/one", "one"), ("/", "raw"))
        ]
        limits = {"body_bytes": "1KiB", "send_timeout": "1s", "header_timeout": "1s"}
        config = {
            "listeners": [front.listener("web", routes, limits=limits)],
            "pools": pools,
            "log": {"format": "json", "access_file": str(file)},
        }
        yield Logged(stack.enter_context(Balancer(config, run_dir / "mfalb")), front, backend, file)


def request(path: str, *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {LOOPBACK}", *lines, "", ""]).encode("latin-1")


def after_the_head(then: Callable[[RawPeer], None]) -> Script:
    """A script that reads one request's head."""

    def script(peer: RawPeer) -> None:
        if peer.read_head():
            then(peer)

    return script


def silent(peer: RawPeer) -> None:
    peer.read_head()  # returns when the balancer gives up


def truncated(peer: RawPeer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


def stalled(peer: RawPeer) -> None:
    truncated(peer)
    silent(peer)


@dataclass(frozen=True)
class Ended:
    """How an exchange for `path` ends that the backend's script spoils."""

    path: str
    script: Script
    end: str
    status: int
    reason: str
    field: str = "X-Nothing: 1"


ENDINGS: Final = (
    Ended("/normal", answering(OK), "--", 200, "-"),
    Ended("/gone", answering(OK), "SC", 502, "backend_refused"),
    Ended("/closed", after_the_head(lambda _: None), "SH", 502, "backend_broke"),
    Ended("/reset", after_the_head(RawPeer.reset), "SH", 502, "backend_broke"),
    Ended("/silent", after_the_head(silent), "sH", 504, "backend_silent"),
    Ended("/garbage", after_the_head(lambda peer: peer.send(b"SSH-2.0\r\n\r\n")), "PH", 502, "backend_garbage"),
    Ended("/truncated", after_the_head(truncated), "SD", 200, "closed_early"),
    Ended("/stalled", after_the_head(stalled), "sD", 200, "stalled"),
    Ended("/large", answering(OK), "PR", 413, "body_bytes", "Content-Length: 1025"),
)


@pytest.mark.parametrize("ended", ENDINGS, ids=[ended.path for ended in ENDINGS])
def test_the_letters_say_who_ended_an_exchange_and_what_it_was_doing(logged: Logged, ended: Ended) -> None:
    logged.serve(ended.script)
    logged.front.say(request(ended.path, "Connection: close", ended.field))
    line = logged.line(ended.path)
    assert (line["end"], line["status"], line["reason"]) == (ended.end, ended.status, ended.reason)
    assert (line["listener"], line["client"], line["pin"]) == ("web", LOOPBACK, "--")


def test_a_client_that_leaves_is_told_from_a_server_that_does(logged: Logged) -> None:
    logged.serve(after_the_head(silent))
    with logged.front.open() as client:
        client.sendall(request("/left-waiting"))
        wait_until(lambda: b"/left-waiting" in logged.backend.received, "the request to arrive")
    logged.serve(after_the_head(stalled))
    with logged.front.open() as client:
        client.sendall(request("/left-reading"))
        while b"half" not in client.recv(65_536):
            pass
    ends = [logged.line(path)["end"] for path in ("/left-waiting", "/left-reading")]
    assert ends == ["CH", "CD"]


def test_a_client_that_does_not_read_is_too_slow(logged: Logged) -> None:
    body = bytes(64 * 1024 * 1024)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    logged.serve(after_the_head(lambda peer: peer.send(answer)))
    with logged.front.open(receive_buffer_bytes=4096) as client:
        client.sendall(request("/unread"))
        line = logged.line("/unread")
    assert (line["end"], line["reason"]) == ("cD", "client_stuck")
    assert line["bytes"] < len(body)


def test_who_waited_in_line_in_vain_and_who_found_it_full(logged: Logged) -> None:
    logged.serve(after_the_head(silent))
    with logged.front.open() as busy, logged.front.open() as waiting:
        busy.sendall(request("/one/served"))
        wait_until(lambda: b"/one/served" in logged.backend.received, "the first request to arrive")
        waiting.sendall(request("/one/waiting"))
        wait_until(lambda: logged.balancer.metrics().total("mfalb_pool_waiting", pool="one") == 1, "one in the line")
        logged.front.say(request("/one/full", "Connection: close"))
        assert b" 503 " in waiting.recv(100)
    lines = [logged.line(f"/one/{name}") for name in ("full", "waiting")]
    assert [(line["end"], line["status"], line["reason"]) for line in lines] == [
        ("RQ", 503, "queue_full"),
        ("sQ", 503, "queue_timeout"),
    ]


def test_a_request_that_cannot_be_read_has_a_line_that_shows_nothing_of_it(logged: Logged) -> None:
    before = len(logged.lines("-"))
    logged.front.say(b"GET /secret-part HTTP/1.1\r\nHost : x\r\n\r\n")
    logged.front.say(b"GET /too-slow HTTP/1.1\r\n")
    wait_until(lambda: len(logged.lines("-")) == before + 2, "two lines")
    bad, slow = logged.lines("-")[before:]
    assert (bad["end"], bad["status"], bad["method"]) == ("PR", 400, "-")
    assert (slow["end"], slow["status"], slow["reason"]) == ("cR", 408, "header_timeout")
    assert "secret-part" not in logged.file.read_text()


def test_what_nobody_serves_is_refused_by_the_proxy(logged: Logged) -> None:
    logged.front.say(b"GET /nobody HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n")
    line = logged.line("/nobody")
    assert (line["end"], line["status"], line["reason"], line["backend"]) == ("PR", 404, "no_route", "-")


def test_bytes_and_the_query_are_counted_and_left_out(logged: Logged) -> None:
    def script(peer: RawPeer) -> None:
        assert peer.read_body(5) == b"abcde"
        peer.send(OK)

    logged.serve(after_the_head(script))
    logged.front.say(
        request("/sum?pin=not-to-be-logged", "Content-Length: 5", "Connection: close", method="POST") + b"abcde"
    )
    line = logged.line("/sum")
    assert (line["method"], line["bytes_in"], line["bytes"], line["backend"]) == ("POST", 5, 2, "b1")
    assert line["ms"] >= 0
    assert "not-to-be-logged" not in logged.file.read_text()


def test_a_rotation_loses_no_line_and_writes_none_twice(logged: Logged) -> None:
    logged.serve(answering(OK))
    old, total, kept = logged.file.with_name("access.log.1"), 600, threading.Event()

    def ask() -> None:
        connection = logged.front.connect()
        for number in range(total):
            connection.request("GET", f"/rotated/{number}")
            assert connection.getresponse().read() == b"ok"
            if number == total // 2:
                kept.set()
        connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    assert kept.wait(20)
    logged.file.rename(old)
    os.kill(logged.balancer.pid, signal.SIGHUP)
    asking.join(30)
    wait_until(logged.file.exists, "the new file")

    def paths(file: Path) -> list[str]:
        found = [json.loads(line)["path"] for line in file.read_text().splitlines()]
        return [path for path in found if path.startswith("/rotated/")]

    wait_until(lambda: len(paths(old)) + len(paths(logged.file)) >= total, "all lines")
    assert paths(old) + paths(logged.file) == [f"/rotated/{number}" for number in range(total)]
    assert paths(logged.file), "nothing was written after the rotation"
    assert (old.stat().st_mode & 0o777, logged.file.stat().st_mode & 0o777) == (0o640, 0o640)


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_that_a_client_sends_reaches_the_log_unescaped(tmp_path: Path, form: str) -> None:
    front = new_front()
    with RawBackend(answering(OK)) as backend:
        config = {
            "listeners": [front.listener("web", [{"pool": "raw"}])],
            "pools": {"raw": http_pool(backend.address)},
            "log": {"format": form},
        }
        with Balancer(config, tmp_path / "mfalb") as balancer:

            def lines() -> list[bytes]:
                # those of the access log only
                return [line for line in balancer.err_path.read_bytes().splitlines() if b"bytes_in" in line]

            answers = [front.say(start + b"\r\nHost: x\r\nConnection: close\r\n\r\n")[:12] for start in _HOSTILE]
            wait_until(lambda: len(lines()) == len(_HOSTILE), "a line for each request")
            written = lines()
    assert all(b"\x1b" not in line and line.isascii() for line in written), written
    assert all(line.decode().isprintable() for line in written), written
    assert answers.count(b"HTTP/1.1 200") >= 3, "the ones that are odd, but valid"
    if form == "json":
        assert [json.loads(line)["status"] for line in written] == [int(answer[9:]) for answer in answers]
    else:
        told = [[word.partition("=")[0] for word in line.decode().split()[2:]] for line in written]
        assert all(names == told[0] for names in told), "a client made up a field"
