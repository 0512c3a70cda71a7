"""New TLS connections, one request each, in a closed loop: with full handshakes, or all resuming one session.

wrk takes a session up again wherever a server lets it, and so measures the one here and the other there.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from dataclasses import dataclass, replace
from typing import Final

from programs.ports import LOOPBACK

_HOST: Final = "bench.example"
_PIECE_BYTES: Final = 16 * 1024
_POLL_S: Final = 0.1
_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Visit:
    """What each new connection does: whom it believes, what it asks, and the session that it takes up, if any."""

    port: int
    context: ssl.SSLContext
    cookie: str | None = None
    session: ssl.SSLSession | None = None

    @property
    def request(self) -> bytes:
        cookie = f"Cookie: {self.cookie}\r\n" if self.cookie else ""
        return f"GET / HTTP/1.1\r\nHost: {_HOST}\r\n{cookie}Connection: close\r\n\r\n".encode("ascii")

    def connect(self, timeout_s: float) -> ssl.SSLSocket:
        """A connection whose handshake has not begun; non-blocking for a `timeout_s` of 0."""
        plain = socket.create_connection((LOOPBACK, self.port), timeout=_TIMEOUT_S)
        plain.settimeout(timeout_s)
        return self.context.wrap_socket(
            plain, server_hostname=_HOST, do_handshake_on_connect=False, session=self.session
        )


@dataclass(slots=True)
class Handshakes:
    """Connections that were served; `wrong` were answered by anything but 200, or (not) resumed against our wish."""

    count: int = 0
    wrong: int = 0
    elapsed_s: float = 0.0


def given_session(visit: Visit) -> ssl.SSLSession | None:
    """A session that the server gives and takes up again; None when it does not. Raises OSError."""
    _, session = _visit_once(visit)
    is_resumed, _ = _visit_once(replace(visit, session=session))
    return session if is_resumed else None


def _visit_once(visit: Visit) -> tuple[bool, ssl.SSLSession | None]:
    """Whether a connection, now closed, took a session up; the session that it ended with."""
    with visit.connect(_TIMEOUT_S) as connection:
        connection.do_handshake()
        connection.sendall(visit.request)
        while connection.recv(_PIECE_BYTES):  # with TLS 1.3, tickets come after the handshake
            pass
        return bool(connection.session_reused), connection.session


class _Lane:
    """Connects, asks, reads to the end, and begins anew."""

    def __init__(self, visit: Visit, tally: Handshakes) -> None:
        self._visit = visit
        self._tally = tally
        self.begin()

    def begin(self) -> None:
        self.socket = self._visit.connect(0.0)
        self._answer = b""
        self._has_asked = False

    def advance(self) -> int:
        """Goes on as far as the network lets it; the events to wait for, 0 when this visit is over."""
        try:
            if not self._has_asked:
                self.socket.do_handshake()
                self.socket.send(self._visit.request)
                self._has_asked = True
            while received := self.socket.recv(_PIECE_BYTES):
                self._answer = self._answer or received
        except ssl.SSLWantReadError:
            return select.EPOLLIN
        except ssl.SSLWantWriteError:
            return select.EPOLLOUT
        is_as_wanted = self.socket.session_reused == (self._visit.session is not None)
        self._tally.count += 1
        self._tally.wrong += not (is_as_wanted and self._answer.startswith(b"HTTP/1.1 200 "))
        self.socket.close()
        return 0


def connect_again_and_again(visit: Visit, lanes: int, seconds: float) -> Handshakes:
    """Opens connections for `seconds`, `lanes` at a time. Raises OSError when one breaks."""
    tally, open_lanes, began_s = Handshakes(), dict[int, _Lane](), time.perf_counter()
    with select.epoll() as poll:
        try:
            for _ in range(lanes):
                _begin(poll, open_lanes, _Lane(visit, tally))
            while (now_s := time.perf_counter()) - began_s < seconds:
                for descriptor, _ in poll.poll(_POLL_S):
                    lane = open_lanes[descriptor]
                    if events := lane.advance():
                        poll.modify(descriptor, events)
                        continue
                    del open_lanes[descriptor]  # closed, and so forgotten by the poll
                    lane.begin()
                    _begin(poll, open_lanes, lane)
        finally:
            for lane in open_lanes.values():
                lane.socket.close()
    tally.elapsed_s = now_s - began_s
    return tally


def _begin(poll: select.epoll, open_lanes: dict[int, _Lane], lane: _Lane) -> None:
    open_lanes[lane.socket.fileno()] = lane
    poll.register(lane.socket, select.EPOLLOUT)  # the client speaks first
