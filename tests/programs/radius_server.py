"""A RADIUS server in a thread that says what the test tells it to, right or wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Final, Self

from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from programs.ports import LOOPBACK

Answers = Callable[[Packet], list[bytes]]


class RadiusServer:
    """`answers` gives the datagrams for each request, in its thread; `requests` is what arrived so far.

    Status-Servers are answered honestly, whatever `answers` says, and kept apart as `probes`.
    """

    def __init__(self, name: str, secret: str) -> None:
        self.name: Final = name
        self.secret: Final = secret
        self.key: Final = SharedSecret(secret.encode())
        self.answers: Answers = self.accept
        self.requests: list[Packet] = []
        self.probes: list[Packet] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self.address: Final = f"{LOOPBACK}:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server, if it has not ended yet: its port is closed, and its host says so to whoever sends."""
        if not self._thread.is_alive():
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())  # an empty datagram ends the thread
        self._thread.join(5)
        self._socket.close()

    def send(self, datagram: bytes, peer: tuple[str, int]) -> None:
        """Sends a datagram from the very port it listens on."""
        self._socket.sendto(datagram, peer)

    def accept(self, request: Packet) -> list[bytes]:
        """What an honest server says."""
        return [self.signed(request, radius.ACCESS_ACCEPT)]

    def signed(self, request: Packet, code: int, body: bytes = b"") -> bytes:
        """An answer with a Message-Authenticator."""
        return radius.signed_response(code, request.identifier, request.authenticator, body, self.key)

    def unsigned(self, request: Packet, code: int, body: bytes = b"") -> bytes:
        """An answer as servers of before 2024 make it: with its Response Authenticator only."""
        return radius.unsigned_response(code, request.identifier, request.authenticator, body, self.key)

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if not data:
                return
            request = radius.read_untrusted(data)
            is_probe = request.code == radius.STATUS_SERVER
            (self.probes if is_probe else self.requests).append(request)
            for datagram in self.accept(request) if is_probe else self.answers(request):
                self._socket.sendto(datagram, peer)
