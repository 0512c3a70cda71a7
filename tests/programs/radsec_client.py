"""A RadSec client that does as it is told, right or wrong: blocking, one connection, one request at a time."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_hidden import hide_password
from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK

RADSEC: Final = SharedSecret(b"radsec")  # RFC 6614 section 2.3
_TIMEOUT_S: Final = 5.0


def client_tls(trusted: Path, own: CertificateFiles | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """What a client is that trusts one authority, shows its own certificate (or none), and speaks one version."""
    context = ssl.create_default_context(cafile=str(trusted))
    if own is not None:
        context.load_cert_chain(own.cert, own.key)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


@dataclass(frozen=True, slots=True)
class RadsecClient:
    """One open connection."""

    stream: ssl.SSLSocket

    def send(self, data: bytes) -> None:
        self.stream.sendall(data)

    def packet(self) -> Packet:
        """The next packet. Raises EOFError at the end of the connection, TimeoutError when nothing comes."""
        head = self._exactly(4)
        return radius.read_untrusted(head + self._exactly(int.from_bytes(head[2:], "big") - 4))

    def ask(self, datagram: bytes) -> Packet:
        self.send(datagram)
        return self.packet()

    def is_closed(self) -> bool:
        """Whether the other side ends the connection (within the time-out) without another byte."""
        try:
            return self.stream.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:  # a reset, or an end without a goodbye
            return True

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.stream.recv(count - len(data))
            if not piece:
                raise EOFError(f"the connection ended after {len(data)} of {count} bytes")
            data += piece
        return data


@contextmanager
def connected(port: int, tls: ssl.SSLContext, timeout_s: float = _TIMEOUT_S) -> Iterator[RadsecClient]:
    """A connection to a RadSec server on loopback, its handshake done. Raises OSError when it is refused."""
    with (
        socket.create_connection((LOOPBACK, port), timeout_s) as plain,
        tls.wrap_socket(plain, server_hostname=LOOPBACK) as stream,
    ):
        yield RadsecClient(stream)


def access_request(
    user: str = "alice", password: str = "x", *, identifier: int = 7, state: bytes | None = None, more: bytes = b""
) -> bytes:
    """A signed Access-Request that nobody sent before."""
    authenticator = os.urandom(16)
    body = radius.attribute(radius.USER_NAME, user.encode())
    body += radius.attribute(radius.USER_PASSWORD, hide_password(password.encode(), RADSEC, authenticator))
    if state is not None:
        body += radius.attribute(radius.STATE, state)
    return radius.signed_request(radius.ACCESS_REQUEST, identifier, authenticator, body + more, RADSEC)
