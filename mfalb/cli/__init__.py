"""What can be typed after `mfalb`: one file a command group.

A command is a plain function in its group's file; it becomes a command by a line in the list below, and nowhere else.
Only the file of the command that is typed is loaded: of what `serve` and `demo` need, `status` needs next to nothing,
and with all of it it took most of a second of CPU time before it had asked anything.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer

import mfalb

# What is typed, and the function that it is: its file beside this one, and its name there
_COMMANDS: Final = {
    "serve": "serve.serve",
    "check": "check.check",
    "schema": "check.schema",
    "keygen": "check.keygen",
    "demo": "demo.demo",
    "status": "operate.status",
    "drain": "drain.drain",
    "ready": "operate.ready",
    "maint": "operate.maint",
    "weight": "operate.weight",
    "reload": "operate.reload",
    "upgrade": "upgrade.upgrade",
    "pins": "operate.pins",
    "why": "why.why",
}
_REFERENCE: Final = "reference"


def command_line(typed: Sequence[str] = ()) -> typer.Typer:
    """All commands; only the one that is typed where it is one."""
    app = typer.Typer(
        name="mfalb",
        help="Load balancer for MFA servers: HTTPS and RADIUS, sign-ins stay on the server that began them.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # its tracebacks print local variables, which may hold secrets
    )
    app.callback()(_options)
    word, *more = [one for one in typed if not one.startswith("-")] or [""]
    for name, place in _COMMANDS.items():
        if name == word or not _is_command(word):
            app.command(name)(_function(place))
    if word == _REFERENCE or not _is_command(word):
        app.add_typer(_function("reference.command_line")(more[0] if more else ""), name=_REFERENCE)
    return app


def _is_command(word: str) -> bool:
    return word in _COMMANDS or word == _REFERENCE


def _function(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(f"mfalb.cli.{module}"), name)
    return function


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"mfalb {mfalb.__version__}")
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command; --version has done its work in its callback."""


def main() -> None:
    """The console entry point; exits 0 when all is well, 1 on failure, 2 on wrong usage, 3: no balancer answers."""
    gc.disable()  # nothing that is loaded is garbage; looking for some took a fifth of the time
    app = command_line(sys.argv[1:])
    gc.enable()
    app()
