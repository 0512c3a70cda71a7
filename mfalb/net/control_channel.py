"""Messages between the supervisor and a worker: framed over a Unix stream socket pair, with descriptors where needed.

    frame   length of the words (4) | length of the bytes (4) | number of descriptors (1) | words: JSON | bytes

The descriptors travel with the first byte of their frame (SCM_RIGHTS, unix(7)). Nothing here waits: what the other end
does not take at once is kept, up to a limit past which the other end counts as gone. What is no message ends the
channel too, since behind it nothing can be told apart any more.
"""

from __future__ import annotations

import array
import asyncio
import json
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_HEAD: Final = struct.Struct("!IIB")
_READ_BYTES: Final = 256 * 1024
FRAME_LIMIT_BYTES: Final = 64 * 1024 * 1024  # a configuration with tens of thousands of clients has a few megabytes
UNSENT_LIMIT_BYTES: Final = 64 * 1024 * 1024  # the other end stands still: to go on would only fill the memory
FD_LIMIT: Final = 250  # the kernel takes 253 with one message (SCM_MAX_FD)

_log = logging.getLogger("mfalb.control")


@dataclass(frozen=True, slots=True)
class Message:
    """What is said: plain words, bytes that JSON does not carry, and open descriptors, which are the receiver's now.

    Descriptors may be fewer than were sent: the receiver had no room for more.
    """

    words: dict[str, Any]
    data: bytes = field(default=b"", repr=False)
    descriptors: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """What kind of message it is; "" for one that does not say."""
        kind = self.words.get("kind")
        return kind if isinstance(kind, str) else ""


class NotAMessage(ValueError):  # noqa: N818 - says what came
    """What came over the channel is none of its messages."""


class FrameReader:
    """Bytes and descriptors to messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def feed_untrusted(self, data: bytes, descriptors: Sequence[int]) -> list[Message]:
        """The messages that are complete now. Raises NotAMessage."""
        self._buffer += data
        self._descriptors += descriptors
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> Message | None:
        if len(self._buffer) < _HEAD.size:
            return None
        words_bytes, data_bytes, count = _HEAD.unpack_from(self._buffer)
        if words_bytes + data_bytes > FRAME_LIMIT_BYTES:
            raise NotAMessage("too long")
        end = _HEAD.size + words_bytes + data_bytes
        if len(self._buffer) < end:
            return None
        words = _words(bytes(self._buffer[_HEAD.size : _HEAD.size + words_bytes]))
        data = bytes(self._buffer[_HEAD.size + words_bytes : end])
        del self._buffer[:end]
        # Fewer came when this process may not have one more open (recvmsg(2), MSG_CTRUNC): no reason to hang up
        count = min(count, len(self._descriptors))
        return Message(words, data, tuple(self._descriptors.popleft() for _ in range(count)))


def _words(text: bytes) -> dict[str, Any]:
    try:
        words = json.loads(text)
    except ValueError:
        raise NotAMessage("no JSON") from None
    if not isinstance(words, dict):
        raise NotAMessage("no table")
    return words


def frame(message: Message) -> bytes:
    """The bytes of a message, its descriptors aside."""
    words = json.dumps(message.words, separators=(",", ":")).encode()
    return _HEAD.pack(len(words), len(message.data), len(message.descriptors)) + words + message.data


class ControlChannel:
    """One end. `received` is called with each message, `ended` once when the other end is gone or talks nonsense."""

    def __init__(self, sock: socket.socket, received: Callable[[Message], None], ended: Callable[[], None]) -> None:
        self._socket = sock
        self._received = received
        self._ended = ended
        self._reader = FrameReader()
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._unsent_bytes = 0
        self._is_open = True
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def is_open(self) -> bool:
        return self._is_open

    def send(self, message: Message) -> None:
        """Say something. Descriptors must stay open until it has left: the caller's are not closed here.

        Raises ValueError for more descriptors than FD_LIMIT.
        """
        if not self._is_open:
            return
        if len(message.descriptors) > FD_LIMIT:
            raise ValueError(f"at most {FD_LIMIT} descriptors go with one message")
        data = frame(message)
        self._unsent.append((memoryview(data), message.descriptors))
        self._unsent_bytes += len(data)
        if len(self._unsent) == 1:
            self._write()
        if self._unsent_bytes > UNSENT_LIMIT_BYTES:
            _log.error("the control channel's other end takes nothing")
            self._end()

    def close(self) -> None:
        """Say and hear nothing more; what was not taken is lost."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()

    def _write(self) -> None:
        while self._unsent:
            data, descriptors = self._unsent[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            try:
                sent = self._socket.sendmsg([data], rights)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._write)
                return
            except OSError:
                self._end()
                return
            self._unsent_bytes -= sent
            if sent < len(data):
                self._unsent[0] = (data[sent:], ())
            else:
                self._unsent.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _READ_BYTES, FD_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._end()
            return
        try:
            messages = self._reader.feed_untrusted(data, descriptors)
        except NotAMessage as fault:
            _log.error("the control channel's other end talks nonsense", extra={"reason": str(fault)})
            self._end()
            return
        for message in messages:
            self._received(message)

    def _end(self) -> None:
        if self._is_open:
            self.close()
            self._ended()
