"""A bad network between UDP programs: it loses, repeats and holds back datagrams, by dice that fall alike each run.

    with UdpRelay(server, Faults(loss=0.05, duplication=0.03, holding=0.1), seed=7) as relay:
        ...  # clients talk to relay.port and know nothing of the server

Each client socket gets a socket of its own towards the server, so that the server tells them apart as before. The dice
of the two directions are `random.Random(seed)` each; which datagram meets which throw is up to the programs' timing.
"""

from __future__ import annotations

import heapq
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from programs.ports import LOOPBACK

_DATAGRAM_BYTES: Final = 65_535
_CLIENTS_LIMIT: Final = 500  # client sockets; past that something is wrong with the test, and it is told so
_BUFFER_BYTES: Final = 1 << 20  # what the kernel drops would be a loss that no counter here knows


@dataclass(frozen=True, slots=True)
class Faults:
    """What may happen to a datagram, each with its probability (0 to 1) and in this order.

    `holding` keeps a datagram (and each copy of it) back for up to `held_s`: later ones overtake it.
    """

    loss: float = 0.0
    duplication: float = 0.0
    holding: float = 0.0
    held_s: float = 0.05


@dataclass(slots=True)
class Tally:
    """What one direction did: `arrived - lost + duplicated` were sent on, `held` of those late."""

    arrived: int = 0
    lost: int = 0
    duplicated: int = 0
    held: int = 0


class _Direction:
    """The dice and the tally of one direction."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self.tally = Tally()
        self._faults = faults
        self._dice = random.Random(seed)  # noqa: S311 - faults must fall alike each run

    def delays_s(self) -> list[float]:
        """When to send each copy of the next datagram, in seconds from now; empty when it is lost."""
        faults, dice, tally = self._faults, self._dice, self.tally
        tally.arrived += 1
        if dice.random() < faults.loss:
            tally.lost += 1
            return []
        copies = 1
        if dice.random() < faults.duplication:
            tally.duplicated += 1
            copies = 2
        delays = []
        for _ in range(copies):
            is_held = dice.random() < faults.holding
            tally.held += is_held
            delays.append(dice.random() * faults.held_s if is_held else 0.0)
        return delays


class UdpRelay:
    """The network: a thread from entering the context to leaving it. What is held back then is never delivered."""

    def __init__(self, server: tuple[str, int], faults: Faults, seed: int) -> None:
        self._server = server
        self._to_server = _Direction(faults, seed)
        self._to_client = _Direction(faults, seed + 1)
        self._front = _bound_socket()
        self.port: Final[int] = self._front.getsockname()[1]
        self._upstreams: dict[tuple[str, int], socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._held: list[tuple[float, int, Callable[[], object]]] = []
        self._number = 0
        self._wake, self._woken = socket.socketpair()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="udp-relay", daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._front, selectors.EVENT_READ, self._from_clients)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.send(b"x")
        self._thread.join(10)
        for one in (self._front, self._wake, self._woken, *self._upstreams.values()):
            one.close()
        self._selector.close()
        assert not self._thread.is_alive(), "the relay's thread does not end"
        assert self._failure is None, f"the relay failed: {self._failure!r}"

    @property
    def to_server(self) -> Tally:
        return self._to_server.tally

    @property
    def to_client(self) -> Tally:
        return self._to_client.tally

    # ------------------------------------------------------------------------------------ its thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:  # noqa: BLE001 - told when the context is left
            self._failure = error

    def _turn(self) -> bool:
        """Waits for datagrams or for the next one that is due; False when the relay is to end."""
        wait_s = max(0.0, self._held[0][0] - time.monotonic()) if self._held else None
        for key, _ in self._selector.select(wait_s):
            if key.data is None:
                return False
            key.data()
        while self._held and self._held[0][0] <= time.monotonic():
            heapq.heappop(self._held)[2]()
        return True

    def _from_clients(self) -> None:
        data, client = self._front.recvfrom(_DATAGRAM_BYTES)
        upstream = self._upstreams.get(client) or self._upstream_of(client)
        self._carry(self._to_server, lambda: _send(upstream, data))

    def _upstream_of(self, client: tuple[str, int]) -> socket.socket:
        if len(self._upstreams) >= _CLIENTS_LIMIT:
            raise RuntimeError(f"more than {_CLIENTS_LIMIT} client sockets")
        upstream = self._upstreams[client] = _bound_socket()
        upstream.connect(self._server)
        self._selector.register(upstream, selectors.EVENT_READ, lambda: self._from_server(upstream, client))
        return upstream

    def _from_server(self, upstream: socket.socket, client: tuple[str, int]) -> None:
        try:
            data = upstream.recv(_DATAGRAM_BYTES)
        except ConnectionRefusedError:  # nobody listens there: a datagram lost like others, as a network would
            return
        self._carry(self._to_client, lambda: self._front.sendto(data, client))

    def _carry(self, direction: _Direction, send: Callable[[], object]) -> None:
        for delay_s in direction.delays_s():
            if delay_s == 0.0:
                send()
            else:
                self._number += 1
                heapq.heappush(self._held, (time.monotonic() + delay_s, self._number, send))


def _bound_socket() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    bound.bind((LOOPBACK, 0))
    return bound


def _send(upstream: socket.socket, data: bytes) -> None:
    try:
        upstream.send(data)
    except ConnectionRefusedError:  # about an earlier datagram; this one was not sent, so it is sent again
        upstream.send(data)
