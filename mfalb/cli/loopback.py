"""A deployment on one machine: the same files, with each address:port that they name turned into a port on loopback.

Names become `localhost`, which every machine knows, networks become 127.0.0.0/8, and values that begin with `made-up-`
become random ones. Nothing else is changed but what a demonstration cannot wait for, or cannot have twice on one host.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mfalb.cli.deployment import BALANCER, Deployment, ServiceFile, values_of
from mfalb.cli.deployment_files import furnish
from mfalb.cli.free_ports import LOOPBACK, free_ports

HOST: Final = "localhost"
_HTTPS: Final = 443
_NETWORK: Final = "127.0.0.0/8"
_NETWORK_KEYS: Final = ("network", "client_network")
_NAME_KEYS: Final = ("host", "sni")
_MADE_UP: Final = "made-up-"


class Moved:
    """Where everything of a deployment is on this machine."""

    def __init__(self, deployment: Deployment) -> None:
        """Raises NoFreePort."""
        self._addresses = deployment.addresses
        places = sorted({place for service in deployment.services for place in _places(service)})
        balancers = deployment.of_kind(BALANCER)
        ports = free_ports(len(places) + len(balancers))
        self._ports = dict(zip(places, ports, strict=False))
        self.admin_ports: Final = dict(zip((one.host for one in balancers), ports[len(places) :], strict=True))

    def port(self, address: str, port: int) -> int:
        """Where an address and port are now. Loopback is each host's own: there the host's name is its address."""
        return self._ports[address, port]

    def url(self, name: str, path: str = "") -> str:
        """Where a host name is reached by https now."""
        return f"https://{HOST}:{self.port(self._addresses[name], _HTTPS)}{path}"

    def peer(self, text: str) -> str:
        """`host:port` as it is now, for peers that look at certificates."""
        name, _, port = text.rpartition(":")
        return f"{HOST}:{self.port(self._addresses[name], int(port))}"

    def bound(self, text: str) -> str:
        """`address:port` as it is now."""
        address, _, port = text.rpartition(":")
        return f"{LOOPBACK}:{self.port(address, int(port))}"


def _places(service: ServiceFile) -> list[tuple[str, int]]:
    """The addresses and ports that a service listens on."""
    found = []
    for key, value in values_of(service.tables):
        if key == "bind":
            address, _, port = str(value).rpartition(":")
            found.append((address, int(port)))
        elif isinstance(value, dict) and "port" in value:
            found.append(_place(service.host, value))
    return found


def _place(host: str, endpoint: dict[str, Any]) -> tuple[str, int]:
    address = endpoint.get("host", LOOPBACK)
    return host if address == LOOPBACK else address, endpoint["port"]


@dataclass(frozen=True, slots=True)
class _Mover:
    """Changes one service's tables."""

    moved: Moved
    service: ServiceFile
    fresh: dict[str, str]  # random values by the made-up ones that they stand for, in the whole deployment

    def value(self, key: str, value: Any) -> Any:
        """A setting as it is now."""
        if isinstance(value, dict):
            return self.table(value)
        if isinstance(value, list):
            return [self.value(key, item) for item in value]
        return self.text(key, value) if isinstance(value, str) else value

    def table(self, table: dict[str, Any]) -> dict[str, Any]:
        changed = {key: self.value(key, value) for key, value in table.items()}
        if "port" in table:
            changed |= {"host": LOOPBACK, "port": self.moved.port(*_place(self.service.host, table))}
        return changed

    def text(self, key: str, text: str) -> str:
        if text.startswith(_MADE_UP):
            return self.fresh.setdefault(text, secrets.token_hex(8))
        if key in _NETWORK_KEYS:
            return _NETWORK
        if key in ("bind", "address"):
            return self.moved.bound(text)
        if key == "rpc_address":
            return self.moved.peer(text)
        if text.startswith("https://"):
            parts = urlsplit(text)
            return self.moved.url(parts.hostname or "", parts.path)
        return text


def on_loopback(deployment: Deployment) -> tuple[Moved, Deployment]:
    """The deployment as it can run on this machine. Raises NoFreePort."""
    moved, fresh = Moved(deployment), dict[str, str]()
    services = []
    for service in deployment.services:
        tables = _Mover(moved, service, fresh).table(service.tables)
        if service.kind == BALANCER:
            tables = _balancer(service, tables, moved)
        elif service.kind == "cloud":
            tables["answering"] = "manual"  # there is somebody to pick up the phones
        services.append(replace(service, tables=tables))
    return moved, replace(deployment, services=tuple(services))


def _balancer(service: ServiceFile, tables: dict[str, Any], moved: Moved) -> dict[str, Any]:
    """A balancer beside others on one host, which hears of a server's end as soon as whoever is watching does."""
    for listener in tables["listeners"]:
        if "routes" in listener:
            listener["routes"] = _routes(listener["routes"])
    for pool in tables["pools"].values():
        check = pool["health_check"]
        check |= {"interval": "2s", "fast": True} if check["type"] == "radius" else {"interval": "2s"}
    admin = {"bind": f"{LOOPBACK}:{moved.admin_ports[service.host]}", "socket": "admin.sock"}
    return {"workers": 1, **tables, "admin": admin}  # of several workers each has turns of its own


def _routes(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Routes by the one name that there is; those that would be the same are one."""
    found: list[dict[str, Any]] = []
    for route in routes:
        renamed = {key: HOST if key in _NAME_KEYS else value for key, value in route.items()}
        if renamed not in found:
            found.append(renamed)
    return found


def write(folder: Path, deployment: Deployment) -> None:
    """Write a deployment's files, and all that they name, for this machine's eyes only. JSON is YAML."""
    for service in deployment.services:
        path = folder / service.place
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(service.tables, indent=2) + "\n", "utf-8")
    furnish(folder, deployment, (HOST, LOOPBACK))


def users(deployment: Deployment) -> Mapping[str, Mapping[str, Any]]:
    """The embedded directory, by name."""
    server = deployment.of_kind("mfa-server")[0]
    return {user["name"]: user for user in server.tables["users"]}
