"""Two TCP connections joined: what one receives the other sends, unread, until both have ended.

Each direction ends by itself (half-close): the end of one side is passed on as the other's, while bytes go on flowing
back. A reset is passed on as a reset, since a mere end would look as if everything had been said. Who reads slowly
stops the other side's reading, so a connection never holds more than one read (256 KB) and a full write buffer (64 KB)
each way, however much passes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final, Protocol, cast

_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, no seconds


def reset(transport: asyncio.Transport) -> None:
    """Break a connection with an RST, so that the peer cannot take what it got for everything."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    transport.abort()


class RelayHost(Protocol):
    """Who is told what becomes of a relay."""

    def relay_joined(self, relay: Relay) -> None:
        """Both sides are connected."""

    def relay_ended(self, relay: Relay) -> None:
        """Both connections are gone."""


class RelayEnd(asyncio.Protocol):
    """One of the two connections. `received_bytes` are the ones that it read and the other end has to send."""

    __slots__ = ("_relay", "has_ended", "name", "other", "received_bytes", "transport")

    other: RelayEnd

    def __init__(self, relay: Relay, name: str) -> None:
        self._relay = relay
        self.has_ended = False
        self.name = name
        self.transport: asyncio.Transport | None = None
        self.received_bytes = 0

    # ------------------------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's do not register as one
        self._relay.join(self, self.transport)

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        transport = self.other.transport
        if transport is not None:
            transport.write(data)

    def eof_received(self) -> bool:
        """All was said on this side: the other side is told so, and may still answer."""
        self.has_ended = True
        other = self.other
        if other.has_ended:
            self.close()
            other.close()
        elif other.transport is not None and not other.transport.is_closing():
            other.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if not self._relay.is_joined:  # the client was gone already
            return
        if error is not None:
            self._relay.note(f"{self.name}_reset")
            if self.has_ended:
                self.other.close()  # it has said all before: what of that is on the way still arrives
            else:
                self.other.reset()
        self._relay.end_lost()

    def pause_writing(self) -> None:
        self.other.pause()

    def resume_writing(self) -> None:
        self.other.resume()

    # ------------------------------------------------------------------------------ what the relay does

    def pause(self) -> None:
        if self.transport is not None and not self.has_ended and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and not self.has_ended and not self.transport.is_closing():
            self.transport.resume_reading()  # after its end it would say once more that it ended

    def close(self) -> None:
        """Close when everything is sent."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        if self.transport is not None:
            reset(self.transport)


class Relay:
    """A client's connection, which is there, and a backend's, which is yet to be made.

    Connect with a `backend_end()` as the protocol: the moment that it is made, the client's transport is taken over and
    what was read of it before (`pending` and what was held) goes first, behind `opening`, which the client did not say.

    `client` and `backend` are there from then until both are gone. They know each other: made before, they would be a
    cycle, for whom no backend takes, that waits for the garbage collector, which comes seldom here.
    """

    __slots__ = (
        "_client_transport",
        "_host",
        "_idle_since",
        "_is_client_done",
        "_moved_bytes",
        "_pending",
        "backend",
        "client",
        "is_joined",
        "opening",
        "reason",
    )

    client: RelayEnd
    backend: RelayEnd

    def __init__(self, host: RelayHost, client_transport: asyncio.Transport, pending: bytes) -> None:
        self._host = host
        self._client_transport = client_transport
        self._pending = pending
        self.opening = b""
        self._is_client_done = False
        self._moved_bytes = 0
        self._idle_since = 0.0
        self.is_joined = False
        self.reason = "-"

    def hold(self, data: bytes) -> None:
        """Keep what the client says while there is no backend yet, and do not read on: one read is all that comes."""
        self._pending += data
        self._client_transport.pause_reading()

    def hold_end(self) -> None:
        """The client has said all while there is no backend yet."""
        self._is_client_done = True

    def backend_end(self) -> RelayEnd:
        """A protocol for one attempt to connect to a backend."""
        return RelayEnd(self, "backend")

    def join(self, end: RelayEnd, backend: asyncio.Transport) -> None:
        """The backend's connection is made."""
        transport = self._client_transport
        if transport.is_closing():  # the client is gone
            end.reset()
            return
        self.is_joined = True
        self.backend, self.client = end, RelayEnd(self, "client")
        self.client.other, self.backend.other = self.backend, self.client
        transport.set_protocol(self.client)
        self.client.transport = transport
        self.client.received_bytes = len(self._pending)
        self._host.relay_joined(self)
        if not self._is_client_done:
            transport.resume_reading()
        if self.opening or self._pending:
            backend.write(self.opening + self._pending)  # it may call for a pause at once
            self._pending = b""
        if self._is_client_done:
            self.client.eof_received()

    def note(self, reason: str) -> None:
        """Why it ends; the first reason counts."""
        if self.reason == "-":
            self.reason = reason

    def end_lost(self) -> None:
        client, backend = self.client, self.backend
        if client.transport is None and backend.transport is None:
            self._host.relay_ended(self)
            del client.other, backend.other
            del self.client, self.backend

    def cut(self, reason: str) -> None:
        """Break both connections."""
        self.note(reason)
        self.client.reset()
        self.backend.reset()

    def check_idle(self, now: float, timeout_s: float) -> None:
        """Called about once a second, with monotonic seconds; costs the bytes on their way nothing."""
        moved_bytes = self.client.received_bytes + self.backend.received_bytes
        if moved_bytes != self._moved_bytes or not self._idle_since:
            self._moved_bytes = moved_bytes
            self._idle_since = now
        elif now - self._idle_since >= timeout_s:
            self.cut("idle_timeout")
