"""A NAS of the demonstrations: it asks from a new socket each time, and believes signed answers only."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Final

from mfalb.cli.demo_failures import SignInFailed
from mfalb.cli.free_ports import LOOPBACK
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_hidden import hide_password

_ANSWER_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Nas:
    """Where it asks, and the secret that it shares with whoever answers there."""

    port: int
    secret: str = field(repr=False)

    async def challenge(self, user: str, password: str) -> bytes:
        """The State of the Access-Challenge that a password gets. Raises SignInFailed."""
        answer = await self._ask(user, password, None)
        state = answer.first(radius.STATE)
        if answer.code != radius.ACCESS_CHALLENGE or state is None:
            raise SignInFailed(f"RADIUS: {user} was not challenged (code {answer.code})")
        return state

    async def accept(self, user: str, code: str, state: bytes) -> None:
        """Send the code with the State. Raises SignInFailed unless it is accepted."""
        answer = await self._ask(user, code, state)
        if answer.code != radius.ACCESS_ACCEPT:
            raise SignInFailed(f"RADIUS: the code of {user} was not accepted (code {answer.code})")

    async def _ask(self, user: str, typed: str, state: bytes | None) -> Packet:
        secret, authenticator = SharedSecret(self.secret.encode()), os.urandom(16)
        body = radius.attribute(radius.USER_NAME, user.encode())
        body += radius.attribute(radius.USER_PASSWORD, hide_password(typed.encode(), secret, authenticator))
        if state is not None:
            body += radius.attribute(radius.STATE, state)
        request = radius.signed_request(radius.ACCESS_REQUEST, authenticator[0], authenticator, body, secret)
        answer = radius.read_untrusted(await _one_datagram(request, self.port))
        if not radius.has_valid_message_authenticator(answer, secret, authenticator):
            raise SignInFailed("RADIUS: the answer is not signed")
        return answer


class _Waiter(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _address: object) -> None:
        if not self.received.done():
            self.received.set_result(data)


async def _one_datagram(request: bytes, port: int) -> bytes:
    """Send a request from a socket of its own and wait for its answer."""
    loop = asyncio.get_running_loop()
    transport, waiter = await loop.create_datagram_endpoint(_Waiter, remote_addr=(LOOPBACK, port))
    try:
        transport.sendto(request)
        return await asyncio.wait_for(waiter.received, _ANSWER_TIMEOUT_S)
    except TimeoutError:
        raise SignInFailed("RADIUS: no answer") from None
    finally:
        transport.close()
