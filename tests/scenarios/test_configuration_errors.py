"""A balancer that cannot serve everything it was told to serves nothing: exit 1, one clear line, no port left bound."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from programs.http_pool import http_pool, new_front
from programs.ports import LOOPBACK, free_tcp_port, free_udp_port


def serve(config: dict[str, Any], run_dir: Path) -> subprocess.CompletedProcess[str]:
    """`mfalb serve`, which is expected to end by itself."""
    path = run_dir / "mfalb.yaml"
    path.write_text(json.dumps({"admin": {"bind": f"{LOOPBACK}:{free_tcp_port()}"}} | config), "utf-8")
    command = [sys.executable, "-m", "mfalb", "serve", "-c", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def assert_refused(finished: subprocess.CompletedProcess[str], *words: str) -> None:
    assert finished.returncode == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    assert [word for word in words if word not in finished.stderr] == [], finished.stderr


def assert_free(port: int) -> None:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, port))


def taken_tcp() -> socket.socket:
    return socket.create_server((LOOPBACK, 0))


POOLS = {"web": http_pool("127.0.0.1:9")}


def test_a_second_listener_that_cannot_bind_takes_the_first_down_with_it(tmp_path: Path) -> None:
    first, second = new_front(), new_front()
    with socket.create_server((LOOPBACK, second.port)):
        listeners = [first.listener("first", [{"pool": "web"}]), second.listener("second", [{"pool": "web"}])]
        finished = serve({"listeners": listeners, "pools": POOLS}, tmp_path)
        assert_refused(finished, "listener second", f"{LOOPBACK}:{second.port}", "in use")
        assert_free(first.port)


def test_a_taken_udp_port_is_told_like_a_taken_tcp_port(tmp_path: Path) -> None:
    first, port = new_front(), free_udp_port()
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("a-secret-of-some-length", "utf-8")
    radius = {
        "name": "radius",
        "protocol": "radius",
        "bind": [f"{LOOPBACK}:{port}"],
        "clients": [{"name": "vpn", "network": "127.0.0.1", "secret_file": str(secret)}],
        "pool": "mfa",
    }
    backend = {"name": "b1", "address": "127.0.0.1:9", "secret_file": str(secret)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((LOOPBACK, port))
        listeners = [first.listener("first", [{"pool": "web"}]), radius]
        finished = serve({"listeners": listeners, "pools": POOLS | {"mfa": {"backends": [backend]}}}, tmp_path)
    assert_refused(finished, "listener radius", f"{LOOPBACK}:{port}", "in use")
    assert_free(first.port)


def test_a_taken_admin_port_is_told_and_nothing_is_served(tmp_path: Path) -> None:
    front = new_front()
    with taken_tcp() as taken:
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        config = {"listeners": [front.listener("web", [{"pool": "web"}])], "pools": POOLS, "admin": {"bind": address}}
        assert_refused(serve(config, tmp_path), "admin", address, "in use")
    assert_free(front.port)


def test_two_listeners_that_overlap_are_told_apart_before_anything_is_served(tmp_path: Path) -> None:
    """One on every address and one on a single one: both can be bound, only one of them can listen."""
    front = new_front()
    everywhere = front.listener("everywhere", [{"pool": "web"}]) | {"bind": [f"0.0.0.0:{front.port}"]}
    finished = serve({"listeners": [everywhere, front.listener("here", [{"pool": "web"}])], "pools": POOLS}, tmp_path)
    assert_refused(finished, str(front.port))
    assert_free(front.port)


def test_a_mistake_in_the_file_starts_nothing_and_names_its_place(tmp_path: Path) -> None:
    front = new_front()
    listener = front.listener("web", [{"pool": "wbe"}])
    finished = serve({"listeners": [listener], "pools": POOLS}, tmp_path)
    assert_refused(finished, "mfalb.yaml:1:", "wbe")
    assert_free(front.port)
