"""What one worker knows of RADIUS exchanges, as another one goes on with it when the balancer's code is exchanged.

    whole     what it is (8) | records | the end
    record    kind (1) | length of the body (4) | body, by its kind:
    service   its name                                  (a listener's and its service's: what follows is of this one)
    endpoint  the address that it is bound to           (what follows has come there)
    flight    entropy (16) | socket's number (4) | identifier (1) | flags (1) | transmissions (2)
              | begun, first sent, last sent, deadline (8 each) | lengths of peer and backend (1 + 1) | peer | backend
              | the client's datagram
    answer    authenticator (16) | expires at (8) | length of what follows (1) | peer, code and identifier
              | the datagram that the client got
    end       how many records there were (8)

Numbers are the host's own: both workers are on one. Times are monotonic seconds, which all its processes share.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mfalb.errors import MalformedMessage

MAGIC: Final = b"mfalbRX1"  # its last byte is the version of this form
_RECORD: Final = struct.Struct("=BI")
_FLIGHT: Final = struct.Struct("=16sIBBH4dBB")
_ANSWER: Final = struct.Struct("=16sdB")
_COUNT: Final = struct.Struct("=Q")
_SERVICE, _ENDPOINT, _FLIGHT_KIND, _ANSWER_KIND, _END = range(1, 6)
_IS_SUPERSEDED: Final = 1
_IS_ELSEWHERE: Final = 2
_NAME_LIMIT_BYTES: Final = 1024
_DATAGRAM_LIMIT_BYTES: Final = 4096
_TRANSMISSIONS_LIMIT: Final = 0xFFFF
_KEY_TAIL_BYTES: Final = 2  # code and identifier, behind the peer


class HandedFlight(NamedTuple):
    """A request under way. `socket` is the number of the upstream socket that holds `identifier` for it.

    `is_elsewhere`: it stays with the former worker, who will answer it (over a connection that cannot be handed over).
    """

    datagram: bytes
    peer: bytes
    backend: str
    entropy: bytes
    socket: int
    identifier: int
    transmissions: int
    begun_at: float
    first_sent_at: float
    sent_at: float
    deadline: float
    is_superseded: bool = False
    is_elsewhere: bool = False


class HandedAnswer(NamedTuple):
    """What a client was told, for its retransmits. `asked` is its peer, the code and the identifier."""

    asked: bytes
    authenticator: bytes
    datagram: bytes
    expires_at: float


@dataclass(slots=True)
class HandedEndpoint:
    """One address of a listener: the socket's own name, as text."""

    address: str
    flights: list[HandedFlight] = field(default_factory=list)
    answers: list[HandedAnswer] = field(default_factory=list)


@dataclass(slots=True)
class HandedService:
    """A service of a listener (`owner`, as its upstream sockets are kept by)."""

    owner: str
    endpoints: list[HandedEndpoint] = field(default_factory=list)


def packed(services: Iterable[HandedService]) -> bytes:
    """The bytes for `read_untrusted`."""
    pieces, count = [MAGIC], 0
    for service in services:
        pieces += _record(_SERVICE, service.owner.encode())
        count += 1
        for endpoint in service.endpoints:
            pieces += _record(_ENDPOINT, endpoint.address.encode())
            for flight in endpoint.flights:
                pieces += _record(_FLIGHT_KIND, _flight_bytes(flight))
            for answer in endpoint.answers:
                head = _ANSWER.pack(answer.authenticator, answer.expires_at, len(answer.asked))
                pieces += _record(_ANSWER_KIND, head + answer.asked + answer.datagram)
            count += 1 + len(endpoint.flights) + len(endpoint.answers)
    pieces += _record(_END, _COUNT.pack(count))
    return b"".join(pieces)


def _record(kind: int, body: bytes) -> tuple[bytes, bytes]:
    return _RECORD.pack(kind, len(body)), body


def _flight_bytes(flight: HandedFlight) -> bytes:
    backend = flight.backend.encode()
    head = _FLIGHT.pack(
        flight.entropy,
        flight.socket,
        flight.identifier,
        flight.is_superseded * _IS_SUPERSEDED + flight.is_elsewhere * _IS_ELSEWHERE,
        min(flight.transmissions, _TRANSMISSIONS_LIMIT),
        flight.begun_at,
        flight.first_sent_at,
        flight.sent_at,
        flight.deadline,
        len(flight.peer),
        len(backend),
    )
    return head + flight.peer + backend + flight.datagram


def read_untrusted(data: bytes) -> list[HandedService]:
    """What was packed. Raises MalformedMessage for all else, whole or in part."""
    if data[: len(MAGIC)] != MAGIC:
        raise MalformedMessage("handed_version")
    services: list[HandedService] = []
    at, count = len(MAGIC), 0
    while at + _RECORD.size <= len(data):
        kind, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        body = data[at : at + size]
        at += size
        if len(body) < size:
            break
        if kind == _END:
            if body != _COUNT.pack(count) or at != len(data):
                raise MalformedMessage("handed_count")
            return services
        count += 1
        _take(kind, body, services)
    raise MalformedMessage("handed_short")


def _take(kind: int, body: bytes, services: list[HandedService]) -> None:
    if kind == _SERVICE:
        services.append(HandedService(_text(body)))
        return
    if not services:
        raise MalformedMessage("handed_order")
    endpoints = services[-1].endpoints
    if kind == _ENDPOINT:
        endpoints.append(HandedEndpoint(_text(body)))
        return
    if not endpoints:
        raise MalformedMessage("handed_order")
    if kind == _FLIGHT_KIND:
        endpoints[-1].flights.append(_flight(body))
    elif kind == _ANSWER_KIND:
        endpoints[-1].answers.append(_answer(body))
    else:
        raise MalformedMessage("handed_kind")


def _text(body: bytes) -> str:
    if len(body) > _NAME_LIMIT_BYTES:
        raise MalformedMessage("handed_name")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise MalformedMessage("handed_name") from None


def _flight(body: bytes) -> HandedFlight:
    if len(body) < _FLIGHT.size:
        raise MalformedMessage("handed_flight")
    entropy, sock, identifier, flags, transmissions, *times, peer_bytes, name_bytes = _FLIGHT.unpack_from(body)
    begun_at, first_sent_at, sent_at, deadline = times
    names_at, datagram_at = _FLIGHT.size + peer_bytes, _FLIGHT.size + peer_bytes + name_bytes
    datagram = body[datagram_at:]
    if not 0 < len(datagram) <= _DATAGRAM_LIMIT_BYTES or flags > (_IS_SUPERSEDED | _IS_ELSEWHERE):
        raise MalformedMessage("handed_flight")
    return HandedFlight(
        datagram=datagram,
        peer=body[_FLIGHT.size : names_at],
        backend=_text(body[names_at:datagram_at]),
        entropy=entropy,
        socket=sock,
        identifier=identifier,
        transmissions=transmissions,
        begun_at=begun_at,
        first_sent_at=first_sent_at,
        sent_at=sent_at,
        deadline=deadline,
        is_superseded=bool(flags & _IS_SUPERSEDED),
        is_elsewhere=bool(flags & _IS_ELSEWHERE),
    )


def _answer(body: bytes) -> HandedAnswer:
    if len(body) < _ANSWER.size:
        raise MalformedMessage("handed_answer")
    authenticator, expires_at, asked_bytes = _ANSWER.unpack_from(body)
    datagram_at = _ANSWER.size + asked_bytes
    datagram = body[datagram_at:]
    if asked_bytes < _KEY_TAIL_BYTES or not 0 < len(datagram) <= _DATAGRAM_LIMIT_BYTES:
        raise MalformedMessage("handed_answer")
    return HandedAnswer(body[_ANSWER.size : datagram_at], authenticator, datagram, expires_at)
