"""`mfalb serve`: run the balancer."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mfalb.balancer.config import loader
from mfalb.balancer.config.models import LogFormat
from mfalb.balancer.supervisor.formers import refuse
from mfalb.balancer.supervisor.run import run
from mfalb.balancer.supervisor.sockets import CannotBind
from mfalb.errors import ConfigError
from mfalb.telemetry.log import configure


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")],
    ready_fd: Annotated[
        int | None, typer.Option(help="Write a line to this file descriptor when every listener is up.")
    ] = None,
    takeover: Annotated[
        int | None, typer.Option(hidden=True, help="A channel to a running balancer that `mfalb upgrade` replaces.")
    ] = None,
) -> None:
    """Run the balancer until SIGTERM or Ctrl-C. Exits 1, before anything is served, when it cannot start.

    SIGHUP takes up the configuration file anew, SIGUSR2 the code (`mfalb reload`, `mfalb upgrade`).
    """
    channel = None if takeover is None else _channel(takeover)
    try:
        settings = loader.load(config)
    except ConfigError as error:
        _give_up(str(error), str(error), channel)
    configure(settings.log.level, is_json=settings.log.format is LogFormat.JSON)
    try:
        run(settings, lambda: _tell(ready_fd), lambda: loader.load(config), channel)
    except CannotBind as error:
        _give_up(f"mfalb: {error}", str(error), channel)


def _channel(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise typer.BadParameter(
            f"--takeover {descriptor}: {error.strerror}; it is for `mfalb upgrade` alone"
        ) from None


def _give_up(text: str, reason: str, channel: socket.socket | None) -> NoReturn:
    typer.echo(text, err=True)
    if channel is not None:
        refuse(channel, reason)
    raise typer.Exit(1) from None


def _tell(ready_fd: int | None) -> None:
    if ready_fd is not None:
        os.write(ready_fd, b"ready\n")
        os.close(ready_fd)
