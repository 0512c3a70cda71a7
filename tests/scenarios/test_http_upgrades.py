"""Upgrades: a WebSocket is carried both ways by the server that its session is pinned to, and only after its 101."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from programs.balancer import Balancer, write_secret
from programs.certificates import CertificateFiles
from programs.http_backend import HttpBackend, RawBackend, RawPeer, answering
from programs.http_pool import Front, Responses, http_pool, new_front, read_all
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.websocket_client import WebSocketClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

ASK = b"GET /raw HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def switch(client: socket.socket, target: bytes = b"/raw", early: bytes = b"") -> None:
    """Ask for a tunnel and read the 101, and not a byte behind it."""
    client.sendall(ASK.replace(b"/raw", target) + early)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        assert byte, f"the connection ended behind {head!r}"
        head += byte
    assert head.startswith(b"HTTP/1.1 101 "), head


def exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        assert piece, f"the connection ended after {len(data)} bytes"
        data += piece
    return data


LARGE = bytes(range(256)) * 12_000


@dataclass(frozen=True)
class Upgrading:
    """Two servers with cookies (`/`), a raw one (`/raw`) and one made with websockets (`/other`).

    `brief` is a listener whose tunnels may be silent for a second only.
    """

    balancer: Balancer
    front: Front
    brief: Front
    servers: tuple[HttpBackend, HttpBackend]
    raw: RawBackend

    def websocket(self, target: str = "/ws", cookie: str = "") -> WebSocketClient:
        scheme, context = "ws", None
        if self.front.certificate is not None:
            scheme, context = "wss", ssl.create_default_context(cafile=str(self.front.certificate.ca))
        return WebSocketClient(f"{scheme}://{LOOPBACK}:{self.front.port}{target}", context, cookie)

    def line(self, *words: str) -> dict[str, str]:
        """The fields of the one line of the access log that has these words; waits for it."""

        def found() -> list[str]:
            lines = self.balancer.log().splitlines()
            return [line for line in lines if set(words) <= set(line.split())]

        wait_until(lambda: bool(found()), f"an access line with {words}")
        (line,) = found()
        return dict(re.findall(r"(\w+)=(\S+)", line))


@contextmanager
def other_server() -> Iterator[str]:
    """A WebSocket server that echoes, made with `websockets`; its address."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, LOOPBACK, 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"{LOOPBACK}:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def upgrading(run_dir: Path, certificate: CertificateFiles | None) -> Iterator[Upgrading]:
    key = base64.b64encode(os.urandom(32)).decode()
    front, brief = new_front(certificate), new_front()
    routes = [{"pool": "web"}, {"path": "/raw", "pool": "raw"}, {"path": "/other", "pool": "other"}]
    with ExitStack() as stack:
        one, two = (stack.enter_context(HttpBackend(name, run_dir / name)) for name in ("b1", "b2"))
        raw = stack.enter_context(RawBackend(answering(AGREED)))
        config = {
            "listeners": [
                front.listener("web", routes),
                brief.listener("brief", routes, limits={"tunnel_timeout": "1s"}),
            ],
            "pools": {
                "web": http_pool(one.address, two.address, affinity={"type": "cookie"}),
                "raw": http_pool(raw.address),
                "other": http_pool(stack.enter_context(other_server())),
            },
            "pins": {"cookie_keys_file": write_secret(run_dir, "cookie-keys", key)},
        }
        balancer = stack.enter_context(Balancer(config, run_dir / "mfalb", secrets=[key]))
        yield Upgrading(balancer, front, brief, (one, two), raw)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles
) -> Iterator[Upgrading]:
    with upgrading(tmp_path_factory.mktemp("upgrading"), certificate if request.param else None) as site:
        yield site


@pytest.fixture
def site(running: Upgrading) -> Iterator[Upgrading]:
    yield running
    running.raw.forget()


# ------------------------------------------------------------------------------------ real WebSocket peers


@pytest.mark.parametrize("target", ["/ws", "/other"], ids=["aiohttp's server", "the server of websockets"])
def test_messages_of_every_size_and_fragments_pass_both_ways(site: Upgrading, target: str) -> None:
    with site.websocket(target) as client:
        if target == "/ws":
            assert client.recv() in ("b1", "b2")
        for message in ("", "é", b"\x00\xff", "x" * 70_000, LARGE):
            client.send(message)
            assert client.recv() == message
        client.send(["in ", "three ", "fragments"])
        assert client.recv() == "in three fragments"
        client.ping()


@pytest.mark.parametrize("target", ["/ws", "/other"], ids=["aiohttp's server", "the server of websockets"])
async def test_aiohttp_s_client_is_served_and_its_close_passes_both_ways(site: Upgrading, target: str) -> None:
    certificate = site.front.certificate
    context = ssl.create_default_context(cafile=str(certificate.ca)) if certificate is not None else True
    scheme = "http" if certificate is None else "https"
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        url = f"{scheme}://{LOOPBACK}:{site.front.port}{target}"
        async with session.ws_connect(url, ssl=context, max_msg_size=0) as websocket:
            if target == "/ws":
                assert await websocket.receive_str() in ("b1", "b2")
            await websocket.send_bytes(LARGE)
            assert await websocket.receive_bytes() == LARGE
            opened = websocket.get_extra_info("socket")
        # aiohttp is done before TLS has said goodbye; the loop would end too early
        while opened.fileno() >= 0:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
        assert websocket.close_code == aiohttp.WSCloseCode.OK


def test_a_websocket_and_the_requests_of_its_session_are_served_by_the_same_server(site: Upgrading) -> None:
    homes = []
    for _ in range(4):
        with site.websocket() as client:
            home = client.recv()
            cookie = client.cookie
            assert {json.loads(site.front.get("/echo", Cookie=cookie)[1])["name"] for _ in range(3)} == {home}
        with site.websocket(cookie=cookie) as again:
            assert again.recv() == home
        homes.append(home)
    assert sorted(set(homes)) == ["b1", "b2"], "sessions are spread, so that staying means something"


# ------------------------------------------------------------------------------- before, and instead of, a 101


def test_what_a_client_sends_early_reaches_the_server_only_behind_its_101(site: Upgrading) -> None:
    before: list[bytes] = []
    may_agree = threading.Event()

    def script(peer: RawPeer) -> None:
        peer.read_head()
        assert may_agree.wait(10)
        peer.socket.setblocking(False)
        try:
            before.append(peer.socket.recv(100))
        except BlockingIOError:
            before.append(b"")
        peer.socket.settimeout(10)
        peer.send(AGREED + b"welcome")
        peer.send(peer.read_body(9))

    site.raw.script = script
    with site.front.open() as client:
        client.sendall(ASK + b"early")
        client.sendall(b"more")
        wait_until(lambda: ASK[:8] in site.raw.received, "the request at the server")
        assert site.front.get("/echo")[0] == 200  # the balancer has been round its loop since
        may_agree.set()
        assert read_all(client).endswith(b"\r\n\r\nwelcomeearlymore")
    assert before == [b""]


@pytest.mark.parametrize("status", [b"200 OK", b"403 Forbidden", b"426 Upgrade Required"])
def test_after_a_refused_upgrade_the_connection_goes_on_as_http(site: Upgrading, status: bytes) -> None:
    site.raw.script = answering(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nno" % status)
    with site.front.open() as client:
        responses = Responses(client)
        for _ in range(2):
            client.sendall(ASK)
            assert (responses.next().status, len(site.raw.peers)) == (int(status[:3]), 1)
        client.sendall(ASK + b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [responses.next().status for _ in range(2)] == [int(status[:3]), 200]
        client.sendall(ASK + b"\x81\x05hello")
        assert [responses.next().status for _ in range(2)] == [int(status[:3]), 400]
    assert b"hello" not in site.raw.received


@pytest.mark.parametrize("wanted", [b"h2c", b"TLS/1.2, h2c"])
def test_an_upgrade_to_http_2_or_tls_reaches_the_server_as_a_plain_request(site: Upgrading, wanted: bytes) -> None:
    site.raw.script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with site.front.open() as client:
        client.sendall(
            b"GET /raw HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\n"
            b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n" % wanted
        )
        assert Responses(client).next().status == 200
    assert b"GET /raw" in site.raw.received
    assert not re.search(rb"(?i)upgrade|http2-settings|h2c", site.raw.received)


def test_a_server_that_switches_unasked_is_a_broken_one(site: Upgrading) -> None:
    site.raw.script = answering(AGREED + b"anything")
    assert site.front.get("/raw")[0] == 502


# ------------------------------------------------------------------------------------------- how tunnels end


def test_when_the_server_ends_its_half_the_client_may_still_speak_but_not_under_tls(site: Upgrading) -> None:
    heard: list[bytes] = []

    def script(peer: RawPeer) -> None:
        peer.read_head()
        peer.send(AGREED + b"bye")
        peer.socket.shutdown(socket.SHUT_WR)
        heard.append(peer.read_body(5))

    site.raw.script = script
    with site.front.open() as client:
        switch(client)
        assert read_all(client) == b"bye"
        if site.front.certificate is None:
            client.sendall(b"still")
    wait_until(lambda: bool(heard), "the server to hear the end")
    assert heard == [b"still" if site.front.certificate is None else b""]


def test_when_the_client_ends_its_half_the_server_may_still_speak(site: Upgrading) -> None:
    def script(peer: RawPeer) -> None:
        peer.read_head()
        peer.send(AGREED)
        peer.send(b"you said " + peer.read_body(1000))  # that many never come: it ends with the client's half

    site.raw.script = script
    with site.brief.open() as client:
        switch(client, b"/raw/ended")
        client.sendall(b"my last words")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"you said my last words"
        assert site.line("path=/raw/ended")["end"] == "--", "over when both have ended, before anybody closes"


def test_a_silent_tunnel_ends_at_the_time_limit_and_is_told_as_such(site: Upgrading) -> None:
    site.raw.script = _echoing
    with site.brief.open() as client:
        switch(client, b"/raw/silent", b"hello")
        assert read_all(client) == b"hello"
    line = site.line("path=/raw/silent")
    assert (line["end"], line["reason"], line["status"]) == ("cT", "tunnel_idle", "101")


def test_the_line_of_a_tunnel_tells_its_bytes_both_ways(site: Upgrading) -> None:
    site.raw.script = _echoing
    with site.front.open() as client:
        switch(client, b"/raw/counted")
        client.sendall(b"hello" * 1000)
        assert exactly(client, 5000) == b"hello" * 1000
    line = site.line("path=/raw/counted")
    assert (line["end"], line["status"], line["bytes_in"], line["bytes"]) == ("--", "101", "5000", "5000")


def test_a_client_that_breaks_its_tunnel_frees_the_server(site: Upgrading) -> None:
    site.raw.script = _echoing
    client = site.front.open()
    switch(client, b"/raw/broken")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_until(lambda: site.balancer.backend("raw")["active"] == 0, "the server to be free")
    assert site.line("path=/raw/broken")["status"] == "101"


def test_a_server_that_dies_ends_its_tunnels_and_no_others(site: Upgrading) -> None:
    died = threading.Event()

    def script(peer: RawPeer) -> None:
        peer.read_head()
        peer.send(AGREED)
        assert died.wait(10)
        peer.reset()

    site.raw.script = script
    with site.websocket() as other, site.front.open() as client:
        other.recv()
        switch(client)
        died.set()
        assert read_all(client) == b""
        other.send("still there")
        assert other.recv() == "still there"


def _echoing(peer: RawPeer) -> None:
    peer.read_head()
    peer.send(AGREED)
    while data := peer.read_body(1):
        peer.send(data)


def test_a_killed_server_is_seen_by_its_websockets_and_a_new_one_is_served_by_the_other(tmp_path: Path) -> None:
    with upgrading(tmp_path, None) as site, site.websocket() as client:
        home = client.recv()
        next(server for server in site.servers if server.name == home).kill()
        with pytest.raises(ConnectionClosed):
            client.recv()
        with site.websocket() as again:
            assert again.recv() in {"b1", "b2"} - {home}


def test_a_balancer_that_is_told_to_stop_ends_open_tunnels_and_exits_cleanly(tmp_path: Path) -> None:
    with upgrading(tmp_path, None) as site, site.websocket() as client:
        client.recv()
        site.balancer.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            client.recv(30)
        wait_until(lambda: not site.balancer.is_running(), "the balancer to end", deadline_s=30)
        assert site.balancer.exit_code == 0
