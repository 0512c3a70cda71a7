"""RADIUS listeners of a worker, over UDP and TLS: begun, changed, left to end."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mfalb.balancer.config.radius_models import RadiusListener, ServiceKind
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.exchange.handed_exchanges import HandedService
from mfalb.balancer.exchange.radius_assembly import AnyRadiusListener, RadiusAssembly
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_peer import RadiusPeer, Secrets
from mfalb.balancer.exchange.radius_service import RadiusService
from mfalb.balancer.listeners.radius import RadiusListener as RadiusListenerShell
from mfalb.balancer.listeners.radius_clients import RadiusClients
from mfalb.balancer.listeners.radius_dispatch import RadiusDispatch, RadiusParts
from mfalb.balancer.listeners.radsec import RadsecListener as RadsecListenerShell
from mfalb.balancer.listeners.radsec_clients import RadsecClients
from mfalb.balancer.listeners.radsec_dispatches import RadsecDispatches
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.custody import Custody, SocketKeeper
from mfalb.balancer.upstreams.radius import RadiusUpstream
from mfalb.balancer.upstreams.radius_carrier import Events, RadiusCarrier, Sign
from mfalb.balancer.upstreams.radsec import RadsecUpstream, RadsecWiring
from mfalb.balancer.wiring.parts import Wiring
from mfalb.net.datagram_form import DatagramForm, Wrap, datagram_form
from mfalb.net.datagram_poller import DatagramPoller

_log = logging.getLogger("mfalb.worker")


def has_same_frame(one: AnyRadiusListener, other: AnyRadiusListener) -> bool:
    """Whether a listener can become another without being opened anew. One over TLS cannot."""
    if isinstance(one, RadsecListener) or isinstance(other, RadsecListener):
        return False
    return (one.bind, one.service, one.pool) == (other.bind, other.service, other.pool)


def _owner(listener: str, kind: ServiceKind) -> str:
    """Whose sockets towards backends they are."""
    return f"{listener}/{kind}"


class RadiusMeans(NamedTuple):
    """What RADIUS needs besides: see `WorkerParts`."""

    poller: DatagramPoller
    keeper: SocketKeeper
    mark: Callable[[str], bytes]
    handed: Mapping[str, HandedService]  # by the owner of a service's sockets


class Radius:
    """The RADIUS listeners of a worker, by name. `flush` is what sends answers that came over TLS."""

    def __init__(self, wiring: Wiring, means: RadiusMeans, flush: Callable[[], None]) -> None:
        self._wiring = wiring
        self._poller = means.poller
        self._keeper = means.keeper
        self._handed = means.handed
        self._flush = flush
        self._secrets = Secrets()
        self._assembly = RadiusAssembly(wiring.pools, wiring.pins, self._secrets, means.mark)
        self._shells: dict[str, RadiusListenerShell] = {}
        self._radsec: dict[str, RadsecListenerShell] = {}
        self._leaving: list[RadsecListenerShell] = []
        self._dispatches: dict[str, dict[ServiceKind, RadiusDispatch]] = {}
        self._datagrams: DatagramForm | None = None
        self.peers: dict[str, tuple[list[RadiusPeer], list[RadiusPeer]]] = {}

    def add(self, listener: AnyRadiusListener, sockets: Sequence[socket.socket]) -> None:
        """Serve one more. Raises OSError and ssl.SSLError."""
        if isinstance(listener, RadsecListener):
            self._add_radsec(listener, sockets)
            return
        clients = RadiusClients(listener.clients, self._secrets)
        dispatch = self._dispatches_of(listener, clients.peers)[listener.service]
        wrap = self._datagram_wrap()
        wrapped = [wrap(sock, is_connected=False) for sock in sockets]
        shell = self._shells[listener.name] = RadiusListenerShell(dispatch, clients, self._poller, wrapped)
        handed = self._handed.get(_owner(listener.name, listener.service))
        if handed is not None:
            shell.take_up(handed)

    def change(self, listener: AnyRadiusListener) -> None:
        """Be what the configuration says now. What is in flight or was answered is still known by its duplicates."""
        shell = self._shells[listener.name]
        if not isinstance(listener, RadiusListener):
            return
        former, _ = self.peers[listener.name]
        clients = RadiusClients(listener.clients, self._secrets)
        dropped = {peer.name: peer.drops for peer in former}
        for peer in clients.peers:
            peer.drops = dropped.get(peer.name, peer.drops)
        kind = listener.service
        counters = self._wiring.counters[listener.name]
        exchanges = self._assembly.exchanges(listener, kind, counters.unhandled_hidden)
        dispatch = self._dispatches[listener.name][kind]
        dispatch.follow(exchanges)
        self.peers[listener.name] = (clients.peers, list(exchanges.service.upstreams.values()))
        shell.follow(clients)

    def remove(self, name: str) -> None:
        """Nobody is heard any more. What is in flight over UDP is lost; over TLS connections end in peace."""
        if name in self._shells:
            self._shells.pop(name).close()
        else:
            shell = self._radsec.pop(name)
            shell.retire()
            self._leaving.append(shell)
        del self._dispatches[name]
        del self.peers[name]

    # ------------------------------------------------------------------------------ another worker goes on

    def retire(self) -> None:
        """Read nothing more from clients over UDP; nobody new over TLS, and nothing new from who is connected."""
        for shell in self._shells.values():
            shell.stop_reading()
        for radsec in self._radsec.values():
            radsec.retire()
            radsec.say_goodbye()

    @property
    def is_settled(self) -> bool:
        """Whether `hand_over` would find everything."""
        return all(shell.dispatch.is_settled for shell in self._shells.values())

    def hand_over(self) -> list[HandedService]:
        """What another worker goes on with, who has our sockets."""
        return [
            shell.hand_over(_owner(name, kind))
            for name, shell in self._shells.items()
            for kind in self._dispatches[name]
        ]

    @property
    def left(self) -> int:
        """What is still to be answered from here, and who may still wait for something."""
        under_way = sum(len(shell.dispatch.exchanges.under_way()) for shell in self._shells.values())
        return under_way + sum(one.connections for one in (*self._radsec.values(), *self._leaving))

    # ------------------------------------------------------------------------------ timers

    def flush(self) -> None:
        """Send what has gathered."""
        for shell in self._shells.values():
            shell.flush()
        for radsec in (*self._radsec.values(), *self._leaving):  # what a backend refused goes to another one
            radsec.dispatches.flush()

    def tick(self) -> None:
        """A few times a second."""
        for dispatch in self._all():
            dispatch.tick()

    def expire(self, now: float) -> None:
        """About once a second."""
        for dispatch in self._all():
            dispatch.expire(now)
        for radsec in (*self._radsec.values(), *self._leaving):
            radsec.tick()
        for radsec in [one for one in self._leaving if not one.connections]:
            self._leaving.remove(radsec)
            radsec.dispatches.close()

    async def close(self) -> None:
        for shell in self._shells.values():
            shell.close()
        for radsec in (*self._radsec.values(), *self._leaving):
            await radsec.close()

    # ------------------------------------------------------------------------------ numbers

    def by_listener(self, count: Callable[[RadiusDispatch], int]) -> dict[str, int]:
        """A sum over the services of each listener."""
        return {name: sum(map(count, dispatches.values())) for name, dispatches in self._dispatches.items()}

    def listener_kernel_drops(self) -> dict[str, int]:
        return {name: shell.dropped_by_kernel() for name, shell in self._shells.items()}

    def backend_kernel_drops(self) -> dict[tuple[str, str], int]:
        drops: Counter[tuple[str, str]] = Counter()
        for dispatch in self._all():
            for name in dispatch.pool.backends:
                drops[dispatch.pool.name, name] += dispatch.upstream.dropped_by_kernel(name)
        return drops

    # ------------------------------------------------------------------------------ parts

    def _all(self) -> list[RadiusDispatch]:
        return [dispatch for dispatches in self._dispatches.values() for dispatch in dispatches.values()]

    def _add_radsec(self, listener: RadsecListener, sockets: Sequence[socket.socket]) -> None:
        clients = RadsecClients(listener.clients, self._secrets)
        dispatches = RadsecDispatches(self._dispatches_of(listener, clients.peers))
        tls = self._wiring.tls_files.server(listener.name, listener.tls.files)
        shell = RadsecListenerShell(dispatches, clients, listener.limits, tls, self._wiring.writes)
        shell.start(list(sockets))
        self._radsec[listener.name] = shell

    def _dispatches_of(
        self, listener: AnyRadiusListener, clients: list[RadiusPeer]
    ) -> dict[ServiceKind, RadiusDispatch]:
        """The middle of a RADIUS listener: a dispatch for each of its services, the listener's own first."""
        wiring = self._wiring
        made = self._dispatches[listener.name] = {}
        self._assembly.is_shared = wiring.sharing is not None
        backends: list[RadiusPeer] = []
        self.peers[listener.name] = (clients, backends)
        counters, told_unhandled = wiring.count(listener.name, listener.protocol), set[str]()
        for kind in listener.pools:
            exchanges = self._assembly.exchanges(listener, kind, counters.unhandled_hidden)
            backends += exchanges.service.upstreams.values()
            parts = RadiusParts(exchanges, wiring.pins, counters, wiring.access_log, self._refused, told_unhandled)
            parts.sharing = wiring.sharing
            custody = self._keeper.custody(_owner(listener.name, kind))
            exchanges.flights = custody.flights
            made[kind] = RadiusDispatch(parts, self._upstream_of(exchanges.service, custody))
        return made

    def _upstream_of(self, service: RadiusService, custody: Custody) -> Callable[[Events], RadiusCarrier]:
        def upstream(events: Events) -> RadiusCarrier:
            pool = service.pool
            tls = self._wiring.tls_towards(pool)
            if tls is not None:
                return self._upstream_over_tls(pool, tls, events, service.upstream_datagram)
            made = RadiusUpstream(self._poller, self._datagram_wrap(), events, service.upstream_datagram, custody)
            made.adopt(pool.backends, pool.config.response_timeout_s)
            return made

        return upstream

    def _upstream_over_tls(self, pool: Pool, tls: ssl.SSLContext, events: Events, sign: Sign) -> RadiusCarrier:
        wiring = self._wiring
        radsec = RadsecWiring(pool, tls, sign, wiring.writes, wiring.tasks, wiring.evidence.refused, self.answers_wait)
        return RadsecUpstream(radsec, events)

    def answers_wait(self) -> None:
        """Answers came over TLS, or were held until their pins were stored: UDP clients get them after this round."""
        self._wiring.writes.add(self._flush)

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

    def _refused(self, exchange: RadiusExchange) -> None:
        self._wiring.evidence.refused(exchange.backend, "port_unreachable")
