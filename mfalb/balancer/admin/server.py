"""The admin port: /metrics for Prometheus, /status for people and scripts, /ready for whoever holds the address.

/suspects shows the last requests that were refused because they could be read in two ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from socket import socket
from time import monotonic, time
from typing import Protocol

from aiohttp import web
from prometheus_client.core import Metric

from mfalb.balancer.admin.metrics import MetricsPage
from mfalb.balancer.admin.status import Clocks, status
from mfalb.balancer.pools.pool import Pool


class Numbers(Protocol):
    """The workers' numbers, which all pages are made from."""

    @property
    def missing(self) -> int:
        """Workers that do not serve now."""

    @property
    def silent(self) -> int:
        """Workers that should serve, and have given no sign of life for some seconds."""

    async def refresh(self) -> None:
        """Ask the workers."""

    def families(self) -> Iterable[Metric]: ...

    def suspects(self) -> dict[str, object]: ...


class AdminServer:
    """Read-only; bind it to loopback or a management network, it asks nobody who they are."""

    def __init__(self, numbers: Numbers, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        self._numbers = numbers
        self._page = MetricsPage(numbers.families, pools)
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/status", self._status)
        application.router.add_get("/ready", self._ready)
        application.router.add_get("/suspects", self._suspects)
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self, sockets: Iterable[socket]) -> None:
        """Serve on bound sockets, which are then this server's to close."""
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()

    async def stop_accepting(self) -> None:
        """Whoever is connected is still answered."""
        for site in list(self._runner.sites):
            await site.stop()

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        await self._numbers.refresh()
        return web.Response(body=self._page.text(), content_type="text/plain", charset="utf-8")

    async def _ready(self, _request: web.Request) -> web.Response:
        """200 while every worker serves and every pool has a backend that takes work; else 503, and what is missing.

        A worker that is replaced at once is missing for some 50 ms; what waits for it then is served by the next one.
        """
        empty = [pool.name for pool in self._pools.values() if not pool.can_serve]
        faults = [f"workers that do not serve: {self._numbers.missing}"] if self._numbers.missing else []
        if self._numbers.silent:
            faults.append(f"workers that do not answer: {self._numbers.silent}")
        if empty:
            faults.append(f"no backend: {', '.join(empty)}")
        return web.Response(text="; ".join(faults or ["ready"]) + "\n", status=503 if faults else 200)

    async def _suspects(self, _request: web.Request) -> web.Response:
        await self._numbers.refresh()
        return web.json_response(self._numbers.suspects())

    async def _status(self, _request: web.Request) -> web.Response:
        await self._numbers.refresh()
        return web.json_response(status(self._pools, Clocks(monotonic(), time())))
