"""The same odd requests through mfalb, HAProxy and nginx: mfalb never forwards what both of them refuse.

And what it forwards is, to an independent reader, one well-formed request for each that was meant, and nothing else.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httptools
import pytest
from programs.balancer import Balancer
from programs.http_backend import RawBackend, RawPeer
from programs.http_pool import http_pool, new_front
from programs.odd_requests import AMBIGUOUS, BAD_CHUNKS, CHUNKED, ODD
from programs.other_proxies import haproxy_before, nginx_before
from programs.ports import LOOPBACK
from programs.process import Program

QUIET_S: Final = 0.25  # so long after an answer nothing more of a request is under way
TABLE: Final = {**AMBIGUOUS, **{f"chunks: {name}": CHUNKED + body for name, body in BAD_CHUNKS.items()}, **ODD}

# What both others forward and mfalb does not, and why
STRICTER: Final = {
    "a DEL in a value": "RFC 9110 section 5.5: no control bytes; backends and logs read them differently",
    "a control byte in a value": "the same",
    "a bare line feed before": "RFC 9112 section 2.2 allows an empty line before a request, which ends with CRLF",
    "bare line feeds": "a line end that one hop takes and another does not smuggles fields",
    "chunks: bare line feeds": "the same in a body",
    "chunks with a framing trailer": "RFC 9110 section 6.5.1: framing is never told behind the body",
    "a foreign scheme": "this is no forward proxy",
    "a host with a user": "RFC 9110 section 7.2: Host has no userinfo; it reads like another host",
    "an odd expectation": "RFC 9110 section 10.1.1: 417, it cannot be met",
    "an underscore in a name": "HAProxy passes it on, nginx drops it: CGI takes it for a hyphen (`accept` allows it)",
    "an encoded slash": "some servers decode it before they look at the path (`accept` allows it)",
    "an encoded backslash": "the same on Windows (`accept` allows it)",
    "an encoded line end": "whoever decodes it into a header or a log splits that",
    "dot segments": "routed by one path, served by another",
    "encoded dot segments": "the same",
    "an upgrade with a body": "where the body ends and the new protocol begins would be the server's word only",
    "two blanks before the target": "RFC 9112 section 3: one blank; a lenient reader takes another word for the target",
    "two blanks before the version": "the same",
    "version 1.2": "nobody speaks it; what it would mean is not known",
}


@dataclass(frozen=True)
class Reached:
    """What of one request reached the server: the bytes of each connection that carried any."""

    connections: tuple[bytes, ...]

    @property
    def requests(self) -> list[tuple[bytes, bytes]]:
        """Method and target of each, as llhttp reads them. Raises httptools.HttpParserError and ValueError."""
        found = []
        for data in self.connections:
            reader = _Reader()
            with suppress(httptools.HttpParserUpgrade):
                reader.parser.feed_data(data)
            if not reader.is_complete:
                raise ValueError(f"half a request: {data!r}")
            found += reader.found
        return found


class _Reader:
    """llhttp, strict."""

    def __init__(self) -> None:
        self.found: list[tuple[bytes, bytes]] = []
        self.is_complete = True
        self._target = b""
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.is_complete = False
        self._target = b""

    def on_url(self, data: bytes) -> None:
        self._target += data

    def on_headers_complete(self) -> None:
        self.found.append((self.parser.get_method(), self._target))

    def on_message_complete(self) -> None:
        self.is_complete = True


def answer_whatever_comes(peer: RawPeer) -> None:
    """Answers each head at once, and reads until the proxy closes: nothing of what it sends is missed."""
    peer.socket.settimeout(5)
    while head := peer.read_head():
        body = b"" if head.startswith(b"HEAD ") else b"ok"
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n" + body)


class Route:
    """One proxy before a server of its own."""

    def __init__(self, port: int, backend: RawBackend) -> None:
        self._port = port
        self._backend = backend

    def reach(self, request: bytes) -> Reached:
        """Send it, read what comes until there is no more, and see what arrived."""
        with socket.create_connection((LOOPBACK, self._port), timeout=10) as client:
            with suppress(OSError):  # refused while it is being sent
                client.sendall(request)
            with suppress(OSError):  # closed, reset, or nothing more comes
                while client.recv(65_536):
                    client.settimeout(QUIET_S)
        peers = list(self._backend.peers)
        connections = tuple(bytes(peer.received) for peer in peers if peer.received)
        self._backend.forget()
        return Reached(connections)

    def reach_all(self) -> dict[str, Reached]:
        return {name: self.reach(request) for name, request in TABLE.items()}


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Reached]]:
    """What reached the server through each proxy, by its name and the request's."""
    run_dir = tmp_path_factory.mktemp("differential")
    with ExitStack() as stack:
        routes = {}
        for name in ("haproxy", "nginx", "mfalb"):
            backend = stack.enter_context(RawBackend(answer_whatever_comes))
            port, program = _proxy(name, backend, run_dir / name)
            stack.enter_context(program)
            backend.forget()  # what came before was a look at whether the proxy runs
            routes[name] = Route(port, backend)
        with ThreadPoolExecutor(len(routes)) as pool:
            found = {name: pool.submit(route.reach_all) for name, route in routes.items()}
            return {name: future.result() for name, future in found.items()}


def _proxy(name: str, backend: RawBackend, run_dir: Path) -> tuple[int, Program]:
    if name == "haproxy":
        return haproxy_before(backend.port, run_dir)
    if name == "nginx":
        return nginx_before(backend.port, run_dir)
    front = new_front()
    limits = {"header_timeout": "1s", "idle_timeout": "5s"}
    config = {
        "listeners": [front.listener("web", [{"pool": "p"}], limits=limits)],
        "pools": {"p": http_pool(backend.address)},
    }
    return front.port, Balancer(config, run_dir)


def test_the_table_is_long_enough_and_not_all_of_it_is_refused(reached: dict[str, dict[str, Reached]]) -> None:
    assert len(TABLE) >= 130
    for proxy, by_name in reached.items():
        forwarded = sum(bool(one.connections) for one in by_name.values())
        assert 30 <= forwarded <= len(TABLE) - 30, f"{proxy} forwards {forwarded}"


@pytest.mark.parametrize("name", TABLE)
def test_what_both_others_refuse_is_never_forwarded(reached: dict[str, dict[str, Reached]], name: str) -> None:
    ours = reached["mfalb"][name].connections
    others = reached["haproxy"][name].connections + reached["nginx"][name].connections
    assert others or not ours, f"only mfalb forwards it: {ours}"


@pytest.mark.parametrize("name", TABLE)
def test_what_is_forwarded_is_whole_and_no_more_than_was_meant(
    reached: dict[str, dict[str, Reached]], name: str
) -> None:
    ours = reached["mfalb"][name].requests
    assert not [target for _, target in ours if b"smuggled" in target]
    assert len(ours) <= (2 if name == "two requests at once" else 1)


def test_where_mfalb_is_stricter_than_both_is_known(reached: dict[str, dict[str, Reached]]) -> None:
    stricter = {
        name
        for name in TABLE
        if not reached["mfalb"][name].connections
        and reached["haproxy"][name].connections
        and reached["nginx"][name].connections
    }
    assert stricter == set(STRICTER)
