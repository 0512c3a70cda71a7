"""Moves large bodies over a few plain connections, cheaply enough not to be what is measured.

wrk reads 8 KB at a time, which costs it more than the contenders spend; here a read or write moves up to 1 MB.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Final

from programs.ports import LOOPBACK

BODY_BYTES: Final = 10 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024
_HEAD_END: Final = b"\r\n\r\n"
_POLL_S: Final = 0.1


class Direction(Enum):
    """Which way the large bodies go; the value is the whole request, less an upload's body."""

    DOWN = b"GET /large HTTP/1.1\r\nHost: bench.example\r\n\r\n"
    UP = b"POST /upload HTTP/1.1\r\nHost: bench.example\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES


@dataclass(slots=True)
class Moved:
    """Body bytes that went through in `elapsed_s`, and whether every answer was 200."""

    body_bytes: int = 0
    elapsed_s: float = 0.0
    errors: int = 0


class _Transfer:
    """One connection that sends request after request; `left_out` and `left_in` are bytes still to come."""

    def __init__(self, port: int, direction: Direction, moved: Moved) -> None:
        self.socket: Final = socket.create_connection((LOOPBACK, port), timeout=10)
        self.socket.setblocking(False)
        self._direction = direction
        self._moved = moved
        self._buffer = memoryview(bytearray(_PIECE_BYTES))
        self._left_out = 0
        self._left_in = -1  # unknown: the head of the answer has not come
        self._head = b""
        self.begin()

    @property
    def events(self) -> int:
        return select.EPOLLIN | (select.EPOLLOUT if self._left_out else 0)

    def begin(self) -> None:
        self.socket.send(self._direction.value)  # far smaller than an empty socket buffer
        self._left_out = BODY_BYTES if self._direction is Direction.UP else 0
        self._left_in, self._head = -1, b""

    def write(self) -> None:
        sent = self.socket.send(self._buffer[: min(self._left_out, _PIECE_BYTES)])
        self._left_out -= sent
        self._moved.body_bytes += sent

    def read(self) -> None:
        count = self.socket.recv_into(self._buffer)
        if not count:
            raise ConnectionError("the contender closed a connection in the middle")
        body = count if self._left_in >= 0 else self._take_head(bytes(self._buffer[:count]))
        if self._left_in < 0:
            return
        self._left_in -= body
        if self._direction is Direction.DOWN:
            self._moved.body_bytes += body
        if not self._left_in:
            self.begin()

    def _take_head(self, received: bytes) -> int:
        """Reads the head of an answer; how many bytes of the body came with it."""
        self._head += received
        head, end, body = self._head.partition(_HEAD_END)
        if not end:
            return 0
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        self._left_in = int(fields[b"content-length"])
        self._moved.errors += not head.startswith(b"HTTP/1.1 200 ") or self._left_out > 0
        return len(body)


def move(port: int, direction: Direction, seconds: float, connections: int = 8) -> Moved:
    """Moves bodies for `seconds`. Raises OSError when a connection breaks."""
    moved = Moved()
    with ExitStack() as opened, select.epoll() as poll:
        transfers: dict[int, _Transfer] = {}
        for _ in range(connections):
            transfer = _Transfer(port, direction, moved)
            opened.enter_context(transfer.socket)
            transfers[transfer.socket.fileno()] = transfer
            poll.register(transfer.socket, transfer.events)
        began_s = time.perf_counter()
        while (now_s := time.perf_counter()) - began_s < seconds:
            for descriptor, event in poll.poll(_POLL_S):
                transfer = transfers[descriptor]
                before = transfer.events
                if event & select.EPOLLOUT:
                    transfer.write()
                if event & ~select.EPOLLOUT:
                    transfer.read()
                if transfer.events != before:
                    poll.modify(descriptor, transfer.events)
        moved.elapsed_s = now_s - began_s
    return moved
