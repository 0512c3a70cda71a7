"""An HTTP backend that does everything wrong, by a seed, and often right: with a body that says whose it is."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

from programs.ports import LOOPBACK

_STALL_S: Final = 4.0  # longer than the balancer waits
_HEAD_LIMIT: Final = 1 << 20


def body_of(name: str, size: int) -> bytes:
    """The one right body of this size for a request of this name: no part of it occurs in another request's."""
    block = hashlib.sha256(name.encode()).hexdigest().encode() + b"\n"
    return (block * (size // len(block) + 1))[:size]


class Fault(Enum):
    """What is done to a request."""

    NONE = auto()
    CHUNKED = auto()  # right, too
    INTERIM = auto()  # right, behind 100 and 103
    TRICKLE = auto()  # right, in small pieces
    LAST = auto()  # right, and the connection closed behind it, without a word of that
    EARLY = auto()  # right, before the body was read; then closed
    SURPLUS = auto()  # right, with another answer behind it that nobody asked for
    NO_CONTENT_WITH_BODY = auto()
    RESET = auto()
    CLOSED = auto()
    STALLED = auto()
    HALF_STALLED = auto()
    TRUNCATED = auto()
    TRUNCATED_CHUNK = auto()
    BAD_CHUNK_SIZE = auto()
    TWO_LENGTHS = auto()
    GARBAGE = auto()
    ENDLESS_HEAD = auto()


_FAULTS: Final = tuple(Fault)
_ODDS: Final = tuple({Fault.NONE: 60, Fault.CHUNKED: 10}.get(fault, 2) for fault in Fault)
_GOES_ON: Final = frozenset(
    (
        Fault.NONE, Fault.CHUNKED, Fault.INTERIM, Fault.TRICKLE, Fault.SURPLUS, Fault.NO_CONTENT_WITH_BODY,
        Fault.BAD_CHUNK_SIZE, Fault.TWO_LENGTHS,
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was read: its name, and the size of the answer that it wants."""

    method: str
    name: str
    size: int


class FaultBackend:
    """Runs in the event loop of the test.

    `seen` counts the requests whose head arrived, by their name; `spoilt` are the uploads that were complete and not
    what their name says; `faults` are what was done.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same faults again
        self._listening = socket.create_server((LOOPBACK, 0), backlog=512)
        self.address: Final = f"{LOOPBACK}:{self._listening.getsockname()[1]}"
        self.seen: Counter[str] = Counter()
        self.faults: Counter[Fault] = Counter()
        self.spoilt: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, sock=self._listening, limit=_HEAD_LIMIT)
        self._ending = asyncio.Event()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._ending.set()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the balancer may leave at any time
        finally:
            del self._open[task]
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request. Whether the connection goes on."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        wanted = parse_qs(urlsplit(target).query)
        asked = Asked(method, wanted["name"][0], int(wanted["size"][0]))
        self.seen[asked.name] += 1
        (fault,) = self._random.choices(_FAULTS, _ODDS)
        self.faults[fault] += 1
        if fault is Fault.RESET:
            writer.transport.abort()
            return False
        if fault is Fault.CLOSED:
            return False
        if fault is not Fault.EARLY:
            fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = await _body(reader, fields)
            if method == "POST" and body != body_of(asked.name + "/up", int(wanted["up"][0])):
                self.spoilt.append(asked.name)
        return await self._answer(writer, asked, fault)

    async def _answer(self, writer: asyncio.StreamWriter, asked: Asked, fault: Fault) -> bool:
        for piece in _ANSWERS[fault](body_of(asked.name, asked.size)):
            writer.write(piece)
            await writer.drain()
            if fault is Fault.TRICKLE:
                await asyncio.sleep(0.002)
        if fault in (Fault.STALLED, Fault.HALF_STALLED):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _STALL_S)
        return fault in _GOES_ON


def _right(body: bytes) -> list[bytes]:
    return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body]


def _chunks(body: bytes) -> list[bytes]:
    """All of a chunked answer but its last chunk."""
    half = len(body) // 2
    return [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", _chunk(body[:half]), _chunk(body[half:])]


def _in_pieces(body: bytes) -> list[bytes]:
    step = max(1, len(body) // 5)
    return [*_right(body)[:1], *(body[at : at + step] for at in range(0, len(body), step))]


def _cut(body: bytes) -> list[bytes]:
    return [*_right(body)[:1], body[: len(body) // 2]]


_INTERIM: Final = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
_FOREIGN: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nforeign"
_ANSWERS: Final[dict[Fault, Callable[[bytes], list[bytes]]]] = {
    Fault.NONE: lambda body: [b"".join(_right(body))],
    Fault.CHUNKED: lambda body: [*_chunks(body), b"0\r\n\r\n"],
    Fault.INTERIM: lambda body: [_INTERIM, *_right(body)],
    Fault.TRICKLE: _in_pieces,
    Fault.LAST: _right,
    Fault.EARLY: _right,
    Fault.SURPLUS: lambda body: [b"".join(_right(body)) + _FOREIGN],
    Fault.NO_CONTENT_WITH_BODY: lambda _: [b"HTTP/1.1 204 No Content\r\n\r\nforeign"],
    Fault.STALLED: lambda _: [],
    Fault.HALF_STALLED: _cut,
    Fault.TRUNCATED: _cut,
    Fault.TRUNCATED_CHUNK: lambda body: [*_chunks(body), b"%x\r\n%b" % (len(body) + 9, body[:5])],
    Fault.BAD_CHUNK_SIZE: lambda body: [*_chunks(body), b"0x5\r\nwrong\r\n0\r\n\r\n"],
    Fault.TWO_LENGTHS: lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\nforeign1"],
    Fault.GARBAGE: lambda _: [b"\x16\x03\x01 what?\r\n\r\nforeign"],
    Fault.ENDLESS_HEAD: lambda _: [b"HTTP/1.1 200 OK\r\n", *(b"X-%d: %b\r\n" % (n, bytes(8000)) for n in range(40))],
}


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    """The whole body of a request. Raises IncompleteReadError when it breaks off."""
    if "chunked" not in fields.get("transfer-encoding", ""):
        return await reader.readexactly(int(fields.get("content-length", "0")))
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(parts)
