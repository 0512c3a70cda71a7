"""Connections that arrive on bound sockets, accepted by ourselves where the first bytes are not the event loop's.

asyncio's own servers hand on a connection that reads already; whoever has to look at a socket before that (a PROXY
protocol header, a TLS handshake with limits of its own) accepts here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final

from mfalb.telemetry.rare_log import RareLog

_ACCEPTED_AT_ONCE: Final = 64  # in one round of the loop, so that a flood of clients does not stop everything else
_AGAIN_S: Final = 1.0  # after the kernel had no descriptor or memory for one more


class Arrivals:
    """Each connection is given to `begin` as a non-blocking socket, which is then its own, and its host's address."""

    def __init__(self, begin: Callable[[socket.socket, str], None], log: logging.Logger) -> None:
        self._begin = begin
        self._sockets: list[socket.socket] = []
        self._rare_log = RareLog(log)

    def start(self, sockets: Sequence[socket.socket], backlog: int) -> None:
        """Accept on these, which are closed by `stop`."""
        self._sockets = list(sockets)
        for sock in self._sockets:
            sock.listen(backlog)
            self._accept_from(sock)

    def stop(self) -> None:
        """Accept nobody more."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _accept_from(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                arrived, address = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._rare_log.warning("accept", "cannot accept", {"reason": error.strerror or "no reason given"})
                loop = asyncio.get_running_loop()
                loop.remove_reader(sock)
                loop.call_later(_AGAIN_S, self._accept_from, sock)
                return
            arrived.setblocking(False)
            self._begin(arrived, str(address[0]))
