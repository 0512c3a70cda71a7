"""RADIUS clients as network access servers are: a primary server, a secondary one, and patience of 3 tries of 3 s each.

All of them retransmit the same bytes from the same socket, and none hears of a refused port: their sockets are not
connected, and a dead host sends no refusal anyway.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from programs import radclient
from programs.ports import LOOPBACK

from mfalb.errors import MalformedMessage
from mfalb.wire.radius import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    NAS_IDENTIFIER,
    USER_NAME,
    USER_PASSWORD,
    SharedSecret,
    attribute,
    has_valid_response_authenticator,
    read_untrusted,
    signed_request,
)
from mfalb.wire.radius_hidden import hide_password

_USER: Final = "alice@bench.example"
_PASSWORD: Final = "correct-horse"  # noqa: S105 - made up
_DATAGRAM_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Server:
    """Where a client asks."""

    port: int
    secret: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits for an answer to each of its tries at one server."""

    timeout_s: float = 3.0
    tries: int = 3


@dataclass(frozen=True, slots=True)
class SignIn:
    """One user's way in: how long it took, and how often the user was refused and began again."""

    elapsed_s: float
    failed_attempts: int
    is_in: bool = True


Ask = Callable[[Server, Patience], bool]  # whether this server accepts the user, after as many tries as it takes


class Nas:
    """A client of servers in order of preference. Users sign in from several threads at once.

    With a dead time, a server that let a user wait in vain is asked last for so long. Without one, which is many
    vendors' default, every user waits for the primary server first.
    """

    def __init__(self, servers: Sequence[Server], ask: Ask, patience: Patience, dead_time_s: float = 0.0) -> None:
        self._ask = ask
        self._patience = patience
        self._dead_time_s = dead_time_s
        self._dead_until_s = dict.fromkeys(servers, 0.0)

    def sign_in(self, limit_s: float) -> SignIn:
        """Asks server after server; a user for whom none answered tries again at once, and gives up after `limit_s`."""
        began_s, failed_attempts = time.monotonic(), 0
        while True:
            is_in = any(self._is_accepted_by(server) for server in self._in_order())
            elapsed_s = time.monotonic() - began_s
            if is_in or elapsed_s > limit_s:
                return SignIn(elapsed_s, failed_attempts, is_in)
            failed_attempts += 1

    def _in_order(self) -> list[Server]:
        now_s = time.monotonic()
        return sorted(self._dead_until_s, key=lambda server: self._dead_until_s[server] > now_s)

    def _is_accepted_by(self, server: Server) -> bool:
        is_accepted = self._ask(server, self._patience)
        self._dead_until_s[server] = 0.0 if is_accepted else time.monotonic() + self._dead_time_s
        return is_accepted


def ask_with_radclient(server: Server, patience: Patience) -> bool:
    """By FreeRADIUS's radclient, started for this user. It waits idly for whole seconds only; else it spins."""
    target = radclient.Target(LOOPBACK, server.port, server.secret, timeout_s=patience.timeout_s, tries=patience.tries)
    (answer,) = radclient.send(target, [[("User-Name", _USER), ("User-Password", _PASSWORD)]])
    return answer is not None and answer.code == "Access-Accept"


def ask(server: Server, patience: Patience) -> bool:
    """By a datagram of our own, from a new socket."""
    secret, authenticator = SharedSecret(server.secret.encode()), os.urandom(16)
    body = attribute(USER_NAME, _USER.encode()) + attribute(NAS_IDENTIFIER, b"bench")
    hidden = attribute(USER_PASSWORD, hide_password(_PASSWORD.encode(), secret, authenticator))
    request = signed_request(ACCESS_REQUEST, authenticator[0], authenticator, body + hidden, secret)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(patience.timeout_s)
        for _ in range(patience.tries):
            asking.sendto(request, (LOOPBACK, server.port))
            with suppress(TimeoutError):
                return _is_accept(asking.recv(_DATAGRAM_BYTES), secret, authenticator)
    return False


def _is_accept(answer: bytes, secret: SharedSecret, authenticator: bytes) -> bool:
    try:
        packet = read_untrusted(answer)
    except MalformedMessage:
        return False
    return packet.code == ACCESS_ACCEPT and has_valid_response_authenticator(packet, secret, authenticator)
