"""One Status-Server question (RFC 5997) on a socket of its own, never sent twice."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final, Protocol

from mfalb.balancer.config.values import Address
from mfalb.errors import MalformedMessage
from mfalb.net.udp_sockets import is_local_shortage
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

NO_ANSWER: Final = "no answer"
# Whatever a server says to Status-Server, under a signature that only it can make, it lives. By RFC 5997 section 4.2 an
# authentication port says Access-Accept and an accounting port Accounting-Response; some others refuse.
_ANSWERS: Final = frozenset(
    (radius.ACCESS_ACCEPT, radius.ACCESS_REJECT, radius.ACCESS_CHALLENGE, radius.ACCOUNTING_RESPONSE)
)


class Question(Protocol):
    """A Status-Server under way, over UDP (`StatusProbe`) or TLS (`TlsStatusProbe`).

    `fault` is the best reason known why it has no answer.
    """

    fault: str

    def send(self) -> None: ...

    def close(self) -> None: ...


class ProbeEvents(Protocol):
    """Who is told what became of a probe; silence is told by nobody. The probe has closed itself by then."""

    def probe_answered(self, probe: Question) -> None: ...

    def probe_refused(self, probe: Question) -> None: ...

    def probe_unsent(self, probe: Question) -> None:
        """For want of a descriptor, buffer or memory of this host nobody was asked. `fault` says which."""


class StatusProbe:
    """A `Question` on a UDP socket."""

    def __init__(self, address: Address, identifier: int, secret: SharedSecret, events: ProbeEvents) -> None:
        self.fault = NO_ANSWER
        self._address = address
        self._identifier = identifier
        self._secret = secret
        self._events = events
        self._authenticator = os.urandom(radius.AUTHENTICATOR_BYTES)
        self._socket: socket.socket | None = None

    def send(self) -> None:
        """Ask. That there is no way to the backend is told like silence, and its error kept as the fault."""
        try:
            self._socket = sock = _connected(self._address)
            asyncio.get_running_loop().add_reader(sock, self._readable)
            sock.send(status_request(self._identifier, self._authenticator, self._secret))
        except OSError as error:
            self.fault = error.strerror or "cannot send"
            if is_local_shortage(error):
                self.close()
                self._events.probe_unsent(self)

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    def _readable(self) -> None:
        """One datagram, or the word of the backend's host. A forged answer may not end the probe."""
        if self._socket is None:
            return
        try:
            datagram = self._socket.recv(radius.LIMIT_BYTES)
        except BlockingIOError:
            return
        except ConnectionRefusedError as error:
            self.fault = error.strerror or "refused"
            self.close()
            self._events.probe_refused(self)
            return
        except OSError as error:
            self.fault = error.strerror or "unreachable"
            return
        fault = self._fault_untrusted(datagram)
        if fault is None:
            self.close()
            self._events.probe_answered(self)
        else:
            self.fault = fault

    def _fault_untrusted(self, datagram: bytes) -> str | None:
        return status_fault_untrusted(datagram, self._identifier, self._authenticator, self._secret)


def _connected(address: Address) -> socket.socket:
    """A UDP socket that hears one peer only. Host names are looked up at the start; here that would stop the loop."""
    flags = socket.AI_NUMERICHOST
    family, kind, protocol, _, peer = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_DGRAM, flags=flags
    )[0]
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        sock.connect(peer)
    except OSError:
        sock.close()
        raise
    return sock


def status_request(identifier: int, authenticator: bytes, secret: SharedSecret) -> bytes:
    """Status-Server: signed, and nothing about any user."""
    return radius.signed_request(radius.STATUS_SERVER, identifier, authenticator, b"", secret)


def status_fault_untrusted(datagram: bytes, identifier: int, authenticator: bytes, secret: SharedSecret) -> str | None:
    """Why this is no answer to the Status-Server with that identifier and authenticator; None when it is one.

    The texts are for operators.
    """
    try:
        packet = radius.read_untrusted(datagram)
    except MalformedMessage as error:
        return error.reason
    if packet.identifier != identifier or packet.code not in _ANSWERS:
        return "unexpected answer"
    if not radius.has_valid_response_authenticator(packet, secret, authenticator):
        return "wrong secret"
    return None
