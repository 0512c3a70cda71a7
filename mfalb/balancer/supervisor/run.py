"""The balancer's process: what is done before there is an event loop, and after it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import uvloop

from mfalb.balancer.config.models import Config
from mfalb.balancer.supervisor.activation import given_places
from mfalb.balancer.supervisor.hand_over import CannotUpgrade
from mfalb.balancer.supervisor.legacy import Legacy
from mfalb.balancer.supervisor.nursery import start_nursery
from mfalb.balancer.supervisor.sockets import CannotBind, bind_all
from mfalb.balancer.supervisor.supervisor import Supervisor
from mfalb.balancer.supervisor.worker_process import run_worker
from mfalb.net.descriptors import allow_many_descriptors
from mfalb.telemetry import unraisable
from mfalb.telemetry.log_file import LogFile


def run(
    config: Config, on_ready: Callable[[], None], load: Callable[[], Config], takeover: socket.socket | None = None
) -> None:
    """Serve until SIGTERM or SIGINT. Raises CannotBind before anything was served.

    `load` reads the configuration anew, for a reload; it may raise ConfigError. `takeover` is a channel to a balancer
    that serves, and lets us do so in its place; it stays the caller's.
    """
    allow_many_descriptors()
    unraisable.install()
    _try_access_file(config)
    # Before anything is bound, so that no copies of sockets are left over there
    nursery, pid = start_nursery(run_worker, but=() if takeover is None else (takeover.fileno(),))
    try:
        legacy = None if takeover is None else Legacy.received(takeover.dup(), config)
        sockets = bind_all(config, given_places(config) if legacy is None else legacy.offer.places)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Supervisor(config, sockets, nursery, load, legacy).serve(on_ready))
    except CannotUpgrade as error:
        raise CannotBind(str(error)) from error
    finally:
        nursery.close()
        os.waitpid(pid, 0)


def _try_access_file(config: Config) -> None:
    """Whether it can be written, before anything is started: each worker opens it by itself."""
    path = config.log.access_file
    if path is None or not config.log.access:
        return
    try:
        LogFile(path).close()
    except OSError as error:
        raise CannotBind(f"log: cannot write access_file {path}: {error.strerror or error}") from error
