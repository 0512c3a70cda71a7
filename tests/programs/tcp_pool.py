"""TCP listeners as clients reach them, and TLS backends that say who asked them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK, free_tcp_port

_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class TcpFront:
    """A TCP listener's address."""

    port: int

    def listener(self, routes: Sequence[Mapping[str, Any]], **more: object) -> dict[str, Any]:
        """Its table in a configuration."""
        bind = [f"{LOOPBACK}:{self.port}"]
        return {"name": "tcp", "protocol": "tcp", "bind": bind, "routes": list(routes)} | more

    def open(self, *, receive_buffer_bytes: int = 0, source: str = "") -> socket.socket:
        """A connection as it is, from this address of the loopback network."""
        client = socket.socket()
        if receive_buffer_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if source:
            client.bind((source, 0))
        client.settimeout(_TIMEOUT_S)
        client.connect((LOOPBACK, self.port))
        return client

    def open_tls(
        self, server_name: str | None, certificate: CertificateFiles, pair: CertificateFiles | None = None
    ) -> ssl.SSLSocket:
        """A TLS connection that asks for `server_name` (its certificate has to be good for it), with a client's pair.

        Raises ssl.SSLError and OSError, as a client would meet them.
        """
        context = ssl.create_default_context(cafile=str(certificate.ca))
        context.check_hostname = server_name is not None
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        client = self.open()
        try:
            return context.wrap_socket(client, server_hostname=server_name)
        except BaseException:
            client.close()
            raise


def new_tcp_front() -> TcpFront:
    """A listener's address on a free port."""
    return TcpFront(free_tcp_port())
