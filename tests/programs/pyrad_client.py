"""pyrad as a RADIUS client over UDP: it shares no line of code with mfalb, and takes only what is signed throughout.

It checks the identifier, the Response Authenticator and the Message-Authenticator, which it insists on
(CVE-2024-3596), and refuses a Proxy-State that was not sent. What does not pass is to it as if it had not come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

from pyrad.client import Client, Timeout
from pyrad.packet import AccessRequest, AuthPacket, StatusServer

from mfalb.wire import radius
from programs.ports import LOOPBACK

_TIMEOUT_S: Final = 3.0

Attributes = Sequence[tuple[int, bytes]]


class PyradClient:
    """Asks one port of loopback, each request once, from one socket; a context manager."""

    def __init__(self, port: int, secret: str, timeout_s: float = _TIMEOUT_S) -> None:
        self._secret = secret.encode()
        self._client = Client(LOOPBACK, port, secret=self._secret, retries=1, timeout=timeout_s, enforce_ma=True)
        self._client.bind((LOOPBACK, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client._CloseSocket()  # pyrad has no public way to close a client

    def request(self, attributes: Attributes, password: str = "", *, is_status: bool = False) -> AuthPacket:
        """An Access-Request with a password (or a Status-Server), its authenticator random, signed when it is sent."""
        packet = AuthPacket(
            code=StatusServer if is_status else AccessRequest,
            secret=self._secret,
            authenticator=AuthPacket.CreateAuthenticator(),
            message_authenticator=True,
        )
        if password:
            packet[radius.USER_PASSWORD] = [packet.PwCrypt(password)]
        for kind, value in attributes:
            packet.setdefault(kind, []).append(value)
        return packet

    def ask(self, packet: AuthPacket) -> bytes | None:
        """The answer's bytes when pyrad takes it; None when it took nothing in time. May be asked again."""
        try:
            return bytes(self._client.SendPacket(packet).raw_packet)
        except Timeout:
            return None

    def sign_in(self, *attributes: tuple[int, bytes], password: str = "hello") -> bytes | None:
        """The answer to a new Access-Request."""
        return self.ask(self.request(attributes, password))
