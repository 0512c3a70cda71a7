"""The door of the replication port: mutual TLS, and the name on the certificate of whoever came through it.

gRPC's own TLS tells nobody of the handshakes that it refuses, and forged peers have to be counted. So TLS ends here,
and what comes through goes on to gRPC over a loopback connection whose local port stands for the certificate's name.
gRPC serves no connection that does not come from here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from contextlib import suppress
from typing import Any, Final

from mfalb.net.lifecycle import Tasks
from mfalb.telemetry.rare_log import RareLog

_HANDSHAKE_TIMEOUT_S: Final = 5.0
_CONNECTION_LIMIT: Final = 64  # a group has a handful of servers; more wait in the socket's queue
_PIECE_BYTES: Final = 64 * 1024
_LOOPBACK: Final = "127.0.0.1"

_log = RareLog(logging.getLogger("mfalb.reference.mfa_server.replication"))


class Refusals:
    """Peers that were turned away, by reason; each reason is in the log once a minute at most."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, reason: str, peer: str) -> None:
        self.counts[reason] += 1
        _log.warning(reason, "replication peer refused", {"reason": reason, "peer": peer})


class Door:
    """Listens on the replication port, and knows which name stands behind each of gRPC's connections."""

    def __init__(self, context: ssl.SSLContext, refusals: Refusals) -> None:
        self._context = context
        self._refusals = refusals
        self._names: dict[int, str] = {}
        self._places = asyncio.Semaphore(_CONNECTION_LIMIT)
        self._tasks = Tasks("replication door")
        self._inner_port = 0
        self._socket: socket.socket | None = None

    async def open(self, host: str, port: int, inner_port: int) -> int:
        """Listen; returns the port. Raises OSError."""
        self._inner_port = inner_port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        self._socket.setblocking(False)
        self._tasks.start("accept", self._accept(self._socket))
        own_port: int = self._socket.getsockname()[1]
        return own_port

    async def close(self) -> None:
        await self._tasks.close()
        if self._socket is not None:
            self._socket.close()

    def name_behind(self, peer: str) -> str | None:
        """The name on the certificate behind a connection, as gRPC calls it (`ipv4:127.0.0.1:40000`)."""
        _, _, port = peer.rpartition(":")
        return self._names.get(int(port)) if port.isascii() and port.isdigit() else None

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            sock, address = await loop.sock_accept(listening)
            task = self._tasks.start("connection", self._serve(sock, str(address[0])))
            task.add_done_callback(lambda _: self._places.release())

    async def _serve(self, sock: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_PIECE_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S
            )
        except OSError as error:  # an SSLError is one, too
            is_certificate = isinstance(error, ssl.SSLError) and "CERTIFICATE" in str(error).upper()
            self._refusals.count("certificate" if is_certificate else "handshake", address)
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        name = _common_name(transport.get_extra_info("peercert"))
        try:
            await self._pass_on(reader, writer, name)
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(_LOOPBACK, self._inner_port)
        port: int = inner_writer.get_extra_info("sockname")[1]
        self._names[port] = name
        ways = [_copy(reader, inner_writer), _copy(inner_reader, writer)]
        tasks = [self._tasks.start("relay", way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            del self._names[port]
            inner_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One way of a connection, until either end has gone."""
    with suppress(OSError):
        while data := await reader.read(_PIECE_BYTES):
            writer.write(data)
            await writer.drain()


def _common_name(certificate: dict[str, Any] | None) -> str:
    """The common name of a verified certificate; empty when it has none."""
    parts = (part for parts in (certificate or {}).get("subject", ()) for part in parts)
    return next((str(value) for kind, value in parts if kind == "commonName"), "")


def door_context(cert: str, key: str, ca: str) -> ssl.SSLContext:
    """TLS 1.2 and later; a peer without a certificate of the group's own authority gets nowhere. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(cert, key)
    context.load_verify_locations(ca)
    context.set_alpn_protocols(["h2"])
    return context
