"""Promise: whoever is connected and says nothing costs little and holds up nobody.

CAPACITY_CONNECTIONS is how many such clients there are, 1,000 by default; ten thousand need descriptors (`ulimit -n`).
"""

from __future__ import annotations

import os
import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.http_backend import HttpBackend, rss_bytes
from programs.http_pool import http_pool, new_front
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.tcp_pool import new_tcp_front

CONNECTIONS: Final = int(os.environ.get("CAPACITY_CONNECTIONS", "1000"))
# A connection. Measured with 10,000 of them: 25 KB and 4 KB
TLS_LIMIT_BYTES: Final = 36 * 1024
TCP_LIMIT_BYTES: Final = 16 * 1024
LIMITS: Final = {"connections": 20_000, "connections_per_source": 20_000}


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    """As many as this process may have; the balancer sees to its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 500:
        pytest.fail(f"{CONNECTIONS} connections need more descriptors than {hard} (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def held(port: int, context: ssl.SSLContext | None, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that say nothing once they stand."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection((LOOPBACK, port), timeout=30))
            if context is not None:
                client = stack.enter_context(context.wrap_socket(client, server_hostname=LOOPBACK))
            clients.append(client)
        yield clients


@contextmanager
def greeting_server() -> Iterator[str]:
    """The address of a server that greets everybody and then says nothing. One thread, whatever comes."""
    accepted: list[socket.socket] = []
    with socket.create_server((LOOPBACK, 0), backlog=4096) as server:

        def greet() -> None:
            with suppress(OSError):  # it is closed at the end
                while True:
                    peer, _ = server.accept()
                    accepted.append(peer)
                    peer.sendall(b"hello")

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield f"{LOOPBACK}:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)  # wakes accept
            thread.join(10)
            for peer in accepted:
                peer.close()


def test_idle_tls_connections_are_held_and_everybody_else_is_served(
    tmp_path: Path, certificate: CertificateFiles
) -> None:
    front = new_front(certificate)
    context = ssl.create_default_context(cafile=str(certificate.ca))
    with HttpBackend("b1", tmp_path / "b1") as backend:
        limits = {**LIMITS, "idle_timeout": "10m", "header_timeout": "10m"}
        config = {
            "listeners": [front.listener("web", [{"pool": "p"}], limits=limits)],
            "pools": {"p": http_pool(backend.address)},
        }
        with Balancer(config, tmp_path / "mfalb") as balancer:
            with held(front.port, context, 50):
                assert front.get("/echo")[0] == 200
            before = rss_bytes(balancer.worker)
            with held(front.port, context, CONNECTIONS) as clients:
                wait_until(
                    lambda: balancer.metrics().total("mfalb_listener_connections") == CONNECTIONS,
                    "all to be connected",
                    deadline_s=60,
                )
                each = (rss_bytes(balancer.worker) - before) / CONNECTIONS
                assert front.get("/echo")[0] == 200
                for client in (clients[0], clients[-1]):
                    client.sendall(b"GET /bytes/3 HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert client.recv(100).startswith(b"HTTP/1.1 200 ")
            assert each < TLS_LIMIT_BYTES, f"{each:.0f} bytes a connection"
            wait_until(lambda: balancer.metrics().total("mfalb_listener_connections") == 0, "all to be gone")


def test_passed_through_connections_are_held_and_everybody_else_is_served(tmp_path: Path) -> None:
    count = min(CONNECTIONS, 8000)  # each takes two descriptors of the balancer's
    front = new_tcp_front()
    with ExitStack() as stack:
        address = stack.enter_context(greeting_server())
        config = {
            "listeners": [front.listener([{"pool": "p"}], limits={**LIMITS, "idle_timeout": "10m"})],
            "pools": {"p": http_pool(address)},
        }
        with Balancer(config, tmp_path / "mfalb") as balancer:
            before = rss_bytes(balancer.worker)
            with held(front.port, None, count) as clients:
                assert {client.recv(5) for client in clients} == {b"hello"}
                each = (rss_bytes(balancer.worker) - before) / count
                with front.open() as one_more:
                    assert one_more.recv(5) == b"hello"
            assert each < TCP_LIMIT_BYTES, f"{each:.0f} bytes a connection"
            stack.close()  # the server's end, too: a client's half-close alone ends no connection
            wait_until(lambda: balancer.metrics().total("mfalb_backend_active") == 0, "all to be gone")
