"""A network that brings each datagram of a client to another balancer, and from another port, as an ECMP fabric may.

with UdpSpreader([first.port, second.port]) as spreader:
    ...  # clients talk to spreader.port; the answers come back from there
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from typing import Final, Self

from programs.ports import LOOPBACK

_DATAGRAM_BYTES: Final = 65_535
_SOCKETS_LIMIT: Final = 2000


class UdpSpreader:
    """A thread from entering the context to leaving it. `brought` counts the datagrams that each port got."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._turns = cycle(ports)
        self.brought: Counter[int] = Counter()
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind((LOOPBACK, 0))
        self.port: Final[int] = self._front.getsockname()[1]
        self._backs: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="udp-spreader", daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._front, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._wake.send(b"x")
        self._thread.join(10)
        for one in (self._front, self._wake, self._woken, *self._backs):
            one.close()
        self._selector.close()
        assert self._failure is None, f"the spreader failed: {self._failure!r}"

    def _run(self) -> None:
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj is self._woken:
                        return
                    self._carry(key)
        except Exception as error:  # noqa: BLE001 - told when the context is left
            self._failure = error

    def _carry(self, key: selectors.SelectorKey) -> None:
        if key.fileobj is not self._front:
            back, client = key.fileobj, key.data
            assert isinstance(back, socket.socket)
            self._front.sendto(back.recv(_DATAGRAM_BYTES), client)
            return
        data, client = self._front.recvfrom(_DATAGRAM_BYTES)
        if len(self._backs) >= _SOCKETS_LIMIT:
            raise RuntimeError(f"more than {_SOCKETS_LIMIT} datagrams")
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._backs.append(back)
        port = next(self._turns)
        self.brought[port] += 1
        back.connect((LOOPBACK, port))
        self._selector.register(back, selectors.EVENT_READ, client)
        back.send(data)
