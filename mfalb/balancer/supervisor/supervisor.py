"""Starts the balancer's parts in order, keeps them until it is told to stop, and stops them in reverse."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from time import time

import uvloop

from mfalb.balancer.admin.api import AdminApi
from mfalb.balancer.admin.server import AdminServer
from mfalb.balancer.config.models import Config, LogFormat
from mfalb.balancer.config.radius_models import RadiusListener
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.config.values import Address
from mfalb.balancer.health.prober import Prober
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.admin_socket import bind_admin
from mfalb.balancer.supervisor.operations import LocalOperations
from mfalb.balancer.supervisor.sockets import CannotBind, bind_all
from mfalb.balancer.worker import Worker
from mfalb.net.descriptors import allow_many_descriptors
from mfalb.net.ticket_keys import SECRET_BYTES
from mfalb.net.tls_files import TlsFiles
from mfalb.telemetry import unraisable
from mfalb.telemetry.log import AccessLog
from mfalb.telemetry.log_file import LogFile

_log = logging.getLogger("mfalb.supervisor")


def run(config: Config, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises CannotBind before anything was served."""
    allow_many_descriptors()
    unraisable.install()
    sockets = bind_all(config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, sockets, on_ready))


async def _serve(config: Config, sockets: dict[str, list[socket.socket]], on_ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_quiet_on_peers_faults)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pools = {name: Pool(name, pool, random.random) for name, pool in config.pools.items()}
    await _resolve_radius_backends(config, pools)
    async with AsyncExitStack() as stack:
        tls_files = TlsFiles(os.urandom(SECRET_BYTES), config.tls.file_check_interval_s)
        stack.push_async_callback(tls_files.close)
        access_file = _access_file(config)
        if access_file is not None:
            stack.callback(access_file.close)
        is_json = config.log.format is LogFormat.JSON
        access_log = AccessLog(is_json=is_json, stream=access_file) if config.log.access else None
        loop.add_signal_handler(signal.SIGHUP, _reopen, access_file, access_log)
        worker = Worker(config, pools, sockets, tls_files, access_log)
        stack.push_async_callback(worker.close)
        prober = Prober(pools.values(), tls_files)
        stack.push_async_callback(prober.close)
        admin = AdminServer(config.admin.bind, worker, pools)
        stack.push_async_callback(admin.close)
        try:
            await admin.start()
        except OSError as error:
            raise CannotBind(f"admin: cannot bind {config.admin.bind}: {error.strerror or error}") from error
        await _serve_operators(config, LocalOperations(config, pools, worker.pins), stack)
        await prober.start()
        await worker.start()
        tls_files.start()
        _log.info("ready", extra={"listeners": len(config.listeners), "pools": len(pools)})
        on_ready()
        await stop.wait()
        _log.info("stopping")


async def _serve_operators(config: Config, operations: LocalOperations, stack: AsyncExitStack) -> None:
    """The admin API, where it has a socket."""
    bound = bind_admin(config.admin)
    if bound is None:
        return
    path, sock = bound
    stack.callback(path.unlink, missing_ok=True)
    stack.push_async_callback(operations.close)
    operations.start()
    api = AdminApi(operations)
    stack.push_async_callback(api.close)
    await api.start(sock)


def _access_file(config: Config) -> LogFile | None:
    path = config.log.access_file
    if path is None or not config.log.access:
        return None
    try:
        return LogFile(path)
    except OSError as error:
        raise CannotBind(f"log: cannot write access_file {path}: {error.strerror or error}") from error


def _reopen(access_file: LogFile | None, access_log: AccessLog | None) -> None:
    """SIGHUP: the access log was renamed. What has gathered still belongs into it, all else into a new file."""
    if access_file is None or access_log is None:
        _log.info("SIGHUP: there is no access_file to reopen")
        return
    access_log.flush(time())
    access_file.reopen()
    _log.info("access log reopened")


async def _resolve_radius_backends(config: Config, pools: dict[str, Pool]) -> None:
    """Turn host names of RADIUS backends into addresses once: the data path may not wait for a name server.

    Over TLS each connection looks its host up, and the certificate is checked against the name.
    """
    loop = asyncio.get_running_loop()
    for listener in config.listeners:
        if not isinstance(listener, RadiusListener | RadsecListener):
            continue
        over_udp = [pools[name] for name in listener.pools.values() if config.pools[name].upstream_tls is None]
        for pool in over_udp:
            for backend in pool.backends.values():
                host, port = backend.address.host, backend.address.port
                try:
                    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
                except OSError as error:
                    raise CannotBind(f"pool {pool.name}: backend {backend.name}: cannot find {host}") from error
                backend.address = Address(str(found[0][4][0]), port)


def _quiet_on_peers_faults(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """What the event loop reports. A broken connection or handshake is a peer's doing: one line, no traceback."""
    error = context.get("exception")
    if isinstance(error, OSError | ssl.SSLError | EOFError):
        _log.debug("connection failed", extra={"reason": type(error).__name__})
    else:
        _log.error(
            "unexpected failure",
            extra={"context": context.get("message", "")},
            exc_info=error if isinstance(error, BaseException) else None,
        )
