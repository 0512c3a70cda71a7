"""`mfalb reference`: one service of the estate from its settings file, and an operator's words to an MFA Server."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from mfalb.cli.services import SERVICES
from mfalb.errors import MfalbError
from mfalb.reference.config.files import SettingsFile
from mfalb.reference.config.mfa_server import MfaServerSettings
from mfalb.reference.service import run

_ELSEWHERE: Final = {"furnish": "furnish", "hash-password": "hash_password"}  # commands that are files of their own
_TIMEOUT_S: Final = 60.0  # a promotion waits for the old master's last changes
_OK: Final = 200

Config = Annotated[Path, typer.Option("--config", "-c", help="The service's settings, JSON or YAML.")]


def command_line(word: str = "") -> typer.Typer:
    """The commands behind `mfalb reference`; of those that need more than this file only the one that is typed."""
    app = typer.Typer(no_args_is_help=True, help="Run a service of the reference estate; promote an MFA Server.")
    own = {"status": status, "promote": promote, "rejoin": rejoin}
    for name in SERVICES:
        app.command(name, help=f"Run the reference service {name} until SIGTERM or Ctrl-C.")(_serving(name))
    for name, function in own.items():
        app.command(name)(function)
    for name, place in _ELSEWHERE.items():
        if name == word or word not in SERVICES | own | _ELSEWHERE:
            app.command(name)(getattr(importlib.import_module(f"mfalb.cli.{place}"), place))
    return app


def _serving(name: str) -> Callable[[Path], None]:
    def serve(config: Config) -> None:
        module = importlib.import_module(SERVICES[name])  # only this one's libraries are loaded
        try:
            run(config, module.start)
        except (OSError, ValueError, MfalbError) as error:
            _fail(f"{config}: {error}")
        except (KeyError, TypeError) as error:
            _fail(f"{config}: a setting is missing or makes no sense: {error}")

    return serve


def status(config: Config) -> None:
    """Print what an MFA Server is in its group, and how far behind its master."""
    print(json.dumps(_ask(_mfa_server(config), "GET", "/status.json"), indent=2))


def promote(config: Config) -> None:
    """Make an MFA Server the master of its group. The old one steps down, at once or when it comes back."""
    told = _ask(_mfa_server(config), "POST", "/promotion", {})
    print(f"{told['server']} is the master now (epoch {told['epoch']}).")


def rejoin(
    config: Config,
    *,
    discard_local: Annotated[
        bool, typer.Option("--discard-local", help="Give up the changes that the master never saw; a copy is kept.")
    ] = False,
) -> None:
    """Let a divergent MFA Server become a copy of its master again."""
    told = _ask(_mfa_server(config), "POST", "/rejoin", {"discard_local": discard_local})
    print(f"{told['server']} takes the master's data. Its own is kept in {told['copy']}")


def _mfa_server(config: Path) -> MfaServerSettings:
    try:
        settings = SettingsFile.read(config).mfa_server()
    except (OSError, ValueError, KeyError, TypeError) as error:
        _fail(f"{config}: no settings of an MFA Server: {error}")
    if settings.control is None or settings.control.port == 0:
        _fail(f"{config}: the server needs `control` with a port of its own, to be spoken to")
    return settings


def _ask(settings: MfaServerSettings, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the server's control endpoint says. Ends the program when it does not do what was asked."""
    endpoint = settings.control
    assert endpoint is not None  # noqa: S101 - _mfa_server has seen to it
    headers = {"Authorization": settings.account.authorization, "Content-Type": "application/json"}
    connection = HTTPConnection(endpoint.host, endpoint.port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        told = json.loads(response.read())
    except (OSError, HTTPException, ValueError) as error:
        _fail(f"{settings.name} does not answer at {endpoint.host}:{endpoint.port}: {error}")
    finally:
        connection.close()
    if response.status != _OK:
        _fail(str(told.get("error", response.status)))
    found: dict[str, Any] = told
    return found


def _fail(text: str) -> NoReturn:
    typer.echo(f"mfalb reference: {text}", err=True)
    raise typer.Exit(1)
