"""Connections that may begin with a PROXY protocol header, which is read before anything else, TLS included.

The header is looked at in the socket (MSG_PEEK) and only its own bytes are taken out: what follows, a ClientHello for
one, is still there for whoever reads the socket next, so TLS needs nothing special and listeners without PROXY
protocol go on as they are.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from time import monotonic
from typing import Final

from mfalb.errors import MalformedMessage
from mfalb.net.arrivals import Arrivals
from mfalb.net.lifecycle import Tasks
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.telemetry.rare_log import RareLog
from mfalb.wire.proxy_protocol import Endpoints, ProxyHeaderReader

_BACKLOG: Final = 4096
_LOOK_BYTES: Final = 2048

_log = logging.getLogger("mfalb.listeners.proxied")


@dataclass(frozen=True, slots=True)
class ProxiedWiring:
    """What arrivals of a listener are handed to, and what they may take.

    `protocol` makes the protocol of a connection, from what its header said (None: it counts as it is). `open` tells
    how many connections there are; with those that wait for their header they may be `limit`.
    """

    networks: Sequence[IPv4Network | IPv6Network]
    header_timeout_s: float
    limit: int
    counters: ListenerCounters
    open: Callable[[], int]
    protocol: Callable[[Endpoints | None], asyncio.BaseProtocol]


@dataclass(slots=True)
class _Waiting:
    """A connection whose header has not come whole."""

    reader: ProxyHeaderReader
    host: str
    deadline: float


class ProxiedArrivals:
    """Accepts on bound sockets, reads the headers of those who have to send one, and passes the connections on."""

    def __init__(self, wiring: ProxiedWiring) -> None:
        self._wiring = wiring
        self._arrivals = Arrivals(self._begin, _log)
        self._waiting: dict[socket.socket, _Waiting] = {}
        self._tasks = Tasks("proxied connections")
        self._rare_log = RareLog(_log)

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on these, which are closed in the end."""
        self._arrivals.start(sockets, _BACKLOG)

    def tick(self, now: float) -> None:
        """Let go of those whose header does not come. Called about once a second."""
        late = [arrived for arrived, waiting in self._waiting.items() if waiting.deadline < now]
        for arrived in late:
            self._refuse(arrived, "proxy_timeout")

    def stop(self) -> None:
        """Accept nobody more."""
        self._arrivals.stop()

    async def close(self) -> None:
        """Accept nobody more, and let go of those who are not passed on yet."""
        self.stop()
        loop = asyncio.get_running_loop()
        for arrived in self._waiting:
            loop.remove_reader(arrived)
            arrived.close()
        self._waiting.clear()
        await self._tasks.close()

    # ------------------------------------------------------------------------------ arrivals

    def _begin(self, arrived: socket.socket, host: str) -> None:
        wiring = self._wiring
        if wiring.open() + len(self._waiting) + len(self._tasks) >= wiring.limit:
            wiring.counters.drops["connection_limit"] += 1
            arrived.close()
            return
        address = ip_address(host)
        if any(address in network for network in wiring.networks):
            self._waiting[arrived] = _Waiting(ProxyHeaderReader(), host, monotonic() + wiring.header_timeout_s)
            asyncio.get_running_loop().add_reader(arrived, self._look, arrived)
        else:
            self._pass_on(arrived, None)

    # ------------------------------------------------------------------------------ headers

    def _look(self, arrived: socket.socket) -> None:
        waiting = self._waiting[arrived]
        try:
            seen = arrived.recv(_LOOK_BYTES, socket.MSG_PEEK)
            if not seen:
                self._refuse(arrived, "proxy_aborted")
                return
            taken = waiting.reader.take_untrusted(seen)
            arrived.recv(taken)
        except MalformedMessage as error:
            facts = {"listener": self._wiring.counters.name, "host": waiting.host}
            self._rare_log.warning("proxy_header", "no PROXY protocol header from where one is due", facts)
            self._refuse(arrived, error.reason)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._refuse(arrived, "proxy_aborted")
        else:
            if waiting.reader.is_complete:
                self._forget(arrived)
                self._pass_on(arrived, waiting.reader.endpoints)

    def _forget(self, arrived: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(arrived)
        del self._waiting[arrived]

    def _refuse(self, arrived: socket.socket, reason: str) -> None:
        self._wiring.counters.drops[reason] += 1
        self._forget(arrived)
        arrived.close()

    def _pass_on(self, arrived: socket.socket, endpoints: Endpoints | None) -> None:
        self._tasks.start("connection", self._serve(arrived, endpoints))

    async def _serve(self, arrived: socket.socket, endpoints: Endpoints | None) -> None:
        wiring = self._wiring
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: wiring.protocol(endpoints), arrived)
        except OSError as error:  # it left
            _log.debug("connection failed", extra={"reason": type(error).__name__})
