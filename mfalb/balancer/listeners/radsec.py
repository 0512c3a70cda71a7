"""A RadSec listener (RADIUS over TLS, RFC 6614): who may connect, and the connections that are open."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from mfalb.balancer.config.radsec_models import RadsecLimits
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.listeners.radsec_clients import RadsecClients
from mfalb.balancer.listeners.radsec_connection import RadsecConnection
from mfalb.balancer.listeners.radsec_dispatches import RadsecDispatches
from mfalb.errors import MalformedMessage
from mfalb.net.arrivals import Arrivals
from mfalb.net.lifecycle import Tasks
from mfalb.net.peer_certificate import PeerCertificate, peer_certificate_untrusted
from mfalb.net.rounds import WriteRound
from mfalb.telemetry.rare_log import RareLog

_BACKLOG: Final = 1024
_SHUTDOWN_TIMEOUT_S: Final = 5.0
_KEY_BYTES: Final = 8

_log = logging.getLogger("mfalb.listeners.radsec")


class RadsecListener:
    """Owns the bound sockets it is given and the connections that arrive on them, from their first byte on."""

    def __init__(
        self,
        dispatches: RadsecDispatches,
        clients: RadsecClients,
        limits: RadsecLimits,
        tls: ssl.SSLContext,
        writes: WriteRound,
    ) -> None:
        self.dispatches = dispatches
        self.writes = writes
        self._clients = clients
        self._limits = limits
        self._tls = tls
        self._keys = itertools.count()
        self._arrivals = Arrivals(self._begin, _log)
        self._connections: set[RadsecConnection] = set()
        self._handshakes = Tasks("radsec handshakes")
        self._rare_log = RareLog(_log)
        self._is_flush_due = False
        self._is_leaving = False

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on these, which are closed with the listener."""
        self._arrivals.start(sockets, _BACKLOG)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def retire(self) -> None:
        """Accept nobody more. Connections that are open go on until they are idle for too long."""
        self._arrivals.stop()

    def say_goodbye(self) -> None:
        """Read nothing more from who is connected: each leaves once what it asked is answered."""
        self._is_leaving = True
        for connection in self._connections:
            connection.stop_reading()

    async def close(self) -> None:
        """Accept nobody more and let go of everyone."""
        self.retire()
        await self._handshakes.close()
        for connection in list(self._connections):
            connection.abort()
        self.dispatches.close()

    def tick(self) -> None:
        """Close who has been idle for too long and waits for nothing. Called about once a second."""
        if self._is_leaving:
            self._part()
            return
        latest = monotonic() - self._limits.idle_timeout_s
        idle = [one for one in self._connections if one.source is not None and one.active_at < latest]
        busy = self.dispatches.busy_sources() if idle else set()
        for connection in idle:
            if connection.source not in busy:
                self.dispatches.lost("idle_timeout")
                connection.abort()

    def _part(self) -> None:
        busy = self.dispatches.busy_sources()
        for connection in [one for one in self._connections if one.transport is not None]:
            connection.stop_reading()  # its handshake may have ended since
            if connection.source not in busy:
                connection.end()

    # ------------------------------------------------------------------------------ arrivals

    def _begin(self, arrived: socket.socket, host: str) -> None:
        if len(self._connections) >= self._limits.connections:
            self.dispatches.lost("connection_limit")
            arrived.close()
            return
        arrived.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = RadsecConnection(self)
        self._connections.add(connection)
        self.dispatches.counters.connections = len(self._connections)
        self._handshakes.start("handshake", self._shake_hands(connection, arrived, host))

    async def _shake_hands(self, connection: RadsecConnection, arrived: socket.socket, host: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: connection,
                arrived,
                ssl=self._tls,
                ssl_handshake_timeout=self._limits.handshake_timeout_s,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
            )
        except ssl.SSLCertVerificationError as error:
            self._refused("client_certificate_refused", error.verify_message, host)
        except ssl.SSLError as error:
            reason = error.reason or "no reason given"
            is_bare = reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
            self._refused("client_certificate_missing" if is_bare else "tls_failed", reason, host)
        except OSError as error:  # it left, or was too slow
            _log.debug("no handshake", extra={"host": host, "reason": type(error).__name__})
            self.dispatches.lost("handshake_aborted")
        finally:
            if connection.transport is None:
                self.forget(connection)

    def _refused(self, reason: str, detail: str, host: str) -> None:
        self.dispatches.lost(reason)
        facts = {"listener": self.dispatches.counters.name, "host": host, "reason": detail}
        self._rare_log.warning(reason, "a client's TLS handshake failed", facts)

    # ------------------------------------------------------------------------------ what a connection asks for

    def admit(self, connection: RadsecConnection) -> RadiusPeer | None:
        transport = connection.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        if transport is None or not peer:
            return None  # it left during the handshake
        der: bytes = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        try:
            certificate = peer_certificate_untrusted(der)
        except MalformedMessage as error:
            self._refused(error.reason, "cannot be read", peer[0])
            return None
        client = self._clients.find(peer[0], certificate)
        if client is None:
            self._unknown(peer[0], certificate)
        return client

    def _unknown(self, host: str, certificate: PeerCertificate) -> None:
        """An authority that we trust vouches for it, and yet it is nobody's: most likely not configured yet."""
        self.dispatches.lost("unknown_client")
        facts: dict[str, str | Callable[[], str]] = {
            "host": host,
            "dns_names": " ".join(certificate.dns_names),
            "common_name": " ".join(certificate.common_names),
            "fingerprint": certificate.fingerprint,
        }
        self._rare_log.warning("unknown_client", "a certificate of no configured client", facts)

    def next_key(self) -> bytes:
        return next(self._keys).to_bytes(_KEY_BYTES, "big")

    def broken(self, connection: RadsecConnection, reason: str) -> None:
        if connection.source is not None:
            name = connection.source.client.name
            facts = {
                "listener": self.dispatches.counters.name,
                "client": name,
                "host": connection.host(connection.source.peer),
                "reason": reason,
            }
            self._rare_log.warning(f"{name}/{reason}", "a connection is closed for what came on it", facts)

    def forget(self, connection: RadsecConnection) -> None:
        self._connections.discard(connection)
        self.dispatches.counters.connections = len(self._connections)

    def flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self.writes.add(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        self.dispatches.flush()
