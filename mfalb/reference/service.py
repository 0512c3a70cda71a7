"""What every reference service does: serve until told to stop, as a process of its own.

A service prints one line, `ready {"name": port, ...}`, when it listens, and ends on SIGTERM, on Ctrl-C, and when a
pipe that is its standard input closes: a service whose starter has died must not stay behind.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import stat
import sys
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from io import UnsupportedOperation
from pathlib import Path
from typing import TextIO

from aiohttp import web

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.config.values import Endpoint
from mfalb.reference.tls import server_context
from mfalb.telemetry.log import configure

Start = Callable[[SettingsFile, AsyncExitStack], Awaitable[Mapping[str, int]]]

_log = logging.getLogger("mfalb.reference.service")


def main(description: str, start: Start) -> None:
    """The command line of a service: `--settings FILE`. `start` returns the ports that it listens on, by name."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--settings", type=Path, required=True, help="the service's settings (JSON)")
    run(parser.parse_args().settings, start)


def run(settings: Path, start: Start) -> None:
    """Serve until told to stop. Raises OSError, and ValueError, KeyError or TypeError for settings that are none."""
    configure("info", is_json=False)
    asyncio.run(_run(SettingsFile.read(settings), start))


async def _run(settings: SettingsFile, start: Start) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if _is_piped(sys.stdin):
        loop.add_reader(sys.stdin.fileno(), _stop_at_end, stop)
    async with AsyncExitStack() as stack:
        ports = await start(settings, stack)
        print("ready", json.dumps(dict(ports)), flush=True)  # noqa: T201 - the starter waits for this line
        await stop.wait()
        _log.info("stopping")


def _is_piped(stream: TextIO | None) -> bool:
    """Whether a starter holds the other end. By hand or as a unit there is a terminal, /dev/null or nothing at all."""
    try:
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except UnsupportedOperation:  # no file of the system's, as where a program calls this one in its own process
        return False


def _stop_at_end(stop: asyncio.Event) -> None:
    """Standard input has something: its end, when the starter is gone; anything else is thrown away."""
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


Site = tuple[web.Application, Endpoint | None]


async def serve_sites(stack: AsyncExitStack, **sites: Site) -> dict[str, int]:
    """Serve each application at its endpoint as `serve_http` does; ports by name. One without an endpoint is off."""
    return {
        name: await serve_http(application, endpoint, stack)
        for name, (application, endpoint) in sites.items()
        if endpoint is not None
    }


async def serve_http(
    application: web.Application, endpoint: Endpoint, stack: AsyncExitStack, callers_ca: str | None = None
) -> int:
    """Serve an aiohttp application until the stack closes; returns the port.

    With `callers_ca` (PEM) clients may show a certificate, and one that they show is verified. Raises ValueError
    for files that make no TLS, and OSError for an address that cannot be had.
    """
    context = server_context(endpoint, callers_ca)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, endpoint.host, endpoint.port, ssl_context=context).start()
    port: int = runner.addresses[0][1]
    return port
