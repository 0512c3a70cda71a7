"""Promise: what a worker says that means nothing is ignored and counted; one that talks no language is replaced.

A copy of its end of the control channel (pidfd_getfd(2)) says it, so to the supervisor it is the worker that speaks.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from programs.balancer import Balancer
from programs.descriptors import sockets_of
from programs.http_backend import HttpBackend
from programs.http_pool import Front, http_pool, new_front
from programs.process import wait_until

from mfalb.net.control_channel import Message, frame

_PIDFD_GETFD: Final = 438  # asm-generic/unistd.h
WORKERS: Final = 2
ABOUT_B1: Final = {"pool": "web", "backend": "b1"}
FORGED: Final[list[dict[str, Any]]] = [
    {},
    {"kind": "unheard of"},
    {"kind": ["good"]},
    {"kind": "failed", "pool": "nobody's", "backend": "b1", "reason": "broken", "streak": 1},
    {"kind": "failed", **ABOUT_B1, "reason": "broken", "streak": "many"},
    {"kind": "suspected", **ABOUT_B1, "suspected_at": 1.0, "replied_at": 10**400},
    {"kind": "answer", "id": [], "fault": ""},
    {"kind": "report", "id": 10**9},
    {"kind": "let_go", "number": "one"},
]


@dataclass(frozen=True, slots=True)
class Site:
    """A balancer with a backend behind it."""

    balancer: Balancer
    front: Front

    @property
    def ignored(self) -> float:
        return self.balancer.metrics().total("mfalb_control_messages_ignored_total")

    def assert_serving(self) -> None:
        for _ in range(4 * WORKERS):
            assert self.front.get("/echo")[0] == 200


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        backend = stack.enter_context(HttpBackend("b1", tmp_path / "b1"))
        front = new_front()
        config = {
            "workers": WORKERS,
            "listeners": [front.listener("web", [{"pool": "web"}])],
            "pools": {"web": http_pool(backend.address, passive_check={"consecutive_failures": 1})},
        }
        yield Site(stack.enter_context(Balancer(config, tmp_path / "mfalb")), front)


@contextmanager
def voice_of(worker: int) -> Iterator[socket.socket]:
    """A worker's end of its control channel: its Unix stream socket that another process has made."""
    libc, process = ctypes.CDLL(None, use_errno=True), os.pidfd_open(worker)
    with ExitStack() as stack:
        stack.callback(os.close, process)
        found = []
        for descriptor in sockets_of(worker):
            copy = libc.syscall(_PIDFD_GETFD, process, descriptor, 0)
            assert copy >= 0, os.strerror(ctypes.get_errno())
            found.append(stack.enter_context(socket.socket(fileno=copy)))
        (voice,) = [sock for sock in found if is_stream_of_another(sock, worker)]
        yield voice


def is_stream_of_another(sock: socket.socket, worker: int) -> bool:
    if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        return False
    maker, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(maker != worker)


def test_messages_that_mean_nothing_are_ignored_and_counted(site: Site) -> None:
    workers = site.balancer.workers
    with voice_of(workers[0]) as voice:
        for count, words in enumerate(FORGED, 1):
            voice.send(frame(Message(words)))
            wait_until(lambda count=count: site.ignored == count, f"{words} to be counted")  # type: ignore[misc]
        with Path("/dev/null").open("rb") as file:
            keep = Message({"kind": "keep", "number": -1}, b"", (file.fileno(),))
            socket.send_fds(voice, [frame(keep)], keep.descriptors)
        wait_until(lambda: site.ignored == len(FORGED) + 1, "a descriptor that nobody keeps")
    assert site.balancer.backend("web", "b1")["consecutive_failures"] == 0
    assert site.balancer.workers == workers
    site.assert_serving()


def test_a_worker_that_talks_no_language_is_replaced_and_nobody_else_notices(site: Site) -> None:
    victim, other = site.balancer.workers
    with voice_of(victim) as voice:
        voice.send(b"\xff" * 9)
        wait_until(lambda: victim not in site.balancer.workers, "its end")
    wait_until(lambda: site.balancer.metrics().total("mfalb_workers") == WORKERS, "the next one")
    assert other in site.balancer.workers
    assert "the control channel's other end talks nonsense" in site.balancer.log()
    assert site.balancer.metrics().total("mfalb_worker_restarts_total") == 1
    site.assert_serving()
