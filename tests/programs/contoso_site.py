"""The deployment of conf/contoso, each host a network namespace behind a router; nobody but the router is between them.

    with ContosoSite(run_dir) as site:
        site.network.load(rules)
        site.start()

Settings are those in conf/contoso, but that checks and replication ask more often. Names come from conf/contoso/hosts.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from unittest import mock
from xml.sax.saxutils import escape

from mfalb.cli.deployment import BALANCER, ServiceFile, read_deployment
from mfalb.cli.deployment_files import CLIENTS, furnish
from mfalb.wire.soap import read_envelope_untrusted
from programs.balancer import Metrics
from programs.host_network import HostNetwork, address_of, addresses_in
from programs.process import Launch, Logged, Program, wait_until

CONF: Final = Path(__file__).parents[2] / "conf" / "contoso"
BROWSER: Final = "browser"
BALANCERS: Final = ("balancer-inside", "balancer-perimeter")
_ADMIN: Final = "http://127.0.0.1:9300"
_CONTROL: Final = "http://127.0.0.1:9443"
_PHONES: Final = "http://127.0.0.1:8080"
_QUICK: Final = {"interval": "400ms", "fast_interval": "200ms", "down_interval": "400ms", "timeout": "1s"}
_START_S: Final = 60.0


class ContosoSite:
    """All hosts, and after `start` all services; a context manager."""

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / "contoso"
        self._hosts = (CONF / "hosts").read_text("utf-8")
        addresses = {**addresses_in(self._hosts), BROWSER: ("198.51.100.7",)}
        self.network: Final = HostNetwork(addresses, run_dir, f"127.0.0.1 localhost\n{self._hosts}")
        self.ca: Final = self._folder / CLIENTS / "tls" / "contoso-ca.pem"
        self.device: Final = self._folder / CLIENTS / "tls" / "device"  # .crt and .key
        self.programs: Final[list[Program]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        shutil.copytree(CONF, self._folder)
        deployment = read_deployment(self._folder)
        furnish(self._folder, deployment)
        for service in deployment.services:
            path = self._folder / service.place
            path.write_text(json.dumps(_quickened(service)), "utf-8")  # JSON is YAML
        self._services = {service.title: service for service in deployment.services}
        self._stack.enter_context(self.network)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack, ThreadPoolExecutor(len(self._services)) as threads:
            list(threads.map(Program.stop, self.programs))
        for program in self.programs:
            if kind is None:
                assert "Traceback" not in program.log(), f"{program.run_dir.name}:\n{program.tail()}"

    def start(self) -> None:
        """The cloud, the master, then all others; returns when every server is up in both balancers."""
        first = ("cloud/cloud", "mfa1/mfa-server")
        for title in first:
            self._start(self._services[title])
        rest = [service for title, service in self._services.items() if title not in first]
        with ThreadPoolExecutor(len(rest)) as threads:
            list(threads.map(self._start, rest))
        wait_until(self.is_level, "both MFA Servers to have the same data", deadline_s=_START_S)
        for balancer in BALANCERS:
            wait_until(lambda host=balancer: self._are_all_up(host), f"all up in {balancer}", deadline_s=_START_S)  # type: ignore[misc]

    def _start(self, service: ServiceFile) -> None:
        host, file = service.host, service.place.name
        launch = Launch(wrapper=self.network.wrapper(host), ready_deadline_s=_START_S)
        words = ["serve"] if service.kind == BALANCER else ["reference", service.kind]
        argv = [sys.executable, "-m", "mfalb", *words, "-c", file]
        ready = (lambda _: self._is_serving(host)) if service.kind == BALANCER else Logged("ready {")
        program = Program(service.kind, argv, self._folder / host, ready=ready, launch=launch)
        program.start()
        self.programs.append(program)

    def _is_serving(self, balancer: str) -> bool:
        return bool(self.curl(balancer, f"{_ADMIN}/metrics"))

    # ------------------------------------------------------------------------------ what is seen of it

    def curl(self, host: str, url: str, *options: str, limit_s: float = 10.0) -> str:
        """The body of a successful answer; nothing when there was none within `limit_s`."""
        name = url.split("/")[2].partition(":")[0]
        port = url.split("/")[2].partition(":")[2] or "443"
        if not any(option == "--resolve" for option in options) and not name.startswith("127."):
            options = (*options, *self.resolved(name, port, address_of(self._hosts, name)))
        command = ["curl", "-sS", "--fail", "--max-time", str(limit_s), "--cacert", str(self.ca), *options, url]
        return self.network.at(host, _output, command)

    @staticmethod
    def resolved(name: str, port: str, address: str) -> tuple[str, str]:
        """Options for `curl`: a name is at this address."""
        return ("--resolve", f"{name}:{port}:{address}")

    @contextmanager
    def names(self) -> Iterator[None]:
        """Within it this process finds the deployment's names."""
        ask = socket.getaddrinfo

        def told(host: str, *rest: Any, **more: Any) -> Any:
            with suppress(StopIteration):
                host = address_of(self._hosts, host)
            return ask(host, *rest, **more)

        with mock.patch.object(socket, "getaddrinfo", told):
            yield

    def call(self, url: str, server: str, operation: str, *, limit_s: float = 10.0, **texts: str) -> dict[str, str]:
        """What one server answers to a SOAP operation, asked from its balancer's host; {} when none comes in time."""
        name, _, port = url.split("/")[2].partition(":")
        balancer = BALANCERS[server.startswith("up-")]
        account = self.tables("up-mas1/user-portal")["sdk"]["account"]
        inside = "".join(f"<{key}>{escape(text)}</{key}>" for key, text in texts.items())
        answer = self.curl(
            balancer,
            url,
            *self.resolved(name, port or "443", address_of(self._hosts, server)),
            *("--user", f"{account['name']}:{account['password']}", "--header", "Content-Type: text/xml"),
            *("--data", f"<Envelope><Body><{operation}>{inside}</{operation}></Body></Envelope>"),
            limit_s=limit_s,
        )
        return dict(read_envelope_untrusted(answer.encode()).texts) if answer else {}

    def secret(self, *place: str) -> str:
        return self._folder.joinpath(*place).read_text("utf-8").strip()

    def tables(self, title: str) -> dict[str, Any]:
        """A service's settings."""
        return self._services[title].tables

    def is_up(self, balancer: str, pool: str, backend: str) -> bool:
        metrics = Metrics.parse(self.curl(balancer, f"{_ADMIN}/metrics"))
        return metrics.total("mfalb_backend_up", pool=pool, backend=backend) == 1

    def _are_all_up(self, balancer: str) -> bool:
        metrics = Metrics.parse(self.curl(balancer, f"{_ADMIN}/metrics"))
        return all(value == 1 for name, _, value in metrics.samples if name == "mfalb_backend_up")

    def codes(self, user: str) -> list[str]:
        """The codes that were texted to a user, newest first; a phone needs no network."""
        texts = json.loads(self.curl("cloud", f"{_PHONES}/outbox.json"))
        return [text["otp"] for text in texts if text["user"] == user]

    def status(self, server: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.curl(server, f"{_CONTROL}/status.json?digest=1"))
        return told

    def is_level(self) -> bool:
        """Whether one MFA Server is master, and the other has the same data."""
        one, other = self.status("mfa1"), self.status("mfa2")
        has_roles = {one["role"], other["role"]} == {"master", "slave"}
        return (
            has_roles and one["digest"] == other["digest"] and one["is_master_reached"] and other["is_master_reached"]
        )

    def promote(self, server: str) -> None:
        """`mfalb reference promote` at the server."""
        command = [sys.executable, "-m", "mfalb", "reference", "promote", "-c", "mfa-server.yaml"]
        done = self.network.at(
            server, subprocess.run, command, cwd=self._folder / server, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def _quickened(service: ServiceFile) -> dict[str, Any]:
    tables = service.tables
    for pool in tables.get("pools", {}).values():
        check = pool["health_check"]
        quick: dict[str, Any] = dict(_QUICK)
        if check["type"] == "radius":
            quick = {"interval": "500ms", "fast": True}
        pool["health_check"] = {**check, **quick, "rise": 1, "fall": 2}
        pool.pop("passive_check", None)  # or a server that had no way for a moment would be out for half a minute
    if "group" in tables:
        tables["group"]["poll_s"] = 0.3
    if "answer_delay_s" in tables:
        tables["answer_delay_s"] = 0.05
    return tables


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
