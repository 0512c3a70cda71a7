"""A deployment as a folder: a folder for each host in it, and in that a file for each service that runs there.

A file is called after what is typed to run it: `mfa1/mfa-server.yaml` is for `mfalb reference mfa-server`, and
`balancer.yaml` for `mfalb serve`. The file `hosts` says who is where, in the form of /etc/hosts. Paths in a file count
from its own folder, where the service is started.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from mfalb.cli.services import SERVICES

CONTOSO: Final = Path(__file__).parent / "contoso"  # the same folder as conf/contoso: there is one description only
BALANCER: Final = "balancer"


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """One service's settings: `kind` is `balancer` or what follows `mfalb reference`."""

    host: str
    kind: str
    tables: dict[str, Any] = field(repr=False)

    @property
    def title(self) -> str:
        """How it is called among all: `up-mas1/user-portal`."""
        return f"{self.host}/{self.kind}"

    @property
    def place(self) -> Path:
        """Its file within the deployment's folder."""
        return Path(self.host, f"{self.kind}.yaml")


@dataclass(frozen=True, slots=True)
class Deployment:
    """All services, and the addresses that names stand for."""

    addresses: Mapping[str, str]
    services: tuple[ServiceFile, ...]

    def of_kind(self, kind: str) -> tuple[ServiceFile, ...]:
        return tuple(service for service in self.services if service.kind == kind)


def read_deployment(folder: Path) -> Deployment:
    """What a folder describes. Raises OSError, and ValueError for a file that no service is named after."""
    services = []
    for path in sorted(folder.glob("*/*.yaml")):
        if path.stem != BALANCER and path.stem not in SERVICES:
            raise ValueError(f"{path}: there is no service {path.stem}; there are {BALANCER}, {', '.join(SERVICES)}")
        tables = YAML(typ="safe").load(path.read_text("utf-8"))
        services.append(ServiceFile(path.parent.name, path.stem, tables))
    return Deployment(_read_hosts(folder / "hosts"), tuple(services))


def _read_hosts(path: Path) -> dict[str, str]:
    addresses: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            addresses.setdefault(name, address)
    return addresses


def values_of(tables: object) -> Iterator[tuple[str, object]]:
    """Every key with its value, at any depth; the items of a list have the list's key."""
    if isinstance(tables, dict):
        for key, value in tables.items():
            for item in value if isinstance(value, list) else [value]:
                yield key, item
                yield from values_of(item)
