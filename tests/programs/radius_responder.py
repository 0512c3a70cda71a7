"""A RADIUS server that a test tells what to answer, and that notes all it is asked.

It shares no code with the balancer: its answers are signed here, by RFC 2865 section 3 and RFC 3579 section 3.2.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Self

from programs.ports import LOOPBACK

ACCESS_REQUEST: Final = 1
ACCESS_ACCEPT: Final = 2
ACCESS_REJECT: Final = 3
ACCESS_CHALLENGE: Final = 11
STATUS_SERVER: Final = 12
_STATE: Final = 24
_MESSAGE_AUTHENTICATOR: Final = 80


@dataclass(frozen=True, slots=True)
class Asked:
    """One datagram that came: when (monotonic seconds), from which port, and its bytes."""

    at_s: float
    port: int
    data: bytes

    @property
    def code(self) -> int:
        return self.data[0]

    @property
    def identifier(self) -> int:
        return self.data[1]

    @property
    def authenticator(self) -> bytes:
        return self.data[4:20]

    @property
    def attribute_types(self) -> list[int]:
        """The attributes' types in order. Raises IndexError when the lengths do not fit."""
        return [one for one, _ in self.attributes]

    @property
    def attributes(self) -> list[tuple[int, bytes]]:
        """Types and values in order. Raises IndexError when the lengths do not fit."""
        found, position = [], 20
        while position < len(self.data):
            end = position + self.data[position + 1]
            found.append((self.data[position], self.data[position + 2 : end]))
            position = end
        return found


@dataclass(slots=True)
class Manners:
    """How a server behaves; may be changed while it runs. None: it never answers."""

    status_after_s: float | None = 0.0
    access_after_s: float | None = 0.0
    signs_with: str | None = None  # another secret than its own
    forged_first: bool = False  # each answer to Status-Server is preceded by one that another secret signed
    challenges: bool = False  # a sign-in takes two halves: the second one brings a State that this server has given


@dataclass(frozen=True, slots=True, order=True)
class _Due:
    at_s: float
    datagram: bytes = field(compare=False)
    peer: tuple[str, int] = field(compare=False)


class RadiusResponder:
    """The server, in a thread; a context manager. `name`, `address` and `secret` are what a configuration needs."""

    def __init__(self, name: str, secret: str, manners: Manners | None = None) -> None:
        self.name: Final = name
        self.secret: Final = secret
        self.manners = manners or Manners()
        self.asked: list[Asked] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self._socket.settimeout(0.02)
        self._due: list[_Due] = []
        self._states: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"responder {name}")

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        self._socket.close()

    def probes(self) -> list[Asked]:
        return [one for one in self.asked if one.code == STATUS_SERVER]

    def requests(self) -> list[Asked]:
        """What was asked on behalf of users, every copy of it."""
        return [one for one in self.asked if one.code == ACCESS_REQUEST]

    def answer(self, asked: Asked) -> None:
        """Say yes now to what was met with silence before."""
        self._socket.sendto(accept(asked, self.secret), (LOOPBACK, asked.port))

    # ------------------------------------------------------------------------------------ the thread

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                data, peer = self._socket.recvfrom(4096)
            except TimeoutError:
                pass
            else:
                self._take(Asked(time.monotonic(), peer[1], data), peer)
            now = time.monotonic()
            for one in sorted(one for one in self._due if one.at_s <= now):
                self._socket.sendto(one.datagram, one.peer)
            self._due = [one for one in self._due if one.at_s > now]

    def _take(self, asked: Asked, peer: tuple[str, int]) -> None:
        self.asked.append(asked)
        manners, is_probe = self.manners, asked.code == STATUS_SERVER
        after_s = manners.status_after_s if is_probe else manners.access_after_s
        if after_s is None:
            return
        if is_probe and manners.forged_first:
            self._due.append(_Due(asked.at_s + after_s, accept(asked, "nobody's secret"), peer))
        secret = manners.signs_with or self.secret
        answer = self._half(asked, secret) if manners.challenges and not is_probe else accept(asked, secret)
        self._due.append(_Due(asked.at_s + after_s, answer, peer))

    def _half(self, asked: Asked, secret: str) -> bytes:
        """The answer to one half of a sign-in."""
        state = dict(asked.attributes).get(_STATE)
        if state is not None:
            return reply(ACCESS_ACCEPT if state in self._states else ACCESS_REJECT, asked, secret)
        fresh = os.urandom(16)
        self._states.add(fresh)
        return reply(ACCESS_CHALLENGE, asked, secret, bytes((_STATE, 18)) + fresh)


def accept(asked: Asked, secret: str) -> bytes:
    """An Access-Accept with a Message-Authenticator and nothing else."""
    return reply(ACCESS_ACCEPT, asked, secret)


def reply(code: int, asked: Asked, secret: str, more: bytes = b"") -> bytes:
    """An answer with a Message-Authenticator, and `more` attributes behind it."""
    head = bytes((code, asked.identifier)) + (38 + len(more)).to_bytes(2)
    blank = bytes((_MESSAGE_AUTHENTICATOR, 18)) + bytes(16)
    signature = hmac.digest(secret.encode(), head + asked.authenticator + blank + more, "md5")
    attributes = blank[:2] + signature + more
    return head + hashlib.md5(head + asked.authenticator + attributes + secret.encode()).digest() + attributes
