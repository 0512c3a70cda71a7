"""What asks a backend once whether it works. RADIUS has a watchdog instead (`radius_watch`)."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import assert_never

from mfalb.balancer.config.health_models import HttpCheck, ProbedCheck, SdkCheck, TcpCheck
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.health.http_probe import HttpProbe
from mfalb.balancer.health.outcomes import Probe, ProbeFailed, Works
from mfalb.balancer.health.sdk_probe import SdkProbe
from mfalb.balancer.health.web_calls import WebCalls, fault_of_connecting, said_first
from mfalb.balancer.pools.backend import Backend
from mfalb.net.opened_sockets import opened_socket


def probe_for(check: ProbedCheck, pool: PoolConfig, context: ssl.SSLContext | None) -> Probe:
    """The probe of a pool, over TLS when there is a context.

    It raises ProbeFailed, and gives up by itself after the check's timeout. Raises OSError when a file that it needs
    cannot be read.
    """
    match check:
        case HttpCheck():
            return HttpProbe(check, WebCalls(check, pool, context))
        case SdkCheck():
            return SdkProbe(check, WebCalls(check, pool, context))
        case TcpCheck():
            return _TcpProbe(check.timeout_s, said_first(pool))
    assert_never(check)


class _TcpProbe:
    """Connects, says what every connection to this pool begins with (a PROXY protocol header, or nothing), leaves."""

    def __init__(self, timeout_s: float, opening: bytes) -> None:
        self._timeout_s = timeout_s
        self._opening = opening

    async def __call__(self, backend: Backend) -> Works:
        try:
            async with asyncio.timeout(self._timeout_s):
                opened = await opened_socket(*backend.address, self._opening)
        except TimeoutError:
            raise ProbeFailed("timeout") from None
        except OSError as error:
            raise fault_of_connecting(error) from None
        with suppress(OSError):
            opened.close()
        return Works("connected")
