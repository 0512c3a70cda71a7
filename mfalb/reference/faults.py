"""Fault switches: what is wrong with a service right now, and the control endpoint where that is set.

    GET  /faults   every switch of this service as it stands
    POST /faults   {"slow_s": 2.5, "hang": true}: sets those, leaves the others; answers as GET does

The control endpoint is an application of its own, so that a service can be told to stop being slow, hung or down. It
talks to this machine only, takes JSON by its media type only (no page in a browser can send that to another origin
unasked), and is off unless a service's settings have `control`. A service adds its own routes to it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from dataclasses import asdict, dataclass, fields, replace
from ipaddress import ip_address
from math import isfinite
from time import monotonic, time
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

_BODY_LIMIT_BYTES: Final = 64 * 1024
_ANSWER_LEAVES_S: Final = 0.2  # what is on its way out leaves before the process dies

_log = logging.getLogger("mfalb.reference.faults")


@dataclass(frozen=True, slots=True)
class Switches:
    """All faults there are; each service has some of them. Nothing is wrong by default."""

    slow_s: float = 0.0  # each answer comes so much later
    hang: bool = False  # no answer comes at all, and connections stay open
    down: bool = False  # connections are closed without an answer
    duplicate: bool = False  # every text is sent twice, every phone rings twice
    deny: bool = False  # every sign-in is denied
    die_mid_challenge: bool = False  # the process ends (SIGKILL) after it has begun a challenge
    cloud_unreachable: bool = False
    master_lost: bool = False
    clock_skew_s: float = 0.0


ALL: Final = frozenset(field.name for field in fields(Switches))


class FaultRefused(ValueError):  # noqa: N818 - says what happened
    """A switch that the service has not, or a value that the switch cannot take."""


class Faults:
    """The switches of one service. `now` is what they say at this moment."""

    def __init__(self, *names: str) -> None:
        """`names` are the switches that this service has. Raises ValueError for one that there is not."""
        unknown = set(names) - ALL
        if unknown:
            raise ValueError(f"no such fault switch: {', '.join(sorted(unknown))}")
        self._names = names
        self.now = Switches()

    def shown(self) -> dict[str, float | bool]:
        """The switches of this service and how they stand."""
        values = asdict(self.now)
        return {name: values[name] for name in self._names}

    def set_untrusted(self, table: object) -> None:
        """Set the named switches, all of them or (when one is wrong) none. Raises FaultRefused."""
        if not isinstance(table, dict):
            raise FaultRefused("not a JSON object")
        unknown = sorted(set(table) - set(self._names))
        if unknown:
            raise FaultRefused(f"this service has no switch {unknown[0]!r}; it has {', '.join(self._names)}")
        values: dict[str, Any] = {name: _value_untrusted(name, value) for name, value in table.items()}
        self.now = replace(self.now, **values)
        _log.warning("faults set", extra=self.shown())

    # ------------------------------------------------------------------------------ what services ask

    def monotonic(self) -> float:
        """Seconds of a clock that goes wrong by `clock_skew_s`."""
        return monotonic() + self.now.clock_skew_s

    def unix_time(self) -> float:
        """Unix seconds by a clock that is wrong by `clock_skew_s`."""
        return time() + self.now.clock_skew_s

    async def hold_up(self) -> None:
        """Lasts as long as the service is slow; for ever while it hangs."""
        if self.now.hang:
            await asyncio.Event().wait()  # until the caller is cancelled, with its connection or the service
        if self.now.slow_s:
            await asyncio.sleep(self.now.slow_s)

    def challenge_begun(self) -> None:
        """Told by a service that has begun a challenge: with `die_mid_challenge` it is dead soon after."""
        if self.now.die_mid_challenge:
            asyncio.get_running_loop().call_later(_ANSWER_LEAVES_S, os.kill, os.getpid(), signal.SIGKILL)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """For a service's HTTP applications: slow, hang and down."""
        if self.now.down:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)  # nobody gets it
        await self.hold_up()
        return await handler(request)

    def control_application(self) -> web.Application:
        """The control endpoint: serve it at the settings' `control`, after adding what else the service has there."""
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES, middlewares=[_of_this_machine])
        application.router.add_get("/faults", self._get)
        application.router.add_post("/faults", self._post)
        return application

    async def _get(self, _request: web.Request) -> web.Response:
        return web.json_response(self.shown())

    async def _post(self, request: web.Request) -> web.Response:
        try:
            self.set_untrusted(json.loads(await request.read()))
        except FaultRefused as refused:
            return web.json_response({"error": str(refused)}, status=400)
        except (ValueError, RecursionError):
            return web.json_response({"error": "not JSON"}, status=400)
        return web.json_response(self.shown())


def _value_untrusted(name: str, value: Any) -> float | bool:
    if isinstance(getattr(Switches(), name), bool):
        if not isinstance(value, bool):
            raise FaultRefused(f"{name} is true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise FaultRefused(f"{name} is a number of seconds")
    if name == "slow_s" and value < 0:
        raise FaultRefused(f"{name} cannot be below 0")
    return float(value)


@web.middleware
async def _of_this_machine(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _is_loopback(request.remote):
        return web.Response(status=403, text="The control endpoint talks to this machine only.\n")
    if request.method == "POST" and request.content_type != "application/json":
        return web.Response(status=415, text="The control endpoint takes application/json.\n")
    return await handler(request)


def _is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False
