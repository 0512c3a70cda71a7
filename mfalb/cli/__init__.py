"""What can be typed after `mfalb`: one file a command group.

A command is a plain function in its group's file; it becomes a command by a line in the list below, and nowhere else.
"""

from __future__ import annotations

from typing import Annotated

import typer

import mfalb
from mfalb.cli import check, demo, drain, furnish, hash_password, operate, reference, serve, upgrade, why

app = typer.Typer(
    name="mfalb",
    help="Load balancer for MFA servers: HTTPS and RADIUS, sign-ins stay on the server that began them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables, which may hold secrets
)

app.command("serve")(serve.serve)
app.command("check")(check.check)
app.command("schema")(check.schema)
app.command("keygen")(check.keygen)
app.command("demo")(demo.demo)
app.command("status")(operate.status)
app.command("drain")(drain.drain)
app.command("ready")(operate.ready)
app.command("maint")(operate.maint)
app.command("weight")(operate.weight)
app.command("reload")(operate.reload)
app.command("upgrade")(upgrade.upgrade)
app.command("pins")(operate.pins)
app.command("why")(why.why)
reference.app.command("furnish")(furnish.furnish)
reference.app.command("hash-password")(hash_password.hash_password)
app.add_typer(reference.app, name="reference")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"mfalb {mfalb.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command; --version has done its work in its callback."""


def main() -> None:
    """The console entry point; exits 0 when all is well, 1 on failure, 2 on wrong usage, 3: no balancer answers."""
    app()
