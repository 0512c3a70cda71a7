"""`mfalb check --flows`: which connections a firewall has to let through, from the settings of all services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, NoReturn

import typer

from mfalb.balancer.config.flows import traffic as balancer_traffic
from mfalb.balancer.config.loader import check_without_files
from mfalb.cli.admin_client import print_table
from mfalb.flows.matrix import matrix
from mfalb.flows.names import Names
from mfalb.flows.nftables import ruleset
from mfalb.flows.values import Flow, Service, Traffic
from mfalb.reference.config.flows import KINDS, SettingsLines

BALANCER: Final = "balancer"
_SERVICES: Final = (BALANCER, *KINDS)
_TITLES: Final = ("FROM", "TO", "PORT", "FOR", "SETTING")
_NOTE: Final = "Not from these files: VRRP between nodes (keepalived's), name servers, clocks, your own way in."


class FlowsForm(Enum):
    """How the matrix is printed."""

    TABLE = "table"
    NFTABLES = "nftables"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class FileArgument:
    """A file as it is typed: `[HOST=][SERVICE:]FILE`."""

    path: Path
    host: str | None
    kind: str | None

    @classmethod
    def parse(cls, text: str) -> FileArgument:
        """A part in front that is no host or service belongs to the file's name."""
        host, equals, rest = text.partition("=")
        if not equals or "/" in host:
            host, rest = "", text
        kind, colon, path = rest.partition(":")
        if not colon or kind not in _SERVICES:
            kind, path = "", rest
        return cls(Path(path), host or None, kind or None)


def print_flows(files: list[str], hosts: Path | None, form: FlowsForm) -> None:
    """Print the matrix of all files; exits 1 when one of them cannot be used."""
    names = Names() if hosts is None else _names(hosts)
    services = [_service(FileArgument.parse(text)) for text in files]
    flows = matrix(services, names)
    match form:
        case FlowsForm.JSON:
            print(json.dumps({"flows": [_as_object(flow) for flow in flows]}, indent=2))
        case FlowsForm.NFTABLES:
            try:
                print(ruleset(flows), end="")
            except ValueError as error:
                _fail(str(error))
        case FlowsForm.TABLE:
            print_table([_TITLES, *(row for flow in flows for row in _rows(flow, names))])
            print(_NOTE)


# ---------------------------------------------------------------------------------------- reading


def _names(path: Path) -> Names:
    try:
        return Names.read(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        _fail(f"{path}: {error}")


def _service(argument: FileArgument) -> Service:
    runs_on = () if argument.host is None else (argument.host,)
    return Service(str(argument.path), _traffic(argument.path, argument.kind), runs_on)


def _traffic(path: Path, kind: str | None) -> Traffic:
    """Of the service that was typed, or that the file is named after, or that only it has such settings."""
    if kind is None and path.stem in _SERVICES:
        kind = path.stem
    if kind == BALANCER:
        return _balancer(path)
    try:
        lines = SettingsLines(path)
        kind = kind or _kind_told_by(lines)
        return _balancer(path) if kind == BALANCER else lines.traffic(kind)
    except (OSError, ValueError) as error:
        _fail(f"{path}: {error}")


def _kind_told_by(lines: SettingsLines) -> str:
    kind = BALANCER if "listeners" in lines.tables else lines.kind()
    if kind is None:
        raise ValueError(f"it does not tell which service it is for; write SERVICE:FILE with {', '.join(_SERVICES)}")
    return kind


def _balancer(path: Path) -> Traffic:
    config, document, problems = check_without_files(path)
    if config is None or document is None:
        for problem in problems:
            typer.echo(problem, err=True)
        raise typer.Exit(1)
    return balancer_traffic(config, document)


def _fail(text: str) -> NoReturn:
    typer.echo(f"mfalb check: {text}", err=True)
    raise typer.Exit(1)


# --------------------------------------------------------------------------------------- printing


def _as_object(flow: Flow) -> dict[str, object]:
    places = [place.rpartition(":") for place in flow.places]
    return {
        "sources": list(flow.sources) or ["any"],
        "destination": flow.destination,
        "transport": flow.transport.value,
        "port": flow.port,
        "purposes": list(flow.purposes),
        "settings": [{"file": file, "line": int(line)} for file, _, line in places],
    }


def _rows(flow: Flow, names: Names) -> Iterator[tuple[str, ...]]:
    """A line for the flow, and more lines for what it has more than one of."""
    sources = [_shown(source, names) for source in flow.sources] or ["any"]
    destination, port = _shown(flow.destination, names), f"{flow.transport.value} {flow.port}"
    for number in range(max(len(sources), len(flow.purposes), len(flow.places))):
        yield (
            _nth(sources, number),
            *((destination, port) if number == 0 else ("", "")),
            _nth(flow.purposes, number),
            _nth(flow.places, number),
        )


def _nth(texts: tuple[str, ...] | list[str], number: int) -> str:
    return texts[number] if number < len(texts) else ""


def _shown(host: str, names: Names) -> str:
    return f"{host} {names.labels[host]}" if host in names.labels else host
