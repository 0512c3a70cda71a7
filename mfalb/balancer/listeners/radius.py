"""A RADIUS listener over UDP: batches of datagrams from clients, and the answers to them in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address
from time import monotonic
from typing import Final

from mfalb.balancer.exchange.handed_exchanges import HandedService
from mfalb.balancer.exchange.radius_peer import RadiusSource
from mfalb.balancer.listeners.radius_clients import RadiusClients
from mfalb.balancer.listeners.radius_dispatch import RadiusDispatch
from mfalb.balancer.listeners.radius_hand_over import hand_over, take_up
from mfalb.net.datagram_poller import DatagramPoller
from mfalb.net.datagrams import Datagram, DatagramSocket
from mfalb.net.sockaddr import endpoint_of, host_of

_SOURCES_LIMIT: Final = 65_536  # client sockets remembered; when full they are looked up again
_TAG_BYTES: Final = 2  # more sockets than a process may have descriptors for

_log = logging.getLogger("mfalb.listeners.radius")


class _Endpoint:
    """One bound socket, and who was seen on it. `tag` in a source's key tells two sockets' clients apart.

    On a wildcard address a peer names the address that it asked as well: asking two of them makes two sources.
    """

    __slots__ = ("io", "outbox", "sources", "tag")

    def __init__(self, tag: bytes, io: DatagramSocket) -> None:
        self.tag = tag
        self.io = io
        self.outbox: list[Datagram] = []
        self.sources: dict[bytes, RadiusSource] = {}

    def send(self, datagram: bytes, peer: bytes) -> None:
        self.outbox.append((datagram, peer))

    @property
    def address(self) -> str:
        """The same for another worker's socket of this address."""
        return str(self.io.socket.getsockname())

    def host(self, peer: bytes) -> str:
        return str(ip_address(host_of(peer)))

    def discarded(self, reason: str) -> None:
        """A datagram stands for itself: the next one is read as if nothing had been."""


class RadiusListener:
    """Owns the bound sockets it is given."""

    def __init__(
        self,
        dispatch: RadiusDispatch,
        clients: RadiusClients,
        poller: DatagramPoller,
        sockets: Sequence[DatagramSocket],
    ) -> None:
        self.dispatch = dispatch
        self._clients = clients
        self._poller = poller
        self._endpoints = [_Endpoint(index.to_bytes(_TAG_BYTES, "big"), io) for index, io in enumerate(sockets)]
        for endpoint in self._endpoints:
            poller.watch(endpoint.io.socket, self._reader(endpoint))
        self._is_heard = True

    def close(self) -> None:
        self.stop_reading()
        for endpoint in self._endpoints:
            endpoint.io.socket.close()
        self.dispatch.upstream.close()

    def stop_reading(self) -> None:
        """Another worker reads these sockets. What stays under way here is still answered from them."""
        for endpoint in self._endpoints if self._is_heard else ():
            self._poller.forget(endpoint.io.socket)
        self._is_heard = False

    def hand_over(self, owner: str) -> HandedService:
        """What another worker has to know to go on here. Its sockets towards backends are nobody's here any more."""
        self.flush()
        handed = hand_over(owner, self.dispatch, {one.tag: one.address for one in self._endpoints})
        self.dispatch.upstream.let_go_of_sockets()
        return handed

    def take_up(self, handed: HandedService) -> None:
        """Go on with what another worker did here."""
        by_address = {one.address: one for one in self._endpoints}
        arrived = [(one, by_address[one.address]) for one in handed.endpoints if one.address in by_address]
        take_up(self.dispatch, [(one, mine.tag, partial(self._known_source, mine)) for one, mine in arrived])

    def follow(self, clients: RadiusClients) -> None:
        """Other clients, or other secrets of theirs. A client's socket stays the same source."""
        self._clients = clients
        for endpoint in self._endpoints:
            endpoint.sources.clear()

    def dropped_by_kernel(self) -> int:
        """Datagrams of clients that were lost because nobody read them in time."""
        return sum(endpoint.io.dropped_by_kernel() for endpoint in self._endpoints)

    def flush(self) -> None:
        """Send what has gathered: to backends first, then answers."""
        self.dispatch.upstream.flush()
        for endpoint in self._endpoints:
            if endpoint.outbox:
                outbox, endpoint.outbox = endpoint.outbox, []
                lost = len(outbox) - endpoint.io.send(outbox)
                if lost:
                    self.dispatch.lost("send_buffer_full", lost)  # the client asks again and gets it stored

    def _reader(self, endpoint: _Endpoint) -> Callable[[], None]:
        dispatch, counters, sources = self.dispatch, self.dispatch.counters, endpoint.sources

        def read() -> None:
            now = monotonic()
            datagrams = self._received(endpoint)
            counters.requests += len(datagrams)
            for data, peer in datagrams:
                source = sources.get(peer)
                if source is None:
                    source = self._source(endpoint, peer)
                    if source is None:
                        continue
                try:
                    dispatch.received(data, source, now)
                except Exception as error:  # noqa: BLE001 - a fault of ours, in one datagram: the rest is served
                    dispatch.failed(error)

        return read

    def _known_source(self, endpoint: _Endpoint, peer: bytes) -> RadiusSource | None:
        return endpoint.sources.get(peer) or self._source(endpoint, peer)

    def _source(self, endpoint: _Endpoint, peer: bytes) -> RadiusSource | None:
        """A client's socket that was not seen lately; None, counted, when it is nobody's or a backend's."""
        client = self._clients.find(host_of(peer))
        if client is None:
            self.dispatch.unknown_client(lambda: endpoint.host(peer))
            return None
        if endpoint_of(peer) in self.dispatch.backend_endpoints:
            self.dispatch.looped(client, lambda: endpoint.host(peer))
            return None
        if len(endpoint.sources) >= _SOURCES_LIMIT:
            endpoint.sources.clear()
        source = endpoint.sources[peer] = RadiusSource(client, endpoint.tag + peer, endpoint, peer)
        return source

    def _received(self, endpoint: _Endpoint) -> list[Datagram]:
        try:
            return endpoint.io.receive()
        except OSError as error:  # a client's host refused an earlier answer: nothing to do about it
            self.dispatch.lost("client_unreachable")
            _log.debug("client unreachable", extra={"reason": error.strerror})
            return []
