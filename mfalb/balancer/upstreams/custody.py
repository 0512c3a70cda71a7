"""UDP sockets towards backends outlive their worker: the supervisor holds each, too, and gives it to the next worker.

A server knows a retransmit by the port that it comes from, among others.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mfalb.balancer.config.values import Address
from mfalb.balancer.exchange.flight_log import Flight, FlightLog


@dataclass(frozen=True, slots=True)
class KeptSocket:
    """A connected socket. `number` is its own in this worker's place; `owner` the part of the worker that uses it."""

    number: int
    owner: str
    backend: str
    socket: socket.socket

    def leads_to(self, address: Address) -> bool:
        """Whether it is connected to this address."""
        try:
            host, port = self.socket.getpeername()[:2]
        except OSError:
            return False
        return (str(host), int(port)) == (address.host, address.port)


class Custody:
    """What one carrier of exchanges has of its predecessor's, and where it notes what its successor will want.

    `flights` (by key and authenticator) are filled by the carrier, and found by the exchanges. `is_handed`: the
    predecessor has told itself what it was asking, so nobody has to guess it from its log.
    """

    def __init__(
        self,
        log: FlightLog,
        kept: Sequence[KeptSocket],
        opened: Callable[[str, socket.socket], int],
        let_go: Callable[[int], None],
    ) -> None:
        self.log = log
        self.kept = kept
        self.opened = opened
        self.let_go = let_go
        self.is_handed = False
        self.flights: dict[bytes, Flight] = {}


class SocketKeeper:
    """All that a worker has opened: numbers them, and gives each to `keep`; `let_go` when it is of no use any more."""

    def __init__(
        self,
        log: FlightLog,
        kept: Sequence[KeptSocket],
        keep: Callable[[KeptSocket], None],
        let_go: Callable[[int], None],
    ) -> None:
        self._log = log
        self._kept = kept
        self._keep = keep
        self._let_go = let_go
        self._is_handed = False
        self.last = max((one.number for one in kept), default=0)

    def follow_on(self, last: int) -> None:
        """The sockets were handed over by one who has numbered up to `last`, and who goes on using the others."""
        self._is_handed = True
        self.last = max(self.last, last)

    def custody(self, owner: str) -> Custody:
        """That of one carrier, by its name."""

        def opened(backend: str, sock: socket.socket) -> int:
            self.last += 1
            self._keep(KeptSocket(self.last, owner, backend, sock))
            return self.last

        custody = Custody(self._log, [one for one in self._kept if one.owner == owner], opened, self._let_go)
        custody.is_handed = self._is_handed
        return custody
