"""TLS connections towards the RADIUS backends of one pool (RadSec, RFC 6614): opened when needed, and kept.

Rules of failure (the house, section 7). While a connection cannot be had, nothing was sent: another backend at once.
When one is lost its requests were sent, and may be acted upon: they wait. A client's next retransmit goes out over
another connection to the *same* backend, never to a second one, until health says that the first is down. On one
connection nothing is sent twice (RFC 6613 section 2.6.1): TCP does that.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.radius_carrier import NO_SOCKET, Events, RadiusCarrier, Sign, rests_until
from mfalb.balancer.upstreams.radsec_link import RadsecLink
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.net.lifecycle import Tasks
from mfalb.net.rounds import WriteRound
from mfalb.net.udp_sockets import is_local_shortage
from mfalb.telemetry.rare_log import RareLog

# Per backend: 4,096 exchanges in flight. FreeRADIUS takes as many connections of one client (`max_connections` 16).
# Past it new requests are dropped and counted.
LINK_LIMIT: Final = 16
FIRST_PAUSE_S: Final = 0.5  # after a connection that failed; twice as long after each next one
LAST_PAUSE_S: Final = 30.0
_NOWHERE: Final = object()  # carries what waits to be told that it was not sent

_log = logging.getLogger("mfalb.upstreams.radsec")


def pause_s(failures: int, spread: float) -> float:
    """How long to wait after so many failures in a row; `spread` in [0, 1) takes away up to half.

    Several nodes, and several pools, must not come back to a server that restarts all at the same moment.
    """
    longest_s = min(LAST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
    return longest_s * (1 - spread / 2)


@dataclass(slots=True)
class _Station:
    """A backend, the links to it, and when the next one may be tried."""

    backend: Backend
    links: list[RadsecLink] = field(default_factory=list)
    failures: int = 0
    retry_at: float = 0.0


@dataclass(slots=True)
class RadsecWiring:
    """What the upstream of a pool is wired to.

    `backend_failed` takes evidence for health, with its reason. `after_events` is called when events were told, for
    the answers that they gave rise to.
    """

    pool: Pool
    tls: ssl.SSLContext
    sign: Sign
    writes: WriteRound
    tasks: Tasks
    backend_failed: Callable[[Backend, str], None]
    after_events: Callable[[], None]


class RadsecUpstream(RadiusCarrier):
    """Carries exchanges to the backends of a pool."""

    def __init__(self, wiring: RadsecWiring, events: Events) -> None:
        tls = wiring.pool.config.upstream_tls
        self.events = events
        self.writes = wiring.writes
        self._wiring = wiring
        self._server_name = tls.server_name if tls is not None else None
        self._tls = wiring.tls
        self._stations = {name: _Station(backend) for name, backend in wiring.pool.backends.items()}
        self._unsent: list[RadiusExchange] = []
        self._rare_log = RareLog(_log)

    def send(self, exchange: RadiusExchange, now: float) -> None:
        """As `RadiusCarrier` says; while a backend is not to be connected to, `unsent` is told at the end of the round.

        Not at once: the next backend may be as far away, and so on, one in the other's call.
        """
        self.release(exchange, now)
        link = self._link(exchange, now)
        exchange.first_sent_at = now
        if link is None:
            exchange.carrier = _NOWHERE
            if not self._unsent:
                self.writes.add(self._tell_unsent)
            self._unsent.append(exchange)
        else:
            self._carry(exchange, link, now)
            exchange.backend.requests += 1

    def resend(self, exchange: RadiusExchange, now: float) -> bool:
        """A client asks again. Only what was on a connection that is lost goes out again, to the same backend."""
        lost: RadsecLink | None = exchange.carrier
        if lost is None or lost is _NOWHERE or not lost.is_dead:
            return False
        try:
            link = self._link(exchange, now)
            if link is None:
                return False
            self.release(exchange, now)
            self._carry(exchange, link, now)
        except (BackendFailure, MalformedMessage):
            return False  # it may still be acted upon: it waits, like any silence
        return True

    def flush(self) -> None:
        """Nothing to do: links write at the end of each round by themselves."""

    def follow(self, backends: Mapping[str, Backend]) -> None:
        """Nothing to do: a listener whose pool over TLS changes is replaced, and its upstreams with it."""

    def release(self, exchange: RadiusExchange, now: float) -> None:
        link: RadsecLink | None = exchange.carrier
        exchange.carrier = None
        if link is not None and link is not _NOWHERE:
            link.identifiers.release(exchange.identifier, rests_until(exchange, now))
            link.backend.active -= 1

    def dropped_by_kernel(self, _backend_name: str) -> int:
        return 0  # TCP waits

    def close(self) -> None:
        for station in self._stations.values():
            links, station.links = station.links, []
            for link in links:
                link.abort()

    # ------------------------------------------------------------------------------ carrying

    def _carry(self, exchange: RadiusExchange, link: RadsecLink, now: float) -> None:
        preferred = None
        if exchange.upstream.secret is exchange.source.client.secret:
            preferred = exchange.request.identifier  # with it the datagram may pass untouched
        identifier = link.identifiers.take(preferred, exchange, now)
        if identifier is None:
            raise BackendFailure(exchange.backend.name, "identifiers_exhausted", sent=False)
        exchange.backend.active += 1
        exchange.carrier, exchange.identifier = link, identifier
        try:
            exchange.datagram = self._wiring.sign(exchange, identifier)
        except BaseException:
            self.release(exchange, now)
            raise
        exchange.sent_at = now
        exchange.transmissions += 1
        link.carry(exchange)

    def _link(self, exchange: RadiusExchange, now: float) -> RadsecLink | None:
        """A link with room, opened now if need be; None while the backend is left alone after failures.

        For what only this backend can go on with it is tried all the same: the only other choice is to refuse it.
        """
        station = self._stations[exchange.backend.name]
        for link in station.links:
            if link.has_room:
                return link
        if len(station.links) >= LINK_LIMIT:
            raise BackendFailure(station.backend.name, "identifiers_exhausted", sent=False)
        if now < station.retry_at and not exchange.is_bound:
            return None
        link = RadsecLink(self, station.backend)
        station.links.append(link)
        self._wiring.tasks.start(f"connect {station.backend.name}", self._connect(station, link))
        return link

    def _tell_unsent(self) -> None:
        unsent, self._unsent = self._unsent, []
        for exchange in unsent:
            if exchange.carrier is _NOWHERE:  # else it is over by now
                self.events.unsent(exchange)
        self.events_told()

    # ------------------------------------------------------------------------------ links that come and go

    async def _connect(self, station: _Station, link: RadsecLink) -> None:
        # The configured address: over TLS each connection looks its host up by itself
        host, port = station.backend.config.address
        try:
            async with asyncio.timeout(self._wiring.pool.config.connect_timeout_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: link, host, port, ssl=self._tls, server_hostname=self._server_name or host
                )
        except TimeoutError:
            self._failed(station, link, "connect_timeout", "no answer")
        except ssl.SSLCertVerificationError as error:
            self._failed(station, link, "tls_failed", error.verify_message)
        except ssl.SSLError as error:
            self._failed(station, link, "tls_failed", error.reason or "no reason given")
        except ConnectionRefusedError:
            self._failed(station, link, "connect_refused", "connection refused")
        except OSError as error:
            reason = NO_SOCKET if is_local_shortage(error) else "connect_failed"
            self._failed(station, link, reason, error.strerror or type(error).__name__)

    def _failed(self, station: _Station, link: RadsecLink, reason: str, detail: str) -> None:
        """Nothing of what the link holds has reached the backend."""
        link.abort()
        if link in station.links:
            station.links.remove(link)
            self._back_off(station)
            facts = {"backend": station.backend.name, "reason": reason, "detail": detail}
            self._rare_log.warning(f"{station.backend.name}/{reason}", "cannot connect to a backend", facts)
            if reason != NO_SOCKET:
                self._wiring.backend_failed(station.backend, reason)
            for exchange in link.identifiers.holders():
                if reason == NO_SOCKET:
                    self.events.not_sent(exchange, reason, monotonic())
                else:
                    self.events.unsent(exchange)
            self.events_told()

    def _back_off(self, station: _Station) -> None:
        station.failures += 1
        spread = random.random()  # noqa: S311 - spreads load, guards nothing
        station.retry_at = monotonic() + pause_s(station.failures, spread)

    def link_proved(self, link: RadsecLink) -> None:
        station = self._stations[link.backend.name]
        station.failures, station.retry_at = 0, 0.0

    def link_lost(self, link: RadsecLink, error: Exception | None) -> None:
        station = self._stations[link.backend.name]
        if link not in station.links:
            return
        if isinstance(error, ssl.SSLError) and not link.has_received:
            # In TLS 1.3 a client is done before the server has judged its certificate: this alert is the verdict, and
            # a server that says so has read nothing of what came behind the handshake.
            self._failed(station, link, "tls_failed", error.reason or "no reason given")
            return
        station.links.remove(link)
        waiting = len(link.identifiers.holders())
        if not waiting and link.has_proved:
            return  # a server that closes what is idle
        reason = link.fault or "connection_lost"
        facts = {"backend": station.backend.name, "reason": reason, "waiting": str(waiting)}
        self._rare_log.warning(f"{station.backend.name}/{reason}", "a backend's connection ended", facts)
        if link.has_proved:
            now = monotonic()
            station.backend.suspect(now, now)
        else:
            self._back_off(station)
            self._wiring.backend_failed(station.backend, reason)

    def events_told(self) -> None:
        self._wiring.after_events()
