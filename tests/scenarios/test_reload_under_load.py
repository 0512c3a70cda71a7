"""Promise: under load on both protocols no reload costs a request, a pin or a datagram, counted at both ends.

`RELOAD_SOAK_S` makes it last longer than its five seconds.
"""

from __future__ import annotations

import copy
import http.client
import os
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from programs.balancer import Balancer
from programs.http_backend import HttpBackend
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK, free_tcp_port
from programs.radius_pool import radius_pool
from programs.radius_responder import Manners, RadiusResponder
from programs.reload_site import Site, served_by

from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

SOAK_S: Final = float(os.environ.get("RELOAD_SOAK_S", "5"))
RELOAD_EVERY_S: Final = 0.25 if SOAK_S < 60 else 1.0  # the short form has to see as much as it can
WORKERS: Final = 2


class HttpCaller(threading.Thread):
    """Asks on one kept connection, and on new ones, until it is told to stop. Every failure is kept."""

    def __init__(self, front: Front) -> None:
        super().__init__()
        self.front = front
        self.is_over = threading.Event()
        self.failures: list[str] = []
        self.served = 0

    def run(self) -> None:
        kept = self.front.connect()
        kept.connect()
        sock = kept.sock
        while not self.is_over.is_set():
            for connection in (kept, self.front.connect()):
                try:
                    served_by(connection)
                    self.served += 1
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    self.failures.append(repr(error))
                if connection is not kept:
                    connection.close()
        if kept.sock is not sock:
            self.failures.append("the kept connection was closed")
        kept.close()


class RadiusCaller(threading.Thread):
    """Begins sign-ins and ends them some reloads later, each half from a socket of its own; nothing is sent again."""

    def __init__(self, port: int, secret: SharedSecret) -> None:
        super().__init__()
        self.port = port
        self.secret = secret
        self.is_over = threading.Event()
        self.sent = 0
        self.begun: deque[tuple[float, bytes, bytes]] = deque()
        self.ends: Counter[int | None] = Counter()
        self.lost: list[str] = []

    def run(self) -> None:
        while not self.is_over.wait(0.005):
            self.begin(f"user{self.sent}".encode())
            self.end_those_begun_before(time.monotonic() - 3 * RELOAD_EVERY_S)
        self.end_those_begun_before(time.monotonic())

    def begin(self, user: bytes) -> None:
        answer = self.ask(user, b"")
        state = None if answer is None else answer.first(radius.STATE)
        if state is None:
            self.lost.append(f"{user!r} was not challenged: {answer}")
        else:
            self.begun.append((time.monotonic(), user, state))

    def end_those_begun_before(self, moment_s: float) -> None:
        while self.begun and self.begun[0][0] < moment_s:
            _, user, state = self.begun.popleft()
            answer = self.ask(user, radius.attribute(radius.STATE, state))
            self.ends[None if answer is None else answer.code] += 1

    def ask(self, user: bytes, more: bytes) -> radius.Packet | None:
        """The answer; None for silence."""
        body = radius.attribute(radius.USER_NAME, user) + more
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10.0)
            sock.connect((LOOPBACK, self.port))
            sock.send(radius.signed_request(radius.ACCESS_REQUEST, 7, os.urandom(16), body, self.secret))
            self.sent += 1
            try:
                return radius.read_untrusted(sock.recv(4096))
            except TimeoutError:
                return None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A site of both protocols, those who use it, and its servers."""

    site: Site
    by_http: list[HttpCaller]
    by_radius: list[RadiusCaller]
    servers: list[RadiusResponder]

    @property
    def callers(self) -> list[HttpCaller | RadiusCaller]:
        return [*self.by_http, *self.by_radius]


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Loaded]:
    with ExitStack() as stack:
        web = tuple(stack.enter_context(HttpBackend(f"w{n}", tmp_path / f"w{n}")) for n in (1, 2))
        challenging = Manners(challenges=True)
        servers = [stack.enter_context(RadiusResponder(f"r{n}", f"towards-server-{n:02}", challenging)) for n in (1, 2)]
        made = radius_pool(servers, tmp_path)
        front = new_front()
        made.config.update({"workers": WORKERS, "log": {"access": False}})  # each reload is looked for in the log
        made.config["listeners"].append(front.listener("web", [{"pool": "web"}]))
        made.config["pools"]["web"] = http_pool(*(one.address for one in web))
        site = Site(stack.enter_context(Balancer(made.config, tmp_path / "mfalb")), front, web, made.config)
        secret = SharedSecret(made.client_secret.encode())
        by_http = [HttpCaller(front) for _ in range(2)]
        yield Loaded(site, by_http, [RadiusCaller(made.port, secret) for _ in range(2)], servers)


def another(config: dict[str, Any], number: int) -> dict[str, Any]:
    """A configuration that differs from the one before it."""
    changed = copy.deepcopy(config)
    changed["pools"]["web"]["response_timeout"] = f"{60 + number % 7}s"
    changed["pools"]["web"]["backends"].reverse() if number % 2 else None
    changed["listeners"][0]["answer_cache"] = f"{20 + number % 5}s"
    if number % 3 == 0:
        changed["listeners"].append(Front(free_tcp_port()).listener("more", [{"pool": "web"}]))
    return changed


def reload_for(site: Site, seconds: float) -> int:
    """How often another configuration was taken up in so long."""
    reloads, end = 0, time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        site.reload(another(site.config, reloads))
        reloads += 1
        time.sleep(max(0.0, began + RELOAD_EVERY_S - time.monotonic()))
    return reloads


def test_no_request_fails_no_pin_and_no_datagram_is_lost_while_configurations_change_again_and_again(
    loaded: Loaded, record_property: Callable[[str, object], None]
) -> None:
    site = loaded.site
    for caller in loaded.callers:
        caller.start()
    try:
        reloads = reload_for(site, SOAK_S)
    finally:
        for caller in loaded.callers:
            caller.is_over.set()
        for caller in loaded.callers:
            caller.join(60)
    assert reloads >= SOAK_S / RELOAD_EVERY_S / 4
    # HTTP, at both ends
    assert [caller.failures for caller in loaded.by_http] == [[], []]
    assert min(caller.served for caller in loaded.by_http) > 50
    assert sum(backend.stats().requests for backend in site.backends) == sum(one.served for one in loaded.by_http)
    # RADIUS: each second half came to the server that knew its State, and each datagram to a server, once
    assert [caller.lost for caller in loaded.by_radius] == [[], []]
    assert set().union(*(caller.ends for caller in loaded.by_radius)) == {radius.ACCESS_ACCEPT}
    sent = sum(caller.sent for caller in loaded.by_radius)
    assert sent == 2 * sum(caller.ends.total() for caller in loaded.by_radius)
    assert sum(len(server.requests()) for server in loaded.servers) == sent
    metrics = site.balancer.metrics()
    assert metrics.total("mfalb_pins_hit_total") == sent / 2
    with suppress(KeyError):
        assert metrics.total("mfalb_listener_kernel_drops_total") == 0
    record_property("reloads, requests, datagrams", (reloads, sum(one.served for one in loaded.by_http), sent))
