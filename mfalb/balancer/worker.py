"""One event loop's work: listeners, exchanges, pools and upstreams, wired (`wiring`), kept going and changed.

A worker is given what it needs (configuration, pools, bound sockets, pins) and owns the rest: connections, tables,
timers. About health it decides nothing: what its traffic shows it tells the supervisor, whose word its pools follow.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Final

from mfalb.balancer.affinity.hub import Hub
from mfalb.balancer.config.models import Config, HttpListener
from mfalb.balancer.config.radius_models import RadiusListener
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.config.tcp_models import TcpListener
from mfalb.balancer.config.values import Address
from mfalb.balancer.exchange.handed_exchanges import HandedService
from mfalb.balancer.exchange.radius_assembly import AnyRadiusListener
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.listeners.http_parts import Suspicion
from mfalb.balancer.pools.evidence import ReportedEvidence
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.custody import SocketKeeper
from mfalb.balancer.upstreams.pin_sharing import PinSharing
from mfalb.balancer.upstreams.pin_sharing_assembly import follow_settings, share_pins
from mfalb.balancer.wiring import radius, streams
from mfalb.balancer.wiring.parts import Wiring
from mfalb.balancer.wiring.radius import Radius, RadiusMeans
from mfalb.balancer.wiring.streams import Streams
from mfalb.net.datagram_poller import DatagramPoller
from mfalb.net.memory import calm_the_garbage_collector, keep_large_blocks_apart
from mfalb.net.tls_files import TlsFiles, Watched
from mfalb.telemetry.log import AccessLog
from mfalb.telemetry.metrics import ListenerCounters

TICK_S: Final = 0.25  # how late a deadline may be noticed; one coarse timer for everything
TELL_S: Final = 0.1
_SLOW_TICKS: Final = 4  # connections and tables are looked at once a second
_SETTLE_S: Final = 2.0  # what waits for a store that nodes share has an answer before that, or none at all
_SETTLE_LOOK_S: Final = 0.005

Listener = HttpListener | TcpListener | RadiusListener | RadsecListener
Sockets = Mapping[str, Sequence[socket.socket]]
Addresses = Sequence[tuple[str, str, str, int]]  # pool, backend, host, port


def address_backends(pools: Mapping[str, Pool], found: Addresses) -> None:
    """Let backends be where their host names were found."""
    for pool, name, host, port in found:
        pools[pool].backends[name].address = Address(host, port)


@dataclass(slots=True)
class WorkerParts:
    """What a worker is given: configuration, pools that follow the supervisor's, its own sockets, the shared pins.

    `mark` gives 8 bytes for a name, the same ones to all workers: see `RadiusAssembly`. `handed` is what a worker of
    another supervisor was doing at the same sockets, by the owner of its own: see `hand_over`.
    """

    config: Config
    pools: dict[str, Pool]
    sockets: Sockets
    pins: Hub
    evidence: ReportedEvidence
    tls_files: TlsFiles
    access_log: AccessLog | None
    keeper: SocketKeeper
    mark: Callable[[str], bytes]
    handed: Mapping[str, HandedService] = field(default_factory=dict)


class Worker:
    """Everything between the listening sockets and the backends."""

    def __init__(self, parts: WorkerParts) -> None:
        self._wiring = Wiring(parts.config, parts.pools, parts.pins, parts.evidence, parts.tls_files, parts.access_log)
        self.pools = parts.pools
        self._sockets = parts.sockets
        self._poller = DatagramPoller(asyncio.get_running_loop(), self._flush_datagrams)
        self._streams = Streams(self._wiring)
        self._radius = Radius(
            self._wiring, RadiusMeans(self._poller, parts.keeper, parts.mark, parts.handed), self._flush_datagrams
        )
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._ticks = 0

    # ------------------------------------------------------------------------------ numbers

    @property
    def config(self) -> Config:
        return self._wiring.config

    @property
    def pins(self) -> Hub:
        return self._wiring.pins

    @property
    def counters(self) -> dict[str, ListenerCounters]:
        return self._wiring.counters

    @property
    def access_log(self) -> AccessLog | None:
        return self._wiring.access_log

    @property
    def in_flight(self) -> dict[str, int]:
        """RADIUS exchanges under way, by listener."""
        return self._radius.by_listener(lambda dispatch: dispatch.in_flight)

    @property
    def unknown_states(self) -> dict[str, int]:
        """RADIUS requests with a State that no pin is known for, by listener."""
        return self._radius.by_listener(lambda dispatch: dispatch.unknown_states)

    @property
    def answers_forgotten_early(self) -> dict[str, int]:
        """Stored RADIUS answers that gave way to newer ones before their time, by listener."""
        return self._radius.by_listener(lambda dispatch: dispatch.answers_forgotten_early)

    @property
    def listener_kernel_drops(self) -> dict[str, int]:
        """Datagrams from clients that the kernel dropped, by RADIUS listener over UDP."""
        return self._radius.listener_kernel_drops()

    @property
    def backend_kernel_drops(self) -> dict[tuple[str, str], int]:
        """Datagrams from RADIUS backends that the kernel dropped, by pool and backend."""
        return self._radius.backend_kernel_drops()

    @property
    def radius_peers(self) -> dict[str, tuple[list[RadiusPeer], list[RadiusPeer]]]:
        """The clients and the backends of each RADIUS listener, with what was discarded of theirs."""
        return self._radius.peers

    @property
    def tls_files(self) -> Sequence[Watched]:
        """The TLS of listeners and pools, and how its files fare."""
        return self._wiring.tls_files.watched

    @property
    def pin_sharing(self) -> PinSharing | None:
        """Pins that nodes share; None where they do not."""
        return self._wiring.sharing

    @property
    def suspicions(self) -> dict[str, deque[Suspicion]]:
        """What each HTTP listener refused because it could be read in two ways, the last of them."""
        return self._streams.suspicions

    # ------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Serve. Raises OSError and ssl.SSLError when a listener cannot."""
        keep_large_blocks_apart()
        wiring = self._wiring
        answers_wait = self._radius.answers_wait
        wiring.sharing = share_pins(self.config, wiring.pins, self.pools, wiring.tls_files, answers_wait)
        for listener in self.config.listeners:
            await self._add(listener, self._sockets[listener.name])
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._tell_heard()
        calm_the_garbage_collector()

    async def close(self) -> None:
        """Let go of everything; what is under way is cut off."""
        for timer in (self._timer, self._telling):
            if timer is not None:
                timer.cancel()
        await self._streams.close()
        await self._radius.close()
        await self._wiring.tasks.close()
        if self._wiring.sharing is not None:
            await self._wiring.sharing.close()
        self._poller.close()
        if self.access_log is not None:
            self.access_log.flush(time())

    async def _add(self, listener: Listener, sockets: Sequence[socket.socket]) -> None:
        if isinstance(listener, RadiusListener | RadsecListener):
            self._radius.add(listener, sockets)
        else:
            await self._streams.add(listener, sockets)

    # ------------------------------------------------------------------------------ another worker goes on

    async def hand_over(self) -> list[HandedService]:
        """Begin nothing more, and tell what another worker needs to go on with RADIUS over UDP.

        Streams go on here until they end: their next answer is their last.
        """
        self._streams.retire()
        self._radius.retire()
        latest = monotonic() + _SETTLE_S
        while not self._radius.is_settled and monotonic() < latest:  # noqa: ASYNC110 - a rare thing, for milliseconds
            await asyncio.sleep(_SETTLE_LOOK_S)
        return self._radius.hand_over()

    @property
    def left(self) -> int:
        """Connections that are open, and RADIUS exchanges that are answered from here."""
        return self._streams.left + self._radius.left

    # ------------------------------------------------------------------------------ another configuration

    def prepare(self, config: Config) -> list[Callable[[], None]]:
        """Read what another configuration needs; the results put it into use. Nothing is changed before.

        Raises OSError, ssl.SSLError and ValueError for files that cannot be used.
        """
        mine, files = self.config, self._wiring.tls_files
        swaps: list[Callable[[], None]] = []
        former = {one.name: one for one in mine.listeners}
        for one in config.listeners:
            if isinstance(one, HttpListener | RadsecListener) and one.tls is not None:
                known = former.get(one.name)
                if not isinstance(known, HttpListener | RadsecListener) or known.tls != one.tls:
                    swaps.append(files.prepare_server(one.name, one.tls.files))
        for name, pool in config.pools.items():
            known_tls = mine.pools[name].upstream_tls if name in mine.pools else None
            if pool.upstream_tls is not None and pool.upstream_tls != known_tls:
                swaps.append(files.prepare_client(name, pool.upstream_tls.files))
        return swaps

    async def change(self, config: Config, pools: Mapping[str, Pool], sockets: Sockets, found: Addresses) -> None:
        """Be what the configuration says from now on; `pools` are the new ones. Raises OSError and ssl.SSLError.

        `sockets` are one for each address of all listeners; those that are not needed are closed. `found` are the
        addresses of backends whose host names were looked up.
        """
        former, self._wiring.config = self.config, config
        touched = {name for name, pool in config.pools.items() if former.pools.get(name) != pool}
        self._change_pools(config, pools)
        address_backends(self.pools, found)
        self._streams.follow_pools()
        if self._wiring.sharing is not None:
            follow_settings(self._wiring.sharing, config)
        left = dict(sockets)
        known = {one.name: one for one in former.listeners}
        for name in known.keys() - {one.name for one in config.listeners}:
            self._remove(known[name])
        for listener in config.listeners:
            one = known.get(listener.name)
            if one is None:
                await self._add(listener, left.pop(listener.name))
            elif not self._may_stay(one, listener, touched):
                self._remove(one)
                await self._add(listener, left.pop(listener.name))
            else:
                self._change(listener)
        for unused in left.values():
            for sock in unused:
                sock.close()

    def _change_pools(self, config: Config, pools: Mapping[str, Pool]) -> None:
        for name in self.pools.keys() - config.pools.keys():
            del self.pools[name]
        for name, settings in config.pools.items():
            if name not in self.pools:
                self.pools[name] = pools[name]
            elif self.pools[name].config != settings:
                self.pools[name].reconfigure(settings)

    def _remove(self, listener: Listener) -> None:
        if isinstance(listener, RadiusListener | RadsecListener):
            self._radius.remove(listener.name)
        else:
            self._streams.remove(listener.name)

    def _change(self, listener: Listener) -> None:
        if isinstance(listener, RadiusListener):
            self._radius.change(listener)
        elif not isinstance(listener, RadsecListener):
            self._streams.change(listener)

    def _may_stay(self, one: Listener, other: Listener, touched: set[str]) -> bool:
        """Whether a listener can become another one with its connections, or stays as it is."""
        if isinstance(one, RadiusListener | RadsecListener):
            if not isinstance(other, RadiusListener | RadsecListener):
                return False
            return self._may_radius_stay(one, other, touched)
        if isinstance(other, RadiusListener | RadsecListener):
            return False
        return streams.has_same_frame(one, other)

    def _may_radius_stay(self, one: AnyRadiusListener, other: AnyRadiusListener, touched: set[str]) -> bool:
        over_tls = [name for name in other.pools.values() if self.pools[name].config.upstream_tls is not None]
        if touched.intersection(over_tls):
            return False
        if isinstance(other, RadsecListener):
            return one == other and not touched.intersection(other.pools.values())
        return radius.has_same_frame(one, other)

    # ------------------------------------------------------------------------------ timers

    def _flush_datagrams(self) -> None:
        self._radius.flush()
        if self.access_log is not None and self.access_log.is_worth_a_flush:
            self.access_log.flush(time())

    def _tell_heard(self) -> None:
        """Who was heard: late word of it makes the supervisor ask a busy RADIUS server whether it lives."""
        self._telling = asyncio.get_running_loop().call_later(TELL_S, self._tell_heard)
        self._wiring.evidence.tick()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._ticks += 1
        now = monotonic()
        for pool in self.pools.values():
            pool.tick(now)
            if pool.line.waiting:  # a backend may have come up
                self._streams.call_next(pool)
        self._radius.tick()
        if self.access_log is not None:
            self.access_log.flush(time())
        if self._ticks % _SLOW_TICKS:
            return
        self.pins.expire(now)
        self._radius.expire(now)
        self._streams.tick(now)
