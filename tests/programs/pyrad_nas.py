"""A NAS that can be asked to change or end a session (RFC 5176), made of pyrad: it shares no code with the balancer."""

from __future__ import annotations

import socket
import threading
from typing import Final, Self

from pyrad.packet import CoAACK, CoANAK, CoAPacket, CoARequest, DisconnectACK, DisconnectNAK, DisconnectRequest

from programs.ports import LOOPBACK

_ERROR_CAUSE: Final = 101
_PROXY_STATE: Final = 33
_ACKS: Final = {CoARequest: CoAACK, DisconnectRequest: DisconnectACK}
_NAKS: Final = {CoARequest: CoANAK, DisconnectRequest: DisconnectNAK}


class PyradNas:
    """In a thread; a context manager. `name`, `address` and `secret` are what a configuration needs.

    Only requests whose authenticator (and Message-Authenticator, if any) pyrad finds right are in `requests` and
    answered: with an ACK, or with a NAK and this Error-Cause. Others are counted in `refused`.
    """

    def __init__(self, name: str, secret: str, error_cause: int | None = None) -> None:
        self.name: Final = name
        self.secret: Final = secret
        self.requests: list[CoAPacket] = []
        self.refused = 0
        self._error_cause = error_cause
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self.address: Final = f"{LOOPBACK}:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name=f"NAS {name}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())  # an empty datagram ends the thread
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if not data:
                return
            request = CoAPacket(packet=data, secret=self.secret.encode())
            is_mac_right = not request.message_authenticator or request.verify_message_authenticator()
            if not request.VerifyCoARequest() or not is_mac_right:
                self.refused += 1
                continue
            self.requests.append(request)
            self._socket.sendto(self._answer(request), peer)

    def _answer(self, request: CoAPacket) -> bytes:
        reply = request.CreateReply()
        reply.code = _ACKS[request.code]
        if self._error_cause is not None:
            reply.code = _NAKS[request.code]
            reply[_ERROR_CAUSE] = [self._error_cause.to_bytes(4, "big")]
        if _PROXY_STATE in request:
            reply[_PROXY_STATE] = request[_PROXY_STATE]
        return bytes(reply.ReplyPacket())
