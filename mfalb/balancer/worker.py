"""One event loop's work: wires listeners to exchanges, affinity, pools and upstreams. The only place that does.

A worker is given what it needs (configuration, pools, bound sockets, pins) and owns the rest: connections, tables,
timers. About health it decides nothing: what its traffic shows it tells the supervisor, whose word its pools follow.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, time
from typing import Final

from mfalb.balancer.affinity.cookie import CookieSealer
from mfalb.balancer.affinity.hub import Hub
from mfalb.balancer.config.models import Config, HttpListener
from mfalb.balancer.config.radius_models import RadiusListener, ServiceKind
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.config.tcp_models import TcpListener
from mfalb.balancer.exchange.http import HttpExchange, HttpExchanges
from mfalb.balancer.exchange.radius_assembly import AnyRadiusListener, RadiusAssembly
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_peer import RadiusPeer, Secrets
from mfalb.balancer.exchange.radius_service import RadiusService
from mfalb.balancer.exchange.tcp import TcpExchanges
from mfalb.balancer.listeners.http import HttpListener as HttpListenerShell
from mfalb.balancer.listeners.http_parts import HttpParts, Suspicion
from mfalb.balancer.listeners.radius import RadiusListener as RadiusListenerShell
from mfalb.balancer.listeners.radius_clients import RadiusClients
from mfalb.balancer.listeners.radius_dispatch import RadiusDispatch, RadiusParts
from mfalb.balancer.listeners.radsec import RadsecListener as RadsecListenerShell
from mfalb.balancer.listeners.radsec_clients import RadsecClients
from mfalb.balancer.listeners.radsec_dispatches import RadsecDispatches
from mfalb.balancer.listeners.tcp import TcpListener as TcpListenerShell
from mfalb.balancer.listeners.tcp_parts import TcpParts
from mfalb.balancer.pools.evidence import ReportedEvidence
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.custody import Custody, SocketKeeper
from mfalb.balancer.upstreams.http import HttpUpstream
from mfalb.balancer.upstreams.radius import Events, RadiusCarrier, RadiusUpstream, Sign
from mfalb.balancer.upstreams.radsec import RadsecUpstream, RadsecWiring
from mfalb.balancer.upstreams.tcp import TcpUpstream
from mfalb.errors import BackendFailure
from mfalb.net.clock import Clock
from mfalb.net.datagram_form import DatagramForm, Wrap, datagram_form
from mfalb.net.datagram_poller import DatagramPoller
from mfalb.net.lifecycle import Tasks
from mfalb.net.memory import calm_the_garbage_collector, keep_large_blocks_apart
from mfalb.net.rounds import WriteRound
from mfalb.net.tls_files import TlsFiles, Watched
from mfalb.telemetry.log import AccessLog
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.wire.http_fields import REQUEST_SPECIAL, FieldReader

TICK_S: Final = 0.25  # how late a deadline may be noticed; one coarse timer for everything
_SLOW_TICKS: Final = 4  # connections and tables are looked at once a second

_log = logging.getLogger("mfalb.worker")


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker is given: configuration, pools that follow the supervisor's, its own sockets, the shared pins.

    `draw` gives 8 bytes at each call, the same ones in the same order to all workers: see `RadiusAssembly`.
    """

    config: Config
    pools: Mapping[str, Pool]
    sockets: Mapping[str, Sequence[socket.socket]]
    pins: Hub
    evidence: ReportedEvidence
    tls_files: TlsFiles
    access_log: AccessLog | None
    keeper: SocketKeeper
    draw: Callable[[], bytes]


class Worker:
    """Everything between the listening sockets and the backends."""

    def __init__(self, parts: WorkerParts) -> None:
        config = parts.config
        self.pins = parts.pins
        self.counters = {listener.name: _counters(listener) for listener in config.listeners}
        self.access_log = parts.access_log
        self._config = config
        self._pools = pools = parts.pools
        self._evidence = parts.evidence
        self._sockets = parts.sockets
        self._tls_files = parts.tls_files
        self._dispatches: dict[str, dict[ServiceKind, RadiusDispatch]] = {}
        self._radius: list[RadiusListenerShell] = []
        self._radsec: list[RadsecListenerShell] = []
        self._streams: list[HttpListenerShell | TcpListenerShell] = []
        self._upstreams: dict[str, HttpUpstream] = {}
        self._http_parts: dict[str, HttpParts] = {}
        self._tcp_upstreams: dict[str, TcpUpstream] = {}
        self._writes = WriteRound()
        self._clock = Clock()
        self._tasks = Tasks("worker")
        self._secrets = Secrets()
        self._assembly = RadiusAssembly(pools, self.pins, self._secrets, parts.draw)
        self._keeper = parts.keeper
        self._radius_peers: dict[str, tuple[list[RadiusPeer], list[RadiusPeer]]] = {}
        self._poller: DatagramPoller | None = None
        self._datagrams: DatagramForm | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0

    @property
    def in_flight(self) -> dict[str, int]:
        """RADIUS exchanges under way, by listener."""
        return self._by_listener(lambda dispatch: dispatch.in_flight)

    @property
    def unknown_states(self) -> dict[str, int]:
        """RADIUS requests with a State that no pin is known for, by listener."""
        return self._by_listener(lambda dispatch: dispatch.unknown_states)

    @property
    def answers_forgotten_early(self) -> dict[str, int]:
        """Stored RADIUS answers that gave way to newer ones before their time, by listener."""
        return self._by_listener(lambda dispatch: dispatch.answers_forgotten_early)

    def _by_listener(self, count: Callable[[RadiusDispatch], int]) -> dict[str, int]:
        return {name: sum(map(count, dispatches.values())) for name, dispatches in self._dispatches.items()}

    @property
    def listener_kernel_drops(self) -> dict[str, int]:
        """Datagrams from clients that the kernel dropped, by RADIUS listener over UDP."""
        return {radius.dispatch.counters.name: radius.dropped_by_kernel() for radius in self._radius}

    @property
    def backend_kernel_drops(self) -> dict[tuple[str, str], int]:
        """Datagrams from RADIUS backends that the kernel dropped, by pool and backend."""
        drops: Counter[tuple[str, str]] = Counter()
        for listener in self._config.listeners:
            if isinstance(listener, HttpListener | TcpListener):
                continue
            for service, dispatch in self._dispatches.get(listener.name, {}).items():  # while it starts there are fewer
                pool = listener.pools[service]
                for name in self._pools[pool].backends:
                    drops[pool, name] += dispatch.upstream.dropped_by_kernel(name)
        return drops

    @property
    def radius_peers(self) -> dict[str, tuple[list[RadiusPeer], list[RadiusPeer]]]:
        """The clients and the backends of each RADIUS listener, with what was discarded of theirs."""
        return self._radius_peers

    @property
    def tls_files(self) -> Sequence[Watched]:
        """The TLS of listeners and pools, and how its files fare."""
        return self._tls_files.watched

    @property
    def suspicions(self) -> dict[str, deque[Suspicion]]:
        """What each HTTP listener refused because it could be read in two ways, the last of them."""
        return {name: parts.suspicions for name, parts in self._http_parts.items()}

    async def start(self) -> None:
        """Serve. Raises OSError and ssl.SSLError when a listener cannot."""
        keep_large_blocks_apart()
        loop = asyncio.get_running_loop()
        self._poller = DatagramPoller(loop, self._flush_datagrams)
        keys = [key.reveal() for key in self._config.pins.cookie_keys]
        sealer = CookieSealer(keys) if keys else None
        for listener in self._config.listeners:
            if isinstance(listener, RadiusListener):
                self._radius.append(self._radius_listener(listener, self._poller))
            elif isinstance(listener, RadsecListener):
                self._radsec.append(self._radsec_listener(listener, self._poller))
            else:
                await self._start_stream(listener, sealer)
        self._timer = loop.call_later(TICK_S, self._tick)
        calm_the_garbage_collector()

    async def _start_stream(self, listener: HttpListener | TcpListener, sealer: CookieSealer | None) -> None:
        shell: HttpListenerShell | TcpListenerShell
        if isinstance(listener, TcpListener):
            shell = self._tcp_listener(listener)
        else:
            shell = self._http_listener(listener, sealer)
        self._streams.append(shell)
        await shell.start()

    async def close(self) -> None:
        """Let go of everything; what is under way is cut off."""
        if self._timer is not None:
            self._timer.cancel()
        for stream in self._streams:
            await stream.close()
        for radius in self._radius:
            radius.close()
        for radsec in self._radsec:
            await radsec.close()
        for upstream in self._upstreams.values():
            await upstream.close()
        for tcp_upstream in self._tcp_upstreams.values():
            await tcp_upstream.close()
        await self._tasks.close()
        if self._poller is not None:
            self._poller.close()
        if self.access_log is not None:
            self.access_log.flush(time())

    # ------------------------------------------------------------------------------ wiring

    def _radius_listener(self, config: RadiusListener, poller: DatagramPoller) -> RadiusListenerShell:
        clients = RadiusClients(config.clients, self._secrets)
        dispatch = self._dispatches_of(config, clients.peers, poller)[config.service]
        wrap = self._datagram_wrap()
        sockets = [wrap(sock, is_connected=False) for sock in self._sockets[config.name]]
        return RadiusListenerShell(dispatch, clients, poller, sockets)

    def _radsec_listener(self, config: RadsecListener, poller: DatagramPoller) -> RadsecListenerShell:
        clients = RadsecClients(config.clients, self._secrets)
        dispatches = RadsecDispatches(self._dispatches_of(config, clients.peers, poller))
        tls = self._tls_files.server(config.name, config.tls.files)
        shell = RadsecListenerShell(dispatches, clients, config.limits, tls, self._writes)
        shell.start(self._sockets[config.name])
        return shell

    def _dispatches_of(
        self, config: AnyRadiusListener, clients: list[RadiusPeer], poller: DatagramPoller
    ) -> dict[ServiceKind, RadiusDispatch]:
        """The middle of a RADIUS listener: a dispatch for each of its services, the listener's own first."""
        made = self._dispatches[config.name] = {}
        backends: list[RadiusPeer] = []
        self._radius_peers[config.name] = (clients, backends)
        counters, told_unhandled = self.counters[config.name], set[str]()
        for kind in config.pools:
            exchanges = self._assembly.exchanges(config, kind, counters.unhandled_hidden)
            backends += exchanges.service.upstreams.values()
            parts = RadiusParts(exchanges, self.pins, counters, self.access_log, self._radius_refused, told_unhandled)
            custody = self._keeper.custody(f"{config.name}/{kind}")
            exchanges.flights = custody.flights
            made[kind] = RadiusDispatch(parts, self._upstream_of(exchanges.service, poller, custody))
        return made

    def _upstream_of(
        self, service: RadiusService, poller: DatagramPoller, custody: Custody
    ) -> Callable[[Events], RadiusCarrier]:
        def upstream(events: Events) -> RadiusCarrier:
            pool = service.pool
            tls = self._tls_towards(pool)
            if tls is not None:
                return self._upstream_over_tls(pool, tls, events, service.upstream_datagram)
            made = RadiusUpstream(poller, self._datagram_wrap(), events, service.upstream_datagram, custody)
            made.adopt(pool.backends, pool.config.response_timeout_s)
            return made

        return upstream

    def _datagram_wrap(self) -> Wrap:
        """How UDP sockets are read and written. Told of with the first listener that has some."""
        if self._datagrams is None:
            form = self._datagrams = datagram_form(os.environ)
            facts = {"form": form.name}
            if form.why_plain:
                reason = {"reason": form.why_plain}
                _log.warning("one system call for each RADIUS datagram: slower", extra=facts | reason)
            else:
                _log.info("RADIUS datagrams", extra=facts)
        return self._datagrams.wrap

    def _upstream_over_tls(self, pool: Pool, tls: ssl.SSLContext, events: Events, sign: Sign) -> RadiusCarrier:
        wiring = RadsecWiring(pool, tls, sign, self._writes, self._tasks, self._evidence.refused, self._answers_wait)
        return RadsecUpstream(wiring, events)

    def _tls_towards(self, pool: Pool) -> ssl.SSLContext | None:
        tls = pool.config.upstream_tls
        return None if tls is None else self._tls_files.client(pool.name, tls.files)

    def _http_listener(self, config: HttpListener, sealer: CookieSealer | None) -> HttpListenerShell:
        for route in config.routes:
            if route.pool not in self._upstreams:
                pool = self._pools[route.pool]
                self._upstreams[route.pool] = HttpUpstream(pool, self._writes, self._clock, self._tls_towards(pool))
        asked = None if config.tls is None else config.tls.client_certificates
        parts = HttpParts(
            HttpExchanges(config, self._pools, self.pins, sealer),
            self._upstreams,
            self.pins,
            config.limits,
            self.counters[config.name],
            self.access_log,
            self._http_failed,
            self._http_failed,
            self._evidence.answered,
            self._writes,
            self._request_fields(config),
            None if asked is None else asked.headers,
            self._clock,
        )
        self._http_parts[config.name] = parts
        tls = self._tls_files.server(config.name, config.tls.files) if config.tls is not None else None
        return HttpListenerShell(parts, self._sockets[config.name], tls, config.proxy_protocol)

    def _request_fields(self, config: HttpListener) -> FieldReader:
        """Reads requests' fields. Those that tell of certificates stay behind, whichever listener makes them.

        Pools may be shared: over a listener that asks nobody for a certificate anyone could claim to have one.
        """
        asked = [
            one.tls.client_certificates for one in self._config.listeners if isinstance(one, HttpListener) and one.tls
        ]
        names = {name.lower().encode() for one in asked if one is not None for name in one.headers.names}
        accepts_underscores = "underscores" in config.accept
        return FieldReader(REQUEST_SPECIAL | names, is_for_requests=True, refuses_underscores=not accepts_underscores)

    def _tcp_listener(self, config: TcpListener) -> TcpListenerShell:
        for route in config.routes:
            if route.pool not in self._tcp_upstreams:
                self._tcp_upstreams[route.pool] = TcpUpstream(self._pools[route.pool])
        exchanges = TcpExchanges(config.routes, self._pools)
        counters = self.counters[config.name]
        parts = TcpParts(config, exchanges, self._tcp_upstreams, counters, self.access_log, self._evidence.failed)
        return TcpListenerShell(parts, self._sockets[config.name])

    # ------------------------------------------------------------------------------ evidence and timers

    def _radius_refused(self, exchange: RadiusExchange) -> None:
        self._evidence.refused(exchange.backend, "port_unreachable")

    def _http_failed(self, exchange: HttpExchange, failure: BackendFailure) -> None:
        if exchange.backend is not None:
            self._evidence.failed(exchange.backend, failure.reason)

    def _answers_wait(self) -> None:
        """Answers came over TLS: those for UDP clients go out at the end of this round."""
        self._writes.add(self._flush_datagrams)

    def _tend_pools(self, now: float) -> None:
        for pool in self._pools.values():
            pool.tick(now)
            if pool.line.waiting:  # a backend may have come up
                for parts in self._http_parts.values():
                    parts.call_next(pool)

    def _flush_datagrams(self) -> None:
        for listener in self._radius:
            listener.flush()
        for radsec in self._radsec:  # what a backend refused goes to another one
            radsec.dispatches.flush()
        if self.access_log is not None and self.access_log.is_worth_a_flush:
            self.access_log.flush(time())

    def _radius_dispatches(self) -> list[RadiusDispatch]:
        return [dispatch for dispatches in self._dispatches.values() for dispatch in dispatches.values()]

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._ticks += 1
        now = monotonic()
        self._tend_pools(now)
        self._evidence.tick()
        for dispatch in self._radius_dispatches():
            dispatch.tick()
        if self.access_log is not None:
            self.access_log.flush(time())
        if self._ticks % _SLOW_TICKS:
            return
        self.pins.expire(now)
        for dispatch in self._radius_dispatches():
            dispatch.expire(now)
        for radsec in self._radsec:
            radsec.tick()
        for stream in self._streams:
            stream.tick()
        for upstream in self._upstreams.values():
            upstream.tick(now)


def _counters(listener: HttpListener | TcpListener | RadiusListener | RadsecListener) -> ListenerCounters:
    return ListenerCounters(listener.name, listener.protocol)
