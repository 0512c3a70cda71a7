"""A NAS as they are: many sign-ins at once, each request repeated byte for byte until it is answered or given up.

Identifiers are used in turn, the one that was free longest first, and a socket's next round starts only when nothing
of the last one can be on its way any more; so a late copy of an old request never meets a new one of its identifier.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_hidden import hide_password
from programs.ports import LOOPBACK

_IDENTIFIERS: Final = 256


@dataclass(frozen=True, slots=True)
class NasHabits:
    """How a NAS asks: again after each `retransmit_s`, `tries` times in all."""

    secret: SharedSecret
    retransmit_s: float = 0.3
    tries: int = 20


@dataclass(slots=True)
class NasTally:
    """What the NAS did and saw. `unfit` are answers that fitted no open request or failed a check."""

    requests: int = 0
    retransmits: int = 0
    answers: int = 0
    unfit: int = 0
    given_up: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    authenticator: bytes
    answer: asyncio.Future[Packet]


class Nas(asyncio.DatagramProtocol):
    """One socket of a NAS. Made by `open_nas`."""

    def __init__(self, habits: NasHabits) -> None:
        self.habits = habits
        self.tally = NasTally()
        self._open: dict[int, _Open] = {}
        self._free = deque(range(_IDENTIFIERS))
        self._transport: asyncio.DatagramTransport

    # -------------------------------------------------------------------------------- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio's own types are wider than what it passes

    def datagram_received(self, data: bytes, _address: tuple[Any, ...]) -> None:
        if not self._is_fit(data):
            self.tally.unfit += 1

    def _is_fit(self, data: bytes) -> bool:
        try:
            packet = radius.read_untrusted(data)
        except MalformedMessage:
            return False
        request, secret = self._open.get(packet.identifier), self.habits.secret
        if request is None or request.answer.done():
            return False
        is_genuine = radius.has_valid_response_authenticator(packet, secret, request.authenticator)
        if is_genuine and radius.has_valid_message_authenticator(packet, secret, request.authenticator):
            request.answer.set_result(packet)
            return True
        return False

    # --------------------------------------------------------------------------------- the test's side

    async def sign_in(self, user: str, password: str, state: bytes | None = None) -> Packet | None:
        """One half of a sign-in: a password, or with a State the code; None when nobody answered."""
        authenticator = os.urandom(16)
        hidden = hide_password(password.encode(), self.habits.secret, authenticator)
        attributes = [(radius.USER_NAME, user.encode()), (radius.USER_PASSWORD, hidden)]
        if state is not None:
            attributes.append((radius.STATE, state))
        return await self.ask(authenticator, attributes)

    async def ask(self, authenticator: bytes, attributes: Sequence[tuple[int, bytes]]) -> Packet | None:
        """The answer to one Access-Request, by both its signatures a genuine one; None when the NAS gave up.

        Raises IndexError when more than 256 requests are open.
        """
        identifier, habits = self._free.popleft(), self.habits
        body = b"".join(radius.attribute(*one) for one in attributes)
        datagram = radius.signed_request(radius.ACCESS_REQUEST, identifier, authenticator, body, habits.secret)
        request = _Open(authenticator, asyncio.get_running_loop().create_future())
        self._open[identifier] = request
        self.tally.requests += 1
        try:
            return await self._answer_to(datagram, request)
        finally:
            del self._open[identifier]
            self._free.append(identifier)

    async def _answer_to(self, datagram: bytes, request: _Open) -> Packet | None:
        for number in range(self.habits.tries):
            self.tally.retransmits += number > 0
            self._transport.sendto(datagram)
            done, _ = await asyncio.wait([request.answer], timeout=self.habits.retransmit_s)
            if done:
                self.tally.answers += 1
                return request.answer.result()
        self.tally.given_up += 1
        return None


@asynccontextmanager
async def open_nas(port: int, habits: NasHabits) -> AsyncIterator[Nas]:
    """A NAS with one socket towards a port on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((LOOPBACK, port))
        async with nas_with(sock, habits) as nas:
            yield nas


@asynccontextmanager
async def nas_with(sock: socket.socket, habits: NasHabits) -> AsyncIterator[Nas]:
    """A NAS whose socket is connected already."""
    sock.setblocking(False)
    transport, nas = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Nas(habits), sock=sock)
    try:
        yield nas
    finally:
        transport.close()
