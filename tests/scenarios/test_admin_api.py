"""Promise: the admin API does what its own description says, on a socket that only those may use who should."""

from __future__ import annotations

import http.client
import json
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer
from programs.http_pool import new_front
from programs.json_schema import faults
from programs.operator import socket_path
from programs.process import ProgramFailed

from mfalb.balancer.config.models import Admin
from mfalb.balancer.supervisor.admin_socket import bind_admin
from mfalb.balancer.supervisor.sockets import CannotBind

SECRET = "a-value-that-nobody-may-repeat"
BACKENDS = [{"name": "a", "address": "127.0.0.1:9"}, {"name": "b", "address": "127.0.0.1:10"}]


@dataclass(frozen=True, slots=True)
class Api:
    """A caller of the API: nothing of mfalb's own."""

    path: Path

    def ask(self, method: str, target: str, body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(30)
            connection.sock.connect(str(self.path))
            connection.request(method, target, None if body is None else json.dumps(body))
            response = connection.getresponse()
            assert response.headers["Content-Type"].startswith("application/json")
            return response.status, json.loads(response.read())
        finally:
            connection.close()


def configuration(path: Path, **admin: object) -> dict[str, Any]:
    return {
        "listeners": [new_front().listener("web", [{"pool": "web"}])],
        "pools": {"web": {"backends": BACKENDS}},
        "admin": {"socket": str(path)} | admin,
    }


@pytest.fixture
def admin_socket() -> Iterator[Path]:
    with socket_path() as path:
        yield path


@pytest.fixture
def running(tmp_path: Path, admin_socket: Path) -> Iterator[Balancer]:
    with Balancer(configuration(admin_socket), tmp_path / "mfalb", secrets=[SECRET]) as balancer:
        yield balancer


# One good request for each operation; the test below fails when an operation has none
GOOD: dict[str, tuple[str, str, Any]] = {
    "status": ("GET", "/v1/status", None),
    "set_admin_state": ("POST", "/v1/admin-state", {"backend": "a", "state": "drain", "deadline_s": 60}),
    "leaving": ("GET", "/v1/leaving?backend=web/a", None),
    "set_weight": ("POST", "/v1/weight", {"backend": "web/b", "weight": 3}),
    "pins": ("GET", "/v1/pins?pool=web", None),
    "why": ("POST", "/v1/why", {"kind": "source", "source": "192.0.2.1:80"}),
    "reload": ("POST", "/v1/reload", {"dry_run": True}),
    "upgrade": ("POST", "/v1/upgrade", {}),
    "openapi": ("GET", "/v1/openapi.json", None),
}
BAD: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/v1/statu", None, 404, "there is no such path; paths: /v1/status, "),
    ("DELETE", "/v1/weight", None, 405, "this path takes POST"),
    ("GET", "/v1/pins?pol=web", None, 400, "accepted: pool; did you mean 'pool'?"),
    ("GET", "/v1/status?x=1", None, 400, "this path takes none"),
    ("GET", "/v1/leaving", None, 400, "backend is missing: POOL/BACKEND"),
    ("GET", "/v1/leaving?backend=webb/a", None, 404, "there is no pool 'webb'; did you mean 'web'?"),
    ("POST", "/v1/weight", {"backend": "a", "weight": 257}, 400, "weight: Input should be less than or equal to 256"),
    ("POST", "/v1/weight", {"backend": "a"}, 400, "weight: Field required"),
    ("POST", "/v1/admin-state", {"backend": "a", "state": SECRET}, 400, "state: Input should be 'ready', 'drain' or"),
    ("POST", "/v1/admin-state", {"backend": "a", "state": "maint", "deadline_s": 5}, 409, "are for state drain"),
    ("POST", "/v1/why", {"kind": "state", "pool": "web", "state": SECRET, "client": "", "user": ""}, 400, "state"),
    ("POST", "/v1/why", {"kind": "cookie", "pool": "web", "value": SECRET}, 409, "has affinity none"),
    ("POST", "/v1/why", {"kind": "cookie", "pool": "web", "value": SECRET * 3000}, 413, "longer than 65536 bytes"),
]


def test_every_route_is_described_and_every_answer_is_as_described(running: Balancer, admin_socket: Path) -> None:
    api = Api(admin_socket)
    status, described = api.ask("GET", "/v1/openapi.json")
    assert (status, described["openapi"]) == (200, "3.1.0")
    operations = {
        one["operationId"]: (method.upper(), path, one)
        for path, methods in described["paths"].items()
        for method, one in methods.items()
    }
    assert operations.keys() == GOOD.keys()
    for name, (method, path, operation) in operations.items():
        assert (method, path) == (GOOD[name][0], GOOD[name][1].partition("?")[0])
        status, answer = api.ask(*GOOD[name])
        assert status == 200, (name, answer)
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert faults(answer, schema, described) == []
        if GOOD[name][2] is not None:
            asked = operation["requestBody"]["content"]["application/json"]["schema"]
            assert faults(GOOD[name][2], asked, described) == []
        if name == "upgrade":
            running.replaced_by(answer["pid"])
    assert running.backend("web", "a")["admin_state"] == "drain"
    assert running.backend("web", "b")["weight"] == 3


@pytest.mark.parametrize(("method", "target", "body", "status", "text"), BAD)
def test_what_cannot_be_done_is_said_with_what_is_accepted_and_repeats_no_value(  # noqa: PLR0913, PLR0917 - a row
    running: Balancer, admin_socket: Path, method: str, target: str, body: Any, status: int, text: str
) -> None:
    api = Api(admin_socket)
    got, answer = api.ask(method, target, body)
    assert got == status, answer
    assert text in answer["error"]
    assert SECRET not in answer["error"]
    described = api.ask("GET", "/v1/openapi.json")[1]
    assert faults(answer, {"$ref": "#/components/schemas/Failure"}, described) == []
    assert {one["admin_state"] for one in api.ask("GET", "/v1/status")[1]["backends"]} == {"ready"}


def test_the_socket_is_for_its_owner_and_group_and_is_gone_with_the_balancer(
    tmp_path: Path, admin_socket: Path
) -> None:
    with Balancer(configuration(admin_socket, socket_group="daemon"), tmp_path / "mfalb"):
        found = admin_socket.stat()
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert admin_socket.group() == "daemon"
    assert not admin_socket.exists()


def test_what_a_killed_balancer_left_is_replaced_and_a_served_socket_is_not(tmp_path: Path, admin_socket: Path) -> None:
    killed = Balancer(configuration(admin_socket), tmp_path / "killed")
    killed.start()
    killed.kill()
    assert admin_socket.exists()
    with Balancer(configuration(admin_socket), tmp_path / "mfalb"):
        assert Api(admin_socket).ask("GET", "/v1/status")[0] == 200
        second = Balancer(configuration(admin_socket), tmp_path / "second")
        with pytest.raises(ProgramFailed):
            second.start()
        assert "another balancer serves it" in second.log()
        assert Api(admin_socket).ask("GET", "/v1/status")[0] == 200


@pytest.mark.parametrize(
    ("admin", "text"),
    [
        ({"socket_group": "no-such-group"}, "there is no group no-such-group"),
        ({"socket": "/proc/x"}, "cannot bind /proc/x"),
    ],
)
def test_a_socket_that_cannot_be_had_keeps_the_balancer_from_starting(
    tmp_path: Path, admin_socket: Path, admin: dict[str, object], text: str
) -> None:
    balancer = Balancer(configuration(admin_socket, **admin), tmp_path / "mfalb")
    with pytest.raises(ProgramFailed):
        balancer.start()
    assert text in balancer.log()
    assert not admin_socket.exists()


def test_the_tcp_port_changes_nothing(running: Balancer) -> None:
    for path in ("/v1/status", "/v1/openapi.json"):
        with pytest.raises(http.client.HTTPException, match="404"):
            running.get(path)


def test_by_default_there_is_a_socket_where_its_folder_is_and_one_that_is_served_is_only_warned_of(
    admin_socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert bind_admin(Admin(), admin_socket.parent / "no-such-folder" / "admin.sock") is None
    bound = bind_admin(Admin(), admin_socket)
    assert bound is not None
    path, sock = bound
    with sock:
        assert path == admin_socket
        assert stat.S_IMODE(admin_socket.stat().st_mode) == 0o660
        sock.listen()
        assert bind_admin(Admin(), admin_socket) is None
        assert "no admin socket" in caplog.text
    admin_socket.unlink()
    admin_socket.write_text("somebody's notes")
    with pytest.raises(CannotBind, match="is no socket"):
        bind_admin(Admin(socket=admin_socket))
    assert admin_socket.read_text() == "somebody's notes"
