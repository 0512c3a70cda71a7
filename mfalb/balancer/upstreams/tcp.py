"""TCP connections to the backends of a pool, each for one client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.refusals import reason_of
from mfalb.errors import BackendFailure
from mfalb.net.lifecycle import Tasks
from mfalb.net.relay import Relay
from mfalb.wire.proxy_protocol import Endpoints, proxy_header


class TcpUpstream:
    """Connects relays to the backends of one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._tasks = Tasks(f"upstream {pool.name}")

    def opening(self, endpoints: Endpoints) -> bytes:
        """What a connection for this client begins with: its PROXY protocol header, b"" where none is sent."""
        version = self.pool.config.send_proxy
        return proxy_header(version, endpoints) if version is not None else b""

    def connect(self, backend: Backend, relay: Relay, on_failure: Callable[[BackendFailure], None]) -> None:
        """Connect a relay. It tells its host when it is joined; `on_failure` hears of it when it cannot be."""
        backend.active += 1  # at once: in a burst all would choose the one whose connections are yet to open
        self._tasks.start(f"connect {backend.name}", self._connect(backend, relay, on_failure))

    async def _connect(self, backend: Backend, relay: Relay, on_failure: Callable[[BackendFailure], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.pool.config.connect_timeout_s):
                await loop.create_connection(relay.backend_end, backend.address.host, backend.address.port)
        except TimeoutError:
            reason = "connect_timeout"
        except OSError as error:
            reason = reason_of(error)
        else:
            return
        finally:
            backend.active -= 1  # from here on the relay counts it
        if not relay.is_joined:  # else it was made in the last moment
            on_failure(BackendFailure(backend.name, reason, sent=False))

    async def close(self) -> None:
        await self._tasks.close()
