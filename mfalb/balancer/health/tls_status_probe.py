"""One Status-Server question (RFC 5997) over a TLS connection of its own: RadSec, RFC 6614.

A new connection each time: an old one would not notice that nobody listens any more, nor that a certificate ran out.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass
from typing import Final, cast

from mfalb.balancer.config.values import Address
from mfalb.balancer.health.status_probe import NO_ANSWER, ProbeEvents, status_fault_untrusted, status_request
from mfalb.errors import MalformedMessage
from mfalb.net.lifecycle import Tasks
from mfalb.net.udp_sockets import is_local_shortage
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret
from mfalb.wire.radius_stream import PacketStream

_CONNECT_TIMEOUT_S: Final = 10.0  # the watchdog gives up sooner; this bounds a probe that nobody waits for
_GOODBYE_S: Final = 2.0  # how long a server may take to answer TLS's close_notify before the connection is cut
_IDENTIFIER: Final = 0  # RFC 6613 section 2.6.5: what is kept for such questions


@dataclass(frozen=True, slots=True)
class TlsTarget:
    """Where a backend is asked, whom it has to be, and what both share."""

    address: Address
    server_name: str
    context: ssl.SSLContext
    secret: SharedSecret


class TlsStatusProbe(asyncio.Protocol):
    """A question under way, as `StatusProbe` is one over UDP.

    A connection or handshake that is refused is told as a refusal, as is one that ends before the answer.
    """

    def __init__(self, target: TlsTarget, tasks: Tasks, events: ProbeEvents) -> None:
        self.fault = NO_ANSWER
        self._target = target
        self._tasks = tasks
        self._events = events
        self._authenticator = os.urandom(radius.AUTHENTICATOR_BYTES)
        self._stream = PacketStream()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._is_over = False

    def send(self) -> None:
        """Connect, and ask when the handshake is done."""
        self._task = self._tasks.start("status probe", self._connect())

    def close(self) -> None:
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.close()

    async def _connect(self) -> None:
        target = self._target
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: self,
                    *target.address,
                    ssl=target.context,
                    server_hostname=target.server_name,
                    ssl_shutdown_timeout=_GOODBYE_S,
                )
        except TimeoutError:
            self.fault = "connect timeout"
        except ssl.SSLCertVerificationError as error:
            self._refused(f"TLS: {error.verify_message}")
        except ssl.SSLError as error:
            self._refused(f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}")
        except ConnectionError as error:
            self._refused(error.strerror or "connection closed")
        except OSError as error:
            self.fault = error.strerror or "unreachable"
            if is_local_shortage(error) and not self._is_over:
                self._is_over = True
                self._events.probe_unsent(self)

    # ------------------------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not register as one
        if self._is_over:
            self._transport.abort()
        else:
            self._transport.write(status_request(_IDENTIFIER, self._authenticator, self._target.secret))

    def data_received(self, data: bytes) -> None:
        """A packet that is no answer to this probe does not end it: the server may have questions of its own."""
        try:
            for packet in self._stream.packets_untrusted(data):
                if self._is_over:
                    return
                self._packet(packet)
        except MalformedMessage as error:
            self._refused(error.reason)

    def _packet(self, packet: bytes) -> None:
        fault = status_fault_untrusted(packet, _IDENTIFIER, self._authenticator, self._target.secret)
        if fault is None:
            self.close()
            self._events.probe_answered(self)
        else:
            self.fault = fault

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if isinstance(error, ssl.SSLError):
            self._refused(f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}")
        else:
            self._refused("connection closed" if self.fault == NO_ANSWER else self.fault)

    def _refused(self, fault: str) -> None:
        if self._is_over:
            return
        self.fault = fault
        self.close()
        self._events.probe_refused(self)
