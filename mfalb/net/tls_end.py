"""Our end of TLS on a connection: bytes of the event loop's transport in, a plain protocol's bytes out.

What asyncio and uvloop have for this keeps a buffer of 256 KiB for each connection, and touches another one with each
read. Here all connections share one buffer for what arrives and one for what it says in clear. Measured with an echo
server on uvloop: 10 to 11 us of CPU time a request instead of 12 to 13 over 64 connections, 20 to 23 instead of 29 to
31 over 512, where so many buffers do not fit into the processor's caches.

One event loop a process may use it: the buffers hold something only while `buffer_updated` runs.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

_RECORD_BYTES: Final = 16_384  # the most that one record says (RFC 8446, section 5.1)
_BUFFER_BYTES: Final = 65_536
_GOODBYE_TIMEOUT_S: Final = 5.0

# Ciphertext as it arrives; OpenSSL keeps what is not a whole record yet.
_ARRIVED: Final = memoryview(bytearray(_BUFFER_BYTES))
# In clear. There is always room for one more record, so that OpenSSL never holds back a part of one.
_CLEAR: Final = memoryview(bytearray(_BUFFER_BYTES))

_SHAKING_HANDS: Final = 0
_REFUSED: Final = 1  # in the handshake
_OPEN: Final = 2
_CLOSING: Final = 3


class TlsDoor(Protocol):
    """Who may begin a handshake with a server."""

    def enter(self, client: str) -> str | None:
        """What a client's handshake is counted under, from its address; None when there is no room."""

    def leave(self, source: str) -> None:
        """A handshake that was counted is over, well or not."""


class TlsTerms:
    """What connections of one kind have in common; `under_way` counts those whose handshake is not done."""

    __slots__ = ("context", "door", "handshake_timeout_s", "under_way")

    def __init__(self, context: ssl.SSLContext, handshake_timeout_s: float, door: TlsDoor | None = None) -> None:
        self.context = context
        self.handshake_timeout_s = handshake_timeout_s
        self.door = door
        self.under_way = 0


class TlsEnd:
    """To the event loop a BufferedProtocol, to `protocol` the transport, of which it is told after the handshake.

    A server's end, or, with the name that is asked for, a client's: who connects waits for `opened` then. `protocol`
    reads, writes and closes as with asyncio's TLS: there is no half-close, and a peer that ends its side has left.
    `close` sends what was written and close_notify, and waits for the peer's end, for 5 s at most. `client` is a
    server's client where another address counts than that of the connection.
    """

    __slots__ = (
        "_arrived",
        "_client",
        "_core",
        "_end",
        "_is_paused",
        "_opened",
        "_protocol",
        "_raw",
        "_received",
        "_source",
        "_state",
        "_terms",
        "_timer",
        "_to_send",
    )

    def __init__(
        self, terms: TlsTerms, protocol: asyncio.Protocol, server_name: str | None = None, client: str = ""
    ) -> None:
        self._terms = terms
        self._client = client
        self._source: str | None = None
        self._protocol: asyncio.Protocol | None = protocol
        self._received: Callable[[bytes], None] = protocol.data_received
        self._arrived = ssl.MemoryBIO()
        self._to_send = ssl.MemoryBIO()
        self._end = terms.context.wrap_bio(
            self._arrived, self._to_send, server_side=server_name is None, server_hostname=server_name
        )
        # Python's SSLObject only passes `read` and `write` on to this: 0.1 us each. `read` gives a number when it is
        # given a buffer.
        self._core: Any = getattr(self._end, "_sslobj", self._end)
        self._opened: asyncio.Future[None] | None = None
        if server_name is not None:
            self._opened = asyncio.get_running_loop().create_future()
        self._raw: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._state = _SHAKING_HANDS
        self._is_paused = False

    # ------------------------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.Transport) -> None:
        terms = self._terms
        if terms.door is not None:
            peer = transport.get_extra_info("peername")
            self._source = terms.door.enter(self._client or (peer[0] if peer else ""))
            if self._source is None:
                self._protocol, self._state = None, _REFUSED
                transport.abort()
                return
        self._raw = transport
        terms.under_way += 1
        self._timer = asyncio.get_running_loop().call_later(terms.handshake_timeout_s, transport.abort)
        if not self._end.server_side:
            self._shake_hands()  # who calls speaks first

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - all there is
        return _ARRIVED

    def buffer_updated(self, nbytes: int) -> None:
        state = self._state
        if state == _OPEN:
            self._arrived.write(_ARRIVED[:nbytes])
            if not self._is_paused:
                self._read_untrusted()
        elif state == _SHAKING_HANDS:
            self._arrived.write(_ARRIVED[:nbytes])
            self._shake_hands()
            self._read_on()
        # else forgotten: a close with unread input would be a reset, which overtakes the last words

    def eof_received(self) -> bool:
        """Never true: the transport closes when everything was sent."""
        self._read_on()
        if self._state == _OPEN:
            self._peer_ended()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        protocol, self._protocol, self._raw = self._protocol, None, None
        self._received = _forget  # a bound method holds its object
        if protocol is None:
            return
        if self._state in {_SHAKING_HANDS, _REFUSED}:
            self._leave_door()
            self._failed(error or ConnectionResetError("the connection ended in the TLS handshake"))
        else:
            self._state = _CLOSING
            protocol.connection_lost(error)

    def pause_writing(self) -> None:
        if self._state == _OPEN and self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._state == _OPEN and self._protocol is not None:
            self._protocol.resume_writing()

    async def opened(self) -> None:
        """Wait for the end of a client's handshake. Raises ssl.SSLError or OSError; cancelled, it lets go."""
        if self._opened is None:
            raise ValueError("a server's end is not waited for")
        try:
            await self._opened
        except BaseException:
            self.abort()
            raise

    # ------------------------------------------------------------------------------ the protocol's side

    def write(self, data: bytes) -> None:
        """Send; after `close` nothing is sent any more."""
        raw = self._raw
        if self._state != _OPEN or raw is None or not data:
            return
        size = len(data)
        if size <= _RECORD_BYTES:
            self._core.write(data)
            raw.write(self._to_send.read())
            return
        view = memoryview(data)  # record by record: OpenSSL never gives back what its buffer has grown to
        for at in range(0, size, _RECORD_BYTES):
            self._core.write(view[at : at + _RECORD_BYTES])
            raw.write(self._to_send.read())

    def close(self) -> None:
        """Say goodbye behind what was written, and wait for the peer's end."""
        if self._state == _OPEN:
            self._say_goodbye()
            self._end_sending()

    def abort(self) -> None:
        """Let go at once; what was not sent yet is lost."""
        if self._raw is not None:
            if self._state == _OPEN:
                self._state = _CLOSING
            self._raw.abort()

    def is_closing(self) -> bool:
        """Whether nothing more is read and written."""
        return self._state == _CLOSING or self._raw is None or self._raw.is_closing()

    def pause_reading(self) -> None:
        """Hold what arrives: `data_received` is not called until `resume_reading`."""
        self._is_paused = True
        if self._raw is not None and self._state == _OPEN:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Go on, with what was held first."""
        self._is_paused = False
        if self._raw is not None and self._state == _OPEN:
            self._raw.resume_reading()
            if self._arrived.pending:
                asyncio.get_running_loop().call_soon(self._read_on)

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0 if self._raw is None else self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object`, and what the transport below knows: `peername`, `sockname`, `socket`."""
        if name == "ssl_object":
            return self._end
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    # ------------------------------------------------------------------------------ handshake, reading, the end

    def _shake_hands(self) -> None:
        try:
            self._end.do_handshake()
        except ssl.SSLWantReadError:
            self._send_records()
            return
        except ssl.SSLError as error:  # a server's is told of and counted by the context's SSLObject
            self._state = _REFUSED
            self._failed(error)
            self._end_sending()  # with the alert that says why
            return
        self._send_records()
        raw, protocol = self._raw, self._protocol
        if raw is None or protocol is None or raw.is_closing():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._leave_door()
        self._state = _OPEN
        protocol.connection_made(self)  # type: ignore[arg-type]  # all of a transport that they use
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    def _leave_door(self) -> None:
        terms = self._terms
        terms.under_way -= 1
        if terms.door is not None and self._source is not None:
            terms.door.leave(self._source)

    def _failed(self, error: Exception) -> None:
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()  # asked for, so that nobody complains when who connects has given up

    def _read_untrusted(self) -> None:
        """Pass on what arrived in clear, several records at once."""
        core, arrived = self._core, self._arrived
        filled, count, left, is_broken = 0, 0, 0, False
        while True:
            try:
                count = core.read(_RECORD_BYTES, _CLEAR[filled:] if filled else _CLEAR)
            except ssl.SSLWantReadError:  # a part of a record
                count = -1
            except ssl.SSLError:
                count, is_broken = -1, True
            left = arrived.pending
            if count > 0:
                filled += count
                if left and filled <= _BUFFER_BYTES - _RECORD_BYTES:
                    continue
            if filled:
                self._received(bytes(_CLEAR[:filled]))
                filled = 0
            if count <= 0 or not left or self._is_paused or self._state != _OPEN:
                break
        if self._state != _OPEN:
            return
        if self._to_send.pending:  # an answer to a key update, or the alert that says what is wrong
            self._send_records()
        if not count:
            self._peer_ended()
        if is_broken or not count:
            self._end_sending()

    def _read_on(self) -> None:
        if self._state == _OPEN and not self._is_paused and self._arrived.pending:
            self._read_untrusted()

    def _peer_ended(self) -> None:
        if self._protocol is not None:
            self._protocol.eof_received()
        if self._state == _OPEN:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        self._state = _CLOSING
        with suppress(ssl.SSLError):  # the peer's own goodbye has not come yet
            self._end.unwrap()
        self._send_records()

    def _send_records(self) -> None:
        if self._raw is not None and self._to_send.pending:
            self._raw.write(self._to_send.read())

    def _end_sending(self) -> None:
        """Nothing more is said. The peer may read it all and end its side, or be let go of after a while."""
        raw = self._raw
        if raw is None or raw.is_closing():
            return
        self._send_records()
        if self._state == _OPEN:
            self._state = _CLOSING
        if self._is_paused:
            raw.resume_reading()
        raw.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_GOODBYE_TIMEOUT_S, raw.abort)


def _forget(_data: bytes) -> None:
    """Instead of the protocol of a connection that is gone."""
