"""A RadSec server in threads that says what the test tells it to, right or wrong, and can hang up."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_stream import PacketStream
from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK, free_tcp_port

Answers = Callable[[Packet], list[bytes]]


def server_tls(own: CertificateFiles, client_ca: Path, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """What a server is that shows its own certificate and wants one of a certain authority's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert, own.key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class RadsecServer:
    """`answers` gives the packets for each request; `requests` is what arrived so far, `carriers` on which connection.

    Status-Servers are answered honestly, whatever `answers` says, and not counted. `opened` counts the connections
    that brought requests.
    """

    def __init__(self, name: str, tls: ssl.SSLContext) -> None:
        self.name: Final = name
        self.port: Final = free_tcp_port()
        self.key: Final = SharedSecret(b"radsec")
        self.answers: Answers = self.accept
        self.requests: list[Packet] = []
        self.carriers: list[int] = []
        self._tls = tls
        self._lock = threading.Lock()
        self._streams: dict[int, ssl.SSLSocket] = {}
        self._accepted = 0
        self._listening: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._listening = socket.create_server((LOOPBACK, self.port))
        self._run(self._accept, self._listening)

    def stop(self) -> None:
        """Closes everything: nobody listens any more."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        listening.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive(), f"{self.name} does not stop"
        self._threads.clear()

    def hang_up(self) -> None:
        """Cuts all connections, in the middle of whatever they are at."""
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    @property
    def opened(self) -> int:
        return len(set(self.carriers))

    def users(self) -> list[bytes]:
        """Whose requests arrived, in order."""
        return [request.first(radius.USER_NAME) or b"" for request in self.requests]

    def accept(self, request: Packet) -> list[bytes]:
        """What an honest server says."""
        return [self.signed(request, radius.ACCESS_ACCEPT)]

    def signed(self, request: Packet, code: int, body: bytes = b"") -> bytes:
        return radius.signed_response(code, request.identifier, request.authenticator, body, self.key)

    # ------------------------------------------------------------------------------------- threads

    def _run(self, work: Callable[[socket.socket], None], sock: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(sock,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:  # stopped
                return
            plain.settimeout(30)
            self._run(self._serve, plain)

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError, MalformedMessage), plain, self._tls.wrap_socket(plain, server_side=True) as stream:
            with self._lock:
                self._accepted += 1
                number = self._accepted
                self._streams[number] = stream
            try:
                self._talk(stream, number)
            finally:
                with self._lock:
                    del self._streams[number]

    def _talk(self, stream: ssl.SSLSocket, number: int) -> None:
        packets = PacketStream()
        while data := stream.recv(65_536):
            for packet in packets.packets_untrusted(data):
                request = radius.read_untrusted(packet)
                is_probe = request.code == radius.STATUS_SERVER
                if not is_probe:
                    self.requests.append(request)
                    self.carriers.append(number)
                for answer in self.accept(request) if is_probe else self.answers(request):
                    stream.sendall(answer)
