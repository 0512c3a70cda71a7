"""Commands about the configuration file: check, schema, keygen."""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
from pathlib import Path
from typing import Annotated, Final

import typer

from mfalb.balancer.config.loader import check as check_file
from mfalb.balancer.config.models import Config
from mfalb.balancer.config.schema import json_schema
from mfalb.balancer.config.secret_sources import COOKIE_KEY_BYTES
from mfalb.cli.flows import FlowsForm, print_flows
from mfalb.errors import Problem

_FILES_HELP: Final = "The configuration file; with --flows any number of them: [HOST=][SERVICE:]FILE."


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=_FILES_HELP)],
    *,
    is_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
    wants_flows: Annotated[
        bool, typer.Option("--flows", help="Print who opens connections to whom: the firewall matrix.")
    ] = False,
    hosts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --flows: who is where, in the form of /etc/hosts.")
    ] = None,
    form: Annotated[
        FlowsForm, typer.Option("--format", help="With --flows: a table, or rules for nft -f.")
    ] = FlowsForm.TABLE,
) -> None:
    """Check a configuration file: every problem with its line and column. Exits 1 when it has errors.

    With --flows, for any number of files of balancers and reference services, print the connections that have to be
    let through between their hosts instead. Secrets and certificates need not be there for it.
    """
    if wants_flows:
        print_flows(files, hosts, FlowsForm.JSON if is_json else form)
        return
    if len(files) != 1 or hosts is not None or form is not FlowsForm.TABLE:
        raise typer.BadParameter("one file is checked at a time; several, --hosts and --format go with --flows")
    _check_one(Path(files[0]), is_json=is_json)


def _check_one(file: Path, *, is_json: bool) -> None:
    config, problems = check_file(file)
    if is_json:
        print(json.dumps(_report(file, config, problems)))
    else:
        for problem in problems:
            print(problem)
        print(f"{file}: {_summary(config, problems)}")
    if config is None:
        raise typer.Exit(1)


def schema() -> None:
    """Print the JSON schema of the configuration file, for editors."""
    print(json.dumps(json_schema(), indent=2))


def keygen() -> None:
    """Print a fresh key for pins.cookie_keys_file. Put it on top of the file; the first key encrypts."""
    print(base64.b64encode(secrets.token_bytes(COOKIE_KEY_BYTES)).decode())


def _report(file: Path, config: Config | None, problems: list[Problem]) -> dict[str, object]:
    return {
        "file": str(file),
        "ok": config is not None,
        "summary": _summary(config, problems),
        "problems": [dataclasses.asdict(problem) for problem in problems],
    }


def _summary(config: Config | None, problems: list[Problem]) -> str:
    if config is not None:
        return f"ok ({_count(len(config.listeners), 'listener')}, {_count(len(config.pools), 'pool')})"
    errors = sum(problem.is_error for problem in problems)
    warnings = len(problems) - errors
    return _count(errors, "error") + (f", {_count(warnings, 'warning')}" if warnings else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
