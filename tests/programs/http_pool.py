"""The plainest configuration for HTTP, and a client's view of it."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK, free_tcp_port

_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Front:
    """An HTTP listener as clients reach it; with TLS when it has a certificate."""

    port: int
    certificate: CertificateFiles | None = None

    def listener(self, name: str, routes: Sequence[Mapping[str, Any]], **more: object) -> dict[str, Any]:
        """Its table in a configuration."""
        table: dict[str, Any] = {"name": name, "bind": [f"{LOOPBACK}:{self.port}"], "routes": list(routes)}
        if self.certificate is None:
            return table | {"protocol": "http"} | more
        pair = {"cert": str(self.certificate.cert), "key": str(self.certificate.key)}
        return table | {"protocol": "https", "tls": {"certificates": [pair]}} | more

    def open(self, *, receive_buffer_bytes: int = 0, is_strict: bool = False) -> socket.socket:
        """A connection, TLS included. `is_strict`: an end without TLS's goodbye is an error (RFC 8446 section 6.1)."""
        plain = socket.socket()
        if receive_buffer_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        plain.settimeout(_TIMEOUT_S)
        plain.connect((LOOPBACK, self.port))
        if self.certificate is None:
            return plain
        context = ssl.create_default_context(cafile=str(self.certificate.ca))
        return context.wrap_socket(plain, server_hostname=LOOPBACK, suppress_ragged_eofs=not is_strict)

    def connect(self) -> http.client.HTTPConnection:
        """A connection that speaks HTTP/1.1 and keeps alive."""
        if self.certificate is None:
            return http.client.HTTPConnection(LOOPBACK, self.port, timeout=_TIMEOUT_S)
        context = ssl.create_default_context(cafile=str(self.certificate.ca))
        return http.client.HTTPSConnection(LOOPBACK, self.port, timeout=_TIMEOUT_S, context=context)

    def get(self, target: str, **headers: str) -> tuple[int, bytes]:
        """Status and body of one GET on a connection of its own."""
        connection = self.connect()
        try:
            connection.request("GET", target, headers={name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def say(self, data: bytes) -> bytes:
        """Everything that comes back, until the balancer closes, after `data` was sent."""
        with self.open() as client:
            client.sendall(data)
            return read_all(client)


def new_front(certificate: CertificateFiles | None = None) -> Front:
    """A listener's address on a free port."""
    return Front(free_tcp_port(), certificate)


def read_all(client: socket.socket) -> bytes:
    """What comes until the end, or until the connection breaks."""
    parts = []
    try:
        while data := client.recv(65_536):
            parts.append(data)
    except (ConnectionError, ssl.SSLError):
        pass  # a broken connection ends what was said, too
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Response:
    """One response as it came. `headers` by lower-case name, the last one of a name."""

    status: int
    headers: dict[str, str]
    body: bytes


class Responses:
    """Reads responses one after the other from one connection. Strict: what is no response raises ValueError."""

    def __init__(self, client: socket.socket) -> None:
        self._stream: IO[bytes] = client.makefile("rb")

    def next(self, method: str = "GET") -> Response:
        """The next response, interim ones included. Raises EOFError when the connection ended instead."""
        line = self._line()
        version, _, rest = line.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdigit():
            raise ValueError(f"no status line: {line!r}")
        status, headers = int(rest[:3]), dict[str, str]()
        while field := self._line():
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        if method == "HEAD" or status < 200 or status in (204, 304):
            return Response(status, headers, b"")
        return Response(status, headers, self._body(headers))

    def close(self) -> None:
        """Read nothing more; the connection can be closed then."""
        self._stream.close()

    def rest(self) -> bytes:
        """What follows until the end."""
        return self._stream.read()

    def _line(self) -> str:
        line = self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError(f"the connection ended in a head: {line!r}")
        return line[:-2].decode("latin-1")

    def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return self._stream.read()
        parts = []
        while size := int(self._line(), 16):
            parts.append(self._exactly(size))
            self._line()
        self._line()
        return b"".join(parts)

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError(f"the body ended after {len(data)} of {size} bytes")
        return data


def http_pool(*addresses: str, **more: object) -> dict[str, Any]:
    """A pool of backends b1, b2... at these addresses."""
    return {"backends": [{"name": f"b{n}", "address": address} for n, address in enumerate(addresses, 1)], **more}
