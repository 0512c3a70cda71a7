"""UDP sockets towards the RADIUS backends of one pool, and the identifiers on each.

A socket is connected to its backend, so the kernel discards what comes from anyone else. One socket carries 256
exchanges; more are opened as they are needed, up to a stated limit, and kept.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from mfalb.balancer.exchange.flight_log import Flight
from mfalb.balancer.exchange.identifiers import IdentifierTable
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.upstreams.custody import Custody, KeptSocket
from mfalb.balancer.upstreams.radius_carrier import NO_SOCKET, Events, RadiusCarrier, Sign, rests_until
from mfalb.errors import BackendFailure
from mfalb.net.datagram_form import Wrap
from mfalb.net.datagram_poller import DatagramPoller
from mfalb.net.datagrams import Datagram, DatagramSocket
from mfalb.net.udp_sockets import connected_socket, is_local_shortage
from mfalb.telemetry.rare_log import RareLog
from mfalb.wire.radius import HEADER_BYTES

# Per backend: 32,768 exchanges in flight, so that a listener's in_flight_limit (20,000 by default) is met first, even
# with one backend left. Past it new requests are dropped and counted.
SOCKET_LIMIT: Final = 128
# So many are opened just to have a client's own identifier free on one of them: its bytes then pass untouched, at half
# the cost of signing anew (bench/radius.py, one secret on both sides).
UNTOUCHED_SOCKETS: Final = 8

_log = logging.getLogger("mfalb.upstreams.radius")


class UpstreamSocket:
    """One connected socket and who holds its identifiers."""

    __slots__ = ("address", "backend", "identifiers", "io", "number", "outbox")

    def __init__(self, backend: Backend, io: DatagramSocket, number: int = 0) -> None:
        self.backend = backend
        self.address = backend.address
        self.io = io
        self.number = number
        self.identifiers: IdentifierTable[RadiusExchange] = IdentifierTable()
        self.outbox: list[Datagram] = []


_Aside = tuple[float, UpstreamSocket, int, bytes]  # until when, where, the identifier, the flight's key


class RadiusUpstream(RadiusCarrier):
    """Carries exchanges to the backends of a pool. `flush` sends what has gathered since the last one."""

    def __init__(self, poller: DatagramPoller, wrap: Wrap, events: Events, sign: Sign, custody: Custody) -> None:
        self._poller = poller
        self._wrap = wrap
        self._events = events
        self._sign = sign
        self._sockets: dict[str, list[UpstreamSocket]] = {}
        self._waiting: list[UpstreamSocket] = []
        self._leaving: list[UpstreamSocket] = []
        self._rare_log = RareLog(_log)
        self._custody = custody
        self._flight_log = custody.log
        self._aside: deque[_Aside] = deque()  # until when, the first first

    def adopt(self, backends: Mapping[str, Backend], response_timeout_s: float) -> None:
        """Go on with a predecessor's sockets, and set aside what it may have been asking under.

        Of one that handed over it is known what that was: `take_up` is told each.
        """
        now = monotonic()
        adopted = {}
        for kept in self._custody.kept:
            backend = backends.get(kept.backend)
            if backend is not None and kept.leads_to(backend.address):
                adopted[kept.number] = self._adopt(kept, backend)
            else:  # a reload has moved it since
                self._custody.let_go(kept.number)
                kept.socket.close()
        if not adopted or self._custody.is_handed:
            return
        noted = self._flight_log.take_over(adopted, now - response_timeout_s)
        flights = self._custody.flights
        for one in reversed(noted):
            upstream, until = adopted[one.socket], one.sent_at + response_timeout_s
            key = one.key + one.authenticator
            flights[key] = Flight(upstream.backend.name, one.entropy, one.socket, one.identifier, until)
            upstream.identifiers.set_aside(one.identifier)
            self._aside.append((until, upstream, one.identifier, key))

    def _adopt(self, kept: KeptSocket, backend: Backend) -> UpstreamSocket:
        upstream = UpstreamSocket(backend, self._wrap(kept.socket, is_connected=True), kept.number)
        self._poller.watch(kept.socket, self._reader(upstream), first=True)
        self._sockets.setdefault(backend.name, []).append(upstream)
        return upstream

    def expire(self, now: float) -> None:
        """Nobody asks again for what a predecessor sent so long ago, nor waits where a backend was once."""
        for upstream in [one for one in self._leaving if not one.identifiers.held]:
            self._leaving.remove(upstream)
            self._custody.let_go(upstream.number)
            self._close(upstream)
        while self._aside and self._aside[0][0] <= now:
            self._give_back()

    def _give_back(self) -> None:
        _, upstream, identifier, key = self._aside.popleft()
        upstream.identifiers.give_back(identifier)
        self._custody.flights.pop(key, None)

    def send(self, exchange: RadiusExchange, now: float) -> None:
        """Give the exchange an identifier at its backend and send it.

        Raises BackendFailure (nothing sent) when no identifier or socket can be had, and MalformedMessage when the
        request does not fit a packet once it is signed.
        """
        self.release(exchange, now)
        carrier = self._hold(exchange, now)
        try:
            exchange.datagram = self._sign(exchange, exchange.identifier)
        except BaseException:
            self.release(exchange, now)
            raise
        exchange.backend.requests += 1
        exchange.first_sent_at = now
        self._flight_log.note(exchange, carrier.number, now)  # before it is sent, so that none is sent unnoted
        self._queue(exchange, carrier, now)

    def resend(self, exchange: RadiusExchange, now: float) -> bool:
        """Send the same bytes once more, from the same socket: a backend must be able to see a retransmit as one."""
        carrier: UpstreamSocket | None = exchange.carrier
        if carrier is not None:
            self._queue(exchange, carrier, now)
        return carrier is not None

    def take_up(self, exchange: RadiusExchange, number: int, identifier: int) -> bool:
        for upstream in self._sockets.get(exchange.backend.name, ()):
            if upstream.number == number and upstream.identifiers.is_rested(identifier, 0.0):
                upstream.identifiers.take(identifier, exchange, 0.0)
                upstream.backend.active += 1
                exchange.carrier, exchange.identifier = upstream, identifier
                exchange.datagram = self._sign(exchange, identifier)
                self._flight_log.note(exchange, number, exchange.first_sent_at)
                return True
        return False

    def number_of(self, exchange: RadiusExchange) -> int:
        carrier: UpstreamSocket | None = exchange.carrier
        return 0 if carrier is None else carrier.number

    def _queue(self, exchange: RadiusExchange, carrier: UpstreamSocket, now: float) -> None:
        exchange.sent_at = now
        exchange.transmissions += 1
        if not carrier.outbox:
            self._waiting.append(carrier)
        carrier.outbox.append((exchange.datagram, b""))

    def flush(self) -> None:
        while self._waiting:  # again when something goes to another backend; each is tried once
            waiting, self._waiting = self._waiting, []
            for upstream in waiting:
                outbox, upstream.outbox = upstream.outbox, []
                if upstream.io.send(outbox) < len(outbox):
                    self._tell_unsent(upstream)

    def _tell_unsent(self, upstream: UpstreamSocket) -> None:
        """What the kernel did not take was not sent: unless an earlier copy was, nobody can have received it."""
        now, lost = monotonic(), 0
        for data in list(upstream.io.unsent()):
            exchange = upstream.identifiers.holder(data[1])
            if exchange is None or exchange.datagram != data:
                continue
            lost += 1
            exchange.transmissions -= 1
            if exchange.transmissions == 0:
                self._events.not_sent(exchange, "send_failed", now)
        facts = {"backend": upstream.backend.name, "count": str(lost)}
        self._rare_log.warning(f"{upstream.backend.name}/send", "the kernel takes nothing for a backend", facts)

    def release(self, exchange: RadiusExchange, now: float) -> None:
        carrier: UpstreamSocket | None = exchange.carrier
        if carrier is not None:
            carrier.identifiers.release(exchange.identifier, rests_until(exchange, now))
            carrier.backend.active -= 1
            exchange.carrier = None

    def dropped_by_kernel(self, backend_name: str) -> int:
        return sum(upstream.io.dropped_by_kernel() for upstream in self._sockets.get(backend_name, ()))

    def follow(self, backends: Mapping[str, Backend]) -> None:
        for name, sockets in list(self._sockets.items()):
            backend = backends.get(name)
            if backend is None or any(one.address != backend.address for one in sockets):
                self._leaving += self._sockets.pop(name)

    def let_go_of_sockets(self) -> None:
        self.close()

    def close(self) -> None:
        for sockets in (*self._sockets.values(), self._leaving):
            for upstream in sockets:
                self._close(upstream)
        self._sockets.clear()
        self._leaving.clear()

    def _close(self, upstream: UpstreamSocket) -> None:
        self._poller.forget(upstream.io.socket)
        upstream.io.socket.close()

    # ----------------------------------------------------------------------------------------------

    def _hold(self, exchange: RadiusExchange, now: float) -> UpstreamSocket:
        """The socket that will carry the exchange, which holds an identifier there from now on."""
        backend, preferred = exchange.backend, None
        sockets = self._sockets.setdefault(backend.name, [])
        if exchange.flight is not None:
            was = _resumed(exchange, sockets)
            if was is not None:
                return was
        if exchange.upstream.secret is exchange.source.client.secret:
            preferred = exchange.request.identifier  # with it the datagram may pass untouched
        chosen = _with_room(sockets, preferred, now)
        if chosen is None or (
            preferred is not None
            and len(sockets) < UNTOUCHED_SOCKETS
            and not chosen.identifiers.is_rested(preferred, now)
        ):
            chosen = self._open(backend, sockets)
        identifier = chosen.identifiers.take(preferred, exchange, now)
        if identifier is None:
            raise BackendFailure(backend.name, "identifiers_exhausted", sent=False)
        backend.active += 1
        exchange.carrier, exchange.identifier = chosen, identifier
        return chosen

    def _open(self, backend: Backend, sockets: list[UpstreamSocket]) -> UpstreamSocket:
        if len(sockets) >= SOCKET_LIMIT:
            while self._aside:  # what is asked now comes before what may be asked again
                self._give_back()
                chosen = _with_room(sockets, None, 0.0)
                if chosen is not None:
                    return chosen
            facts = {"backend": backend.name}
            self._rare_log.warning(f"{backend.name}/identifiers", "every identifier of a backend is in use", facts)
            raise BackendFailure(backend.name, "identifiers_exhausted", sent=False)
        try:
            sock = connected_socket(backend.address.host, backend.address.port)
        except OSError as error:
            raise self._no_socket(backend, error) from error
        try:
            upstream = UpstreamSocket(backend, self._wrap(sock, is_connected=True))
            # RFC 5080 section 2.2.3: answers before requests
            self._poller.watch(sock, self._reader(upstream), first=True)
        except OSError as error:
            sock.close()
            raise self._no_socket(backend, error) from error
        upstream.number = self._custody.opened(backend.name, sock)
        sockets.append(upstream)
        return upstream

    def _no_socket(self, backend: Backend, error: OSError) -> BackendFailure:
        """What to call a lack of ours (descriptors, memory), and what a way that is missing: a metric label each."""
        facts = {"backend": backend.name, "reason": error.strerror or type(error).__name__}
        if is_local_shortage(error):
            self._rare_log.warning(f"{backend.name}/socket", "cannot open a socket", facts)
            return BackendFailure(backend.name, NO_SOCKET, sent=False)
        self._rare_log.warning(f"{backend.name}/unreachable", "backend unreachable", facts)
        now = monotonic()
        backend.suspect(now, now)  # no proof either: its watchdog looks into it
        return BackendFailure(backend.name, "unreachable", sent=False)

    def _reader(self, upstream: UpstreamSocket) -> Callable[[], None]:
        events, holder_of, receive = self._events, upstream.identifiers.holder, upstream.io.receive

        def read() -> None:
            try:
                datagrams = receive()
            except ConnectionRefusedError:
                datagrams = []
            except OSError as error:
                facts = {"backend": upstream.backend.name, "reason": error.strerror or type(error).__name__}
                self._rare_log.warning(f"{upstream.backend.name}/unreachable", "backend unreachable", facts)
                datagrams = []
            if not datagrams:
                self._refusals(upstream)
            now = monotonic()
            for data, _ in datagrams:
                exchange = holder_of(data[1]) if len(data) >= HEADER_BYTES else None
                if exchange is None:
                    events.stray_answer()
                    continue
                try:
                    events.answered(exchange, data, now)
                except Exception as error:  # noqa: BLE001 - a fault of ours, in one datagram: the rest is served
                    events.failed(error)

        return read

    def _refusals(self, upstream: UpstreamSocket) -> None:
        """Woken with nothing to read: the host refused datagrams. Tell the exchanges that they belong to."""
        for data in upstream.io.refused():
            exchange = upstream.identifiers.holder(data[1]) if len(data) >= HEADER_BYTES else None
            if exchange is not None and exchange.datagram[:HEADER_BYTES] == data[:HEADER_BYTES]:
                self._events.refused(exchange)


def _resumed(exchange: RadiusExchange, sockets: list[UpstreamSocket]) -> UpstreamSocket | None:
    """The socket where a predecessor held the exchange, which holds its old identifier there again; None if it cannot.

    It was sent from there before, which the exchange counts as a transmission.
    """
    flight, exchange.flight = exchange.flight, None
    for upstream in sockets:
        if upstream.number == flight.socket and upstream.identifiers.reclaim(flight.identifier, exchange):
            upstream.backend.active += 1
            exchange.carrier, exchange.identifier = upstream, flight.identifier
            return upstream
    return None


def _with_room(sockets: list[UpstreamSocket], preferred: int | None, now: float) -> UpstreamSocket | None:
    """The first socket where the preferred identifier is rested, else the first where any is free."""
    chosen = None
    for upstream in sockets:
        if preferred is not None and upstream.identifiers.is_rested(preferred, now):
            return upstream
        if chosen is None and upstream.identifiers.has_room:
            chosen = upstream
            if preferred is None:
                break
    return chosen
