"""Promise: when the balancer itself is out of descriptors, no server is blamed for it, and what can be served is."""

from __future__ import annotations

import os
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from programs.balancer import Balancer, write_secret
from programs.http_backend import HttpBackend
from programs.http_pool import http_pool, new_front, read_all
from programs.ports import LOOPBACK, free_udp_port
from programs.process import wait_until
from programs.radius_pool import radius_pool
from programs.radius_responder import RadiusResponder
from programs.radsec_pool import FAST_CHECK, make_trust, pool_of, tls_backends, upstream_tls
from programs.radsec_server import RadsecServer, server_tls

from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

CLIENT_SECRET = "towards-the-clients-0"
CLIENT = SharedSecret(CLIENT_SECRET.encode())
PATIENCE_S = 3.0  # the quick checks of these tests find a silent server in 1 to 1.5 s


@contextmanager
def shortage(pid: int) -> Iterator[None]:
    """The process gets no descriptor beyond those that it has."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def sign_in(port: int, user: bytes) -> int | None:
    """The code of the answer; None for silence."""
    body = radius.attribute(radius.USER_NAME, user)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        sock.connect((LOOPBACK, port))
        sock.send(radius.signed_request(radius.ACCESS_REQUEST, 7, os.urandom(16), body, CLIENT))
        try:
            return sock.recv(4096)[0]
        except TimeoutError:
            return None


def is_up(balancer: Balancer, count: int) -> bool:
    return balancer.metrics().total("mfalb_backend_up") == count


def assert_nobody_was_blamed(balancer: Balancer) -> None:
    """The log says once a minute, of each server that was to be probed, that it could not be."""
    assert is_up(balancer, 2)
    log = balancer.log()
    assert "backend down" not in log
    assert log.count("cannot probe a backend") in (1, 2), "a server that answers users is not probed"
    assert balancer.metrics().total("mfalb_backend_failures_total") == 0


def test_without_descriptors_udp_servers_stay_up_and_the_one_that_has_a_socket_serves_all(tmp_path: Path) -> None:
    with RadiusResponder("b1", "of-the-first") as first, RadiusResponder("b2", "of-the-second") as second:
        made = radius_pool((first, second), tmp_path, client_secret=CLIENT_SECRET)
        with Balancer(made.config, tmp_path / "mfalb", secrets=made.secrets) as balancer:
            wait_until(lambda: is_up(balancer, 2), "both servers to be up")
            assert sign_in(made.port, b"alice") == radius.ACCESS_ACCEPT
            (served,) = (server for server in (first, second) if server.requests())
            with shortage(balancer.pid), shortage(balancer.worker):
                ends_at = time.monotonic() + PATIENCE_S
                while time.monotonic() < ends_at:
                    assert sign_in(made.port, b"bob") == radius.ACCESS_ACCEPT
                    time.sleep(0.1)
            assert len(first.requests()) + len(second.requests()) == len(served.requests())
            wait_until(balancer.is_answering, "the admin port")
            assert_nobody_was_blamed(balancer)


def test_without_descriptors_servers_over_tls_stay_up(tmp_path: Path) -> None:
    trust, port = make_trust(tmp_path / "trust"), free_udp_port()
    honest: ssl.SSLContext = server_tls(trust.server, trust.ca)
    secret_file = write_secret(tmp_path, "client", CLIENT_SECRET)
    listener = {
        "name": "radius",
        "protocol": "radius",
        "bind": [f"{LOOPBACK}:{port}"],
        "clients": [{"name": "nas", "network": "127.0.0.1/32", "secret_file": secret_file}],
        "pool": "mfa",
    }
    with ExitStack() as stack:
        servers = [stack.enter_context(RadsecServer(name, honest)) for name in ("b1", "b2")]
        backends = tls_backends({server.name: server.port for server in servers})
        pool = pool_of(backends, upstream_tls=upstream_tls(trust), health_check=dict(FAST_CHECK))
        config = {"listeners": [listener], "pools": {"mfa": pool}}
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb", secrets=[CLIENT_SECRET]))
        wait_until(lambda: is_up(balancer, 2), "both servers to be up")
        with shortage(balancer.pid), shortage(balancer.worker):
            time.sleep(PATIENCE_S / 2)
            assert sign_in(port, b"alice") is None, "there is no connection yet, and none can be had"
            time.sleep(PATIENCE_S / 2)
        wait_until(balancer.is_answering, "the admin port")
        assert_nobody_was_blamed(balancer)
        wait_until(lambda: sign_in(port, b"alice") == radius.ACCESS_ACCEPT, "a connection")


def test_connections_that_arrive_without_descriptors_are_accepted_as_soon_as_there_are_some(tmp_path: Path) -> None:
    front = new_front()
    proxied = front.listener("web", [{"pool": "web"}], proxy_protocol={"from": [f"{LOOPBACK}/32"]})
    with ExitStack() as stack:
        backend = stack.enter_context(HttpBackend("b1", tmp_path / "b1"))
        config = {"listeners": [proxied], "pools": {"web": http_pool(backend.address)}}
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb"))
        before_s = cpu_s(balancer.worker)
        with shortage(balancer.worker):
            waiting = stack.enter_context(front.open())
            waiting.sendall(b"PROXY TCP4 192.0.2.77 198.51.100.1 40000 80\r\n")
            waiting.sendall(b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            wait_until(lambda: "cannot accept" in balancer.log(), "a word about it")
            time.sleep(PATIENCE_S)
            assert balancer.log().count("cannot accept") == 1, "it is said rarely"
        assert cpu_s(balancer.worker) - before_s < PATIENCE_S / 2, "and not tried without a pause"
        assert read_all(waiting).startswith(b"HTTP/1.1 200 ")


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
