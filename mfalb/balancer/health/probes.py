"""HTTP and TCP probes: ask a backend once whether it works. RADIUS has a watchdog instead (`radius_watch`)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, assert_never

import aiohttp

from mfalb.balancer.config.models import HttpCheck, TcpCheck
from mfalb.balancer.config.tls_models import UpstreamTls
from mfalb.balancer.pools.backend import Backend

Probe = Callable[[Backend], Awaitable[None]]


class ProbeFailed(Exception):  # noqa: N818 - a finding, not a fault of ours
    """The backend did not answer as a working one does; the text is a short reason."""


def probe_for(check: HttpCheck | TcpCheck, tls: UpstreamTls | None, context: ssl.SSLContext | None) -> Probe:
    """The probe of a pool, over TLS when there is a context.

    It raises ProbeFailed, and gives up by itself after the check's timeout.
    """
    match check:
        case HttpCheck():
            return _HttpProbe(check, tls, context)
        case TcpCheck():
            return _limited(_tcp, check.timeout_s)
    assert_never(check)


def _limited(probe: Probe, timeout_s: float) -> Probe:
    async def limited(backend: Backend) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await probe(backend)
        except TimeoutError:
            raise ProbeFailed("timeout") from None
        except OSError as error:
            raise ProbeFailed(error.strerror or "unreachable") from None

    return limited


async def _tcp(backend: Backend) -> None:
    _, writer = await asyncio.open_connection(backend.address.host, backend.address.port)
    writer.close()


class _HttpProbe:
    """GET with a new connection each time: an old one would not notice that nobody listens any more."""

    def __init__(self, check: HttpCheck, tls: UpstreamTls | None, context: ssl.SSLContext | None) -> None:
        self._check = check
        self._tls = tls
        self._context = context

    async def __call__(self, backend: Backend) -> None:
        check = self._check
        scheme = "https" if self._context is not None else "http"
        host, port = backend.address.host, backend.address.port
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{check.path}"
        options: dict[str, Any] = {"allow_redirects": False}
        if self._context is not None:
            options["ssl"] = self._context
            options["server_hostname"] = (self._tls.server_name if self._tls else None) or host
        if check.host is not None:
            options["headers"] = {"Host": check.host}
        timeout = aiohttp.ClientTimeout(total=check.timeout_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as session,
                session.get(url, **options) as response,
            ):
                status = response.status
        except TimeoutError:
            raise ProbeFailed("timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ProbeFailed(type(error).__name__) from None
        if status not in check.expect_status:
            raise ProbeFailed(f"status {status}")
