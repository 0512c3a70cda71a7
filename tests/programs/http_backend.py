"""HTTP backends: a well-behaved one that says what it was sent, and a raw one that can misbehave in any way.

HttpBackend   aiohttp in a process of its own: can be killed, counts its connections and requests
RawBackend    threads in this process: a script of the test's own answers, byte by byte
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from weakref import WeakSet

from aiohttp import WSMsgType, web

from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Logged, Program

_BLOCK: Final = bytes(range(256)) * 256
_READY: Final = "backend is listening"
_RAW_TIMEOUT_S: Final = 10.0


def pattern(size: int) -> Iterable[bytes]:
    """The body of `/bytes/<size>`, in blocks: equal bodies are equal here and there, and no block is like its shift."""
    for start in range(0, size, len(_BLOCK)):
        yield _BLOCK[: min(len(_BLOCK), size - start)]


# ------------------------------------------------------------------------------------ the well-behaved one


@dataclass(frozen=True, slots=True)
class Stats:
    """What a backend saw: connections that carried a request, and requests."""

    connections: int
    requests: int


class HttpBackend(Program):
    """Serves /echo (what was sent, as JSON), /bytes/<n>, /status/<code>, /early and /wait/<seconds>.

    /ws is a WebSocket that says the server's name, and then echoes.
    """

    def __init__(self, name: str, run_dir: Path, certificate: CertificateFiles | None = None) -> None:
        self.port: Final = free_tcp_port()
        self.certificate: Final = certificate
        argv = [sys.executable, "-m", "programs.http_backend", "--port", str(self.port), "--name", name]
        if certificate is not None:
            argv += ["--cert", str(certificate.cert), "--key", str(certificate.key)]
        environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
        super().__init__(name, argv, run_dir, ready=Logged(_READY), launch=Launch(environment=environment))

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def stats(self) -> Stats:
        """Asked directly, past the balancer; this question is not counted."""
        connection: http.client.HTTPConnection
        if self.certificate is None:
            connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=5)
        else:
            context = ssl.create_default_context(cafile=str(self.certificate.ca))
            connection = http.client.HTTPSConnection(LOOPBACK, self.port, timeout=5, context=context)
        try:
            connection.request("GET", "/stats")
            found = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return Stats(found["connections"], found["requests"])


class _Service:
    """The handlers of one backend process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._transports: WeakSet[object] = WeakSet()
        self._connections = 0
        self._requests = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 40)
        application.router.add_get("/stats", self._stats)
        application.router.add_get("/bytes/{size}", self._bytes)
        application.router.add_route("*", "/status/{code}", self._status)
        application.router.add_route("*", "/early", self._early)
        application.router.add_route("*", "/wait/{seconds}", self._wait)
        application.router.add_get("/ws", self._websocket)
        application.router.add_route("*", "/{rest:.*}", self._echo)
        return application

    def _count(self, request: web.Request) -> None:
        self._requests += 1
        if request.transport not in self._transports:
            self._transports.add(request.transport)
            self._connections += 1

    async def _stats(self, _request: web.Request) -> web.Response:
        return web.json_response({"connections": self._connections, "requests": self._requests})

    async def _echo(self, request: web.Request) -> web.Response:
        self._count(request)
        digest, length = hashlib.sha256(), 0
        async for block in request.content.iter_any():
            digest.update(block)
            length += len(block)
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers]
        seen = {"name": self._name, "method": request.method, "target": request.raw_path, "headers": headers}
        return web.json_response(seen | {"length": length, "sha256": digest.hexdigest()})

    async def _bytes(self, request: web.Request) -> web.StreamResponse:
        self._count(request)
        size = int(request.match_info["size"])
        response = web.StreamResponse()
        if request.query.get("framing") == "chunked":
            response.enable_chunked_encoding()
        else:
            response.content_length = size
        await response.prepare(request)
        if request.method != "HEAD":
            for block in pattern(size):
                await response.write(block)
        await response.write_eof()
        return response

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        self._count(request)
        websocket = web.WebSocketResponse(max_msg_size=0)
        await websocket.prepare(request)
        await websocket.send_str(self._name)
        async for message in websocket:
            if message.type is WSMsgType.TEXT:
                await websocket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await websocket.send_bytes(message.data)
        return websocket

    async def _status(self, request: web.Request) -> web.Response:
        self._count(request)
        return web.Response(status=int(request.match_info["code"]), headers={"ETag": '"tag"'})

    async def _early(self, request: web.Request) -> web.Response:
        """Answers without waiting for the body."""
        self._count(request)
        return web.Response(status=413, text="too large\n")

    async def _wait(self, request: web.Request) -> web.Response:
        self._count(request)
        await asyncio.sleep(float(request.match_info["seconds"]))
        return web.Response(text="waited\n")


async def _serve(arguments: argparse.Namespace) -> None:
    context = None
    if arguments.cert is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(arguments.cert, arguments.key)
    runner = web.AppRunner(_Service(arguments.name).application(), access_log=None, keepalive_timeout=120)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, arguments.port, ssl_context=context).start()
    sys.stderr.write(_READY + "\n")
    sys.stderr.flush()
    await asyncio.Event().wait()


def main() -> None:
    """The backend process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    asyncio.run(_serve(parser.parse_args()))


# ------------------------------------------------------------------------------------ the one that misbehaves

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(slots=True)
class RawPeer:
    """One accepted connection, as a script sees it."""

    socket: socket.socket
    number: int
    received: bytearray = field(default_factory=bytearray)
    _unread: bytearray = field(default_factory=bytearray)

    def read_head(self) -> bytes:
        """The next request's head; b"" when the balancer closed."""
        while (end := self._unread.find(b"\r\n\r\n")) < 0:
            if not self._more():
                return b""
        head = bytes(self._unread[: end + 4])
        del self._unread[: end + 4]
        return head

    def read_body(self, size: int) -> bytes:
        """That many bytes of a body; fewer when the balancer closed."""
        while len(self._unread) < size and self._more():
            pass
        body = bytes(self._unread[:size])
        del self._unread[:size]
        return body

    def _more(self) -> bool:
        data = self.socket.recv(65_536)
        self.received += data
        self._unread += data
        return bool(data)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        """Break the connection so that the other side notices (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


Script = Callable[[RawPeer], None]


def answering(*answers: bytes) -> Script:
    """A script: each request head is answered with the next of `answers`, the last one again and again."""

    def script(peer: RawPeer) -> None:
        turn = 0
        while peer.read_head():
            peer.send(answers[min(turn, len(answers) - 1)])
            turn += 1

    return script


class RawBackend:
    """A TCP server whose script, called once a connection, does what it likes. `script` may be changed at any time."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.peers: list[RawPeer] = []
        self._server = socket.create_server((LOOPBACK, 0))
        self.port: Final[int] = self._server.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._is_closing = False

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def received(self) -> bytes:
        """All bytes that ever reached this backend."""
        return b"".join(bytes(peer.received) for peer in self.peers)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._server.close()
        for peer in self.peers:
            with suppress(OSError):
                peer.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_RAW_TIMEOUT_S)

    def forget(self) -> None:
        """Closes every connection and waits until the balancer has closed its side; then nothing is remembered."""
        for peer in self.peers:
            with suppress(OSError):
                peer.socket.shutdown(socket.SHUT_WR)
        for thread in self._threads[1:]:
            thread.join(_RAW_TIMEOUT_S)
        del self._threads[1:]
        self.peers.clear()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()  # before anybody can find it: a thread that was not started cannot be waited for
        self._threads.append(thread)

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                accepted, _ = self._server.accept()
            except OSError:
                return
            accepted.settimeout(_RAW_TIMEOUT_S)
            peer = RawPeer(accepted, len(self.peers))
            self.peers.append(peer)
            self._start(lambda peer=peer: self._run(peer))  # type: ignore[misc] # binds the peer of this turn

    def _run(self, peer: RawPeer) -> None:
        with suppress(OSError):  # the balancer may close at any time: that is what is tested
            self.script(peer)
        with suppress(OSError):
            peer.socket.close()


def rss_bytes(pid: int) -> int:
    """The resident memory of a process."""
    text = Path(f"/proc/{pid}/statm").read_text("ascii")
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
