"""One epoll descriptor for all UDP sockets of a worker."""

from __future__ import annotations

import select
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable


class DatagramPoller:
    """Watches many UDP sockets through one epoll descriptor, and says when a round of reading is over.

    A descriptor of its own because libuv stops polling a socket that has a pending error, and a UDP socket whose peer
    refused a datagram has one. `after_round` is called once after all ready sockets were read: the place to send what
    they gave rise to, in batches. Within a round the `first` sockets are read before the others.
    """

    def __init__(self, loop: AbstractEventLoop, after_round: Callable[[], None]) -> None:
        self._epoll = select.epoll()
        self._first: dict[int, Callable[[], None]] = {}
        self._readers: dict[int, Callable[[], None]] = {}
        self._after_round = after_round
        self._loop = loop
        loop.add_reader(self._epoll.fileno(), self._round)

    def watch(self, sock: socket.socket, reader: Callable[[], None], *, first: bool = False) -> None:
        """Call `reader` when there is something to read. `first`: what ends work, before what begins more of it.

        Raises OSError (ENOMEM, ENOSPC) when the kernel cannot watch one more; then nothing is kept.
        """
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        (self._first if first else self._readers)[sock.fileno()] = reader

    def forget(self, sock: socket.socket) -> None:
        for readers in (self._first, self._readers):
            readers.pop(sock.fileno(), None)
        self._epoll.unregister(sock.fileno())

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _round(self) -> None:
        try:
            ready = self._epoll.poll(0)
            for readers in (self._first, self._readers):
                for descriptor, _ in ready:
                    reader = readers.get(descriptor)
                    if reader is not None:
                        reader()
        finally:  # a reader that failed keeps nobody waiting: the others' turn comes with the next round
            self._after_round()
