"""The RADIUS front of an MFA Server: PAP and MS-CHAPv2, with an Access-Challenge for one-way SMS.

First the password, by the directory: with a wrong one nobody's phone rings. A code is typed as PAP: an MS-CHAPv2 proof
of it would need another exchange, which VPN clients do not make.

A plain asyncio datagram protocol: this is a server to try a balancer with, not the balancer's data path.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final, Protocol

from cachetools import TTLCache

from mfalb.errors import MalformedMessage
from mfalb.net.lifecycle import Tasks
from mfalb.reference.config.mfa_server import RadiusProtocol, RadiusSettings
from mfalb.reference.config.values import StateKind, User
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.radius_cache import Successes
from mfalb.reference.mfa_server.radius_mschap import (
    Exchange,
    exchange_untrusted,
    failure,
    keying_of,
    mppe_keys,
    success,
)
from mfalb.reference.mfa_server.second_factor import Begun, SecondFactor
from mfalb.reference.mfa_server.verification import Outcome
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_hidden import reveal_password_untrusted

_CONSTANT_STATE: Final = b"SMS"  # as some real servers send, always the same
_DUPLICATE_LIFE_S: Final = 180.0
_DUPLICATE_LIMIT: Final = 10_000  # when full, the oldest goes; a very late retransmit of it would count as new

_DENIED: Final = b"The second factor was denied."
_NOT_ASKED: Final = b"The second factor could not be asked for."

_log = logging.getLogger("mfalb.reference.mfa_server.radius")

Address = tuple[Any, ...]


class Primary(Protocol):
    """Primary authentication, as this front asks for it."""

    async def check(self, name: str, password: str) -> User | None: ...

    def check_nt_hash(self, name: str, is_right: Callable[[bytes], bool]) -> User | None: ...


@dataclass(slots=True)
class _Request:
    """A request by its source, code and identifier; `answer` stays None in flight, and when it was discarded."""

    authenticator: bytes
    answer: bytes | None = None


class RadiusFront(asyncio.DatagramProtocol):
    """Answers Access-Requests and Status-Server; a retransmit waits for the phone, then gets the same answer."""

    def __init__(
        self,
        settings: RadiusSettings,
        directory: Primary,
        second_factor: SecondFactor,
        faults: Faults | None = None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._second_factor = second_factor
        self._faults = faults or Faults()
        self._secret = SharedSecret(settings.secret.encode())
        self._network = ip_network(settings.client_network)
        self._known: TTLCache[tuple[Address, int, int], _Request] = TTLCache(_DUPLICATE_LIMIT, _DUPLICATE_LIFE_S)
        self._successes = Successes(settings.caching, settings.application)
        self._tasks = Tasks("radius")
        self._transport: asyncio.DatagramTransport | None = None

    async def close(self) -> None:
        await self._tasks.close()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio's own types are wider than what it passes

    def datagram_received(self, data: bytes, address: Address) -> None:
        if self._faults.now.down or self._faults.now.hang:  # by RADIUS both are silence
            return
        try:
            packet = self._read_untrusted(data, address)
        except MalformedMessage as error:
            _log.warning("datagram discarded", extra={"reason": error.reason})
            return
        if packet.code == radius.STATUS_SERVER:
            self._send(self._answer(packet, radius.ACCESS_ACCEPT, b""), address)
            return
        key = (address, packet.code, packet.identifier)
        known = self._known.get(key)
        if known is None or known.authenticator != packet.authenticator:  # new, or its identifier is used again
            request = self._known[key] = _Request(packet.authenticator)
            self._tasks.start("request", self._serve(request, packet, address))
        elif known.answer is not None:
            self._send(known.answer, address)

    def _read_untrusted(self, data: bytes, address: Address) -> Packet:
        """The packet, sound and from a known client. Raises MalformedMessage for what is discarded in silence."""
        if ip_address(address[0]) not in self._network:
            raise MalformedMessage("unknown_client")
        packet = radius.read_untrusted(data)
        if packet.code not in (radius.ACCESS_REQUEST, radius.STATUS_SERVER):
            raise MalformedMessage("unexpected_code")
        is_signed = radius.MESSAGE_AUTHENTICATOR in packet.offsets
        if is_signed and not radius.has_valid_message_authenticator(packet, self._secret):
            raise MalformedMessage("bad_message_authenticator")
        if not is_signed and (self._settings.requires_message_authenticator or packet.code == radius.STATUS_SERVER):
            raise MalformedMessage("missing_message_authenticator")
        return packet

    async def _serve(self, request: _Request, packet: Packet, address: Address) -> None:
        await self._faults.hold_up()
        try:
            answer = await self._decide(packet, str(address[0]))
        except MalformedMessage as error:
            _log.warning("request discarded", extra={"reason": error.reason})
            return  # it stays known: its retransmits are silent, too, and can never ring the phone again
        request.answer = answer
        key = (address, packet.code, packet.identifier)
        if self._known.get(key) is request:  # else the client has gone on to another request (RFC 5080 section 2.2.2)
            self._send(answer, address)

    async def _decide(self, packet: Packet, client: str) -> bytes:
        user = packet.first(radius.USER_NAME) or b""
        proof = self._proof_untrusted(packet, user)
        if not user or proof is None:
            return self._reject(packet, b"This server takes " + self._taken + b".")
        name, state = user.decode(errors="replace"), packet.first(radius.STATE)
        if state is None:
            return await self._first_half(packet, name, proof, client)
        if isinstance(proof, str) and await self._is_code(name, state, proof):
            self._successes.passed(self._successes.key(name, client))
            return self._answer(packet, radius.ACCESS_ACCEPT, _message(b"Welcome."))
        return self._reject(packet, b"The code was not accepted.")

    async def _is_code(self, name: str, state: bytes, typed: str) -> bool:
        return await self._second_factor.verify(name, _request_id(state), typed) is Outcome.ACCEPTED

    @property
    def _taken(self) -> bytes:
        names = {RadiusProtocol.PAP: b"PAP", RadiusProtocol.MSCHAPV2: b"MS-CHAPv2"}
        return b" and ".join(names[protocol] for protocol in self._settings.protocols)

    def _proof_untrusted(self, packet: Packet, user: bytes) -> str | Exchange | None:
        """What shows that the user knows the password (or code): itself, or an exchange; None when it is neither."""
        protocols, hidden = self._settings.protocols, packet.first(radius.USER_PASSWORD)
        if hidden is not None and RadiusProtocol.PAP in protocols:
            typed = reveal_password_untrusted(hidden, self._secret, packet.authenticator).rstrip(b"\0")
            return typed.decode(errors="replace")
        return exchange_untrusted(packet, user) if RadiusProtocol.MSCHAPV2 in protocols else None

    async def _first_half(self, packet: Packet, name: str, proof: str | Exchange, client: str) -> bytes:
        user, more = await self._primary(packet, name, proof)
        if user is None:
            return self._reject(packet, b"The user name or password is not right.", more)
        key = self._successes.key(user.name, client)
        if self._successes.has_passed(key):
            return self._answer(packet, radius.ACCESS_ACCEPT, _message(b"Welcome.") + more)
        state = _CONSTANT_STATE if self._settings.state is StateKind.CONSTANT else os.urandom(16)
        half = await self._successes.shared(key, lambda: self._second_factor.begin(user, _request_id(state), client))
        if half.begun is Begun.AUTHENTICATED:
            return self._answer(packet, radius.ACCESS_ACCEPT, _message(b"Welcome.") + more)
        if half.begun is Begun.TEXT_SENT:
            challenge = _message(b"Enter the code from the text message.") + radius.attribute(radius.STATE, state)
            return self._answer(packet, radius.ACCESS_CHALLENGE, challenge)
        return self._reject(packet, _DENIED if half.begun is Begun.DENIED else _NOT_ASKED)

    async def _primary(self, packet: Packet, name: str, proof: str | Exchange) -> tuple[User | None, bytes]:
        """The user, if the directory says so, and what MS-CHAPv2 has to add to the answer."""
        if isinstance(proof, str):
            return await self._directory.check(name, proof), b""
        right: list[bytes] = []

        def is_right(nt_hash: bytes) -> bool:
            right.append(nt_hash)
            return proof.is_right(nt_hash)

        user = self._directory.check_nt_hash(name, is_right)
        if user is None:
            return None, failure(proof, os.urandom(16))
        salts = (bytes((0x80 | os.urandom(1)[0] & 0x7E, 0)), bytes((0x81, os.urandom(1)[0])))
        keying = keying_of(self._secret, packet)
        return user, success(proof, right[0]) + mppe_keys(proof, right[0], keying, salts)

    def _reject(self, packet: Packet, text: bytes, more: bytes = b"") -> bytes:
        return self._answer(packet, radius.ACCESS_REJECT, _message(text) + more)

    def _answer(self, packet: Packet, code: int, body: bytes) -> bytes:
        """A signed answer, Message-Authenticator first, the client's Proxy-States last and in their order."""
        proxy_states = b"".join(radius.attribute(radius.PROXY_STATE, v) for v in packet.every(radius.PROXY_STATE))
        return radius.signed_response(code, packet.identifier, packet.authenticator, body + proxy_states, self._secret)

    def _send(self, datagram: bytes, address: Address) -> None:
        if self._transport is not None:
            self._transport.sendto(datagram, address)


def _message(text: bytes) -> bytes:
    return radius.attribute(radius.REPLY_MESSAGE, text)


def _request_id(state: bytes) -> str:
    """The id of a challenge among the pending codes: its State."""
    return "state:" + state.hex()
