"""`mfalb serve`: run the balancer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mfalb.balancer.config import loader
from mfalb.balancer.config.models import LogFormat
from mfalb.balancer.supervisor.sockets import CannotBind
from mfalb.balancer.supervisor.supervisor import run
from mfalb.errors import ConfigError
from mfalb.telemetry.log import configure


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")],
    ready_fd: Annotated[
        int | None, typer.Option(help="Write a line to this file descriptor when every listener is up.")
    ] = None,
) -> None:
    """Run the balancer until SIGTERM or Ctrl-C. Exits 1, before anything is served, when it cannot start."""
    try:
        settings = loader.load(config)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    configure(settings.log.level, is_json=settings.log.format is LogFormat.JSON)
    try:
        run(settings, lambda: _tell(ready_fd), lambda: loader.load(config))
    except CannotBind as error:
        typer.echo(f"mfalb: {error}", err=True)
        raise typer.Exit(1) from None


def _tell(ready_fd: int | None) -> None:
    if ready_fd is not None:
        os.write(ready_fd, b"ready\n")
        os.close(ready_fd)
