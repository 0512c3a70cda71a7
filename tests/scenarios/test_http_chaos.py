"""Promise: whatever servers do wrong, a client gets its own right answer, a clean error, or a broken connection.

SOAK_CHAOS_S is how long that goes on, 12 seconds by default.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.descriptors import sockets_of
from programs.fault_backend import Fault, FaultBackend, body_of
from programs.http_backend import rss_bytes
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK

LENGTH_S: Final = float(os.environ.get("SOAK_CHAOS_S", "12"))
CLIENTS: Final = 24
SIZES: Final = (0, 1, 300, 5_000, 70_000, 300_000)
GROWTH_LIMIT_BYTES: Final = 12 * 1024 * 1024
OURS: Final = frozenset((502, 503, 504))


@dataclass(frozen=True, slots=True)
class Question:
    """One request: its name, the size of the answer it wants, and the size of what it sends (None: it is a GET)."""

    name: str
    size: int
    upload: int | None
    is_chunked: bool

    def bytes(self) -> bytes:
        target = f"/?name={self.name}&size={self.size}"
        if self.upload is None:
            return f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        body = body_of(self.name + "/up", self.upload)
        head = f"POST {target}&up={self.upload} HTTP/1.1\r\nHost: x\r\n".encode()
        if not self.is_chunked:
            return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        chunks = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


class WrongAnswerError(AssertionError):
    """A client got what was not its own, or what is no HTTP."""


@dataclass(slots=True)
class Chaos:
    """What became of all requests: "right", "broken off", or the balancer's own status."""

    ends: Counter[str] = field(default_factory=Counter)
    posts: list[str] = field(default_factory=list)

    async def client(self, number: int, front: Front, context: ssl.SSLContext | None, end_s: float) -> None:
        """One connection after the other, with one or a few requests at a time on each."""
        own = random.Random(number)  # noqa: S311 - the same load again
        count = 0
        while time.monotonic() < end_s:
            reader, writer = await asyncio.open_connection(
                LOOPBACK, front.port, ssl=context, server_hostname="127.0.0.1" if context else None, limit=1 << 20
            )
            try:
                for _ in range(own.randrange(1, 12)):
                    asked = []
                    for _ in range(own.choice((1, 1, 1, 3))):
                        count += 1
                        upload = own.choice((None, None, own.choice(SIZES)))
                        asked.append(Question(f"{number}-{count}", own.choice(SIZES), upload, own.random() < 0.5))
                    self.posts += [question.name for question in asked if question.upload is not None]
                    writer.write(b"".join(question.bytes() for question in asked))
                    if not await self._answers(reader, asked):
                        break
            finally:
                writer.transport.abort()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _answers(self, reader: asyncio.StreamReader, asked: list[Question]) -> bool:
        """Reads them in order. Whether the connection goes on."""
        for question in asked:
            try:
                status, body, goes_on = await asyncio.wait_for(_answer(reader, question), 30)
            except (OSError, asyncio.IncompleteReadError):
                self.ends["broken off"] += 1
                return False
            if status == 204:
                self.ends["204"] += 1
            elif status == 200:
                if body != body_of(question.name, question.size):
                    raise WrongAnswerError(f"{question}: {len(body)} bytes that are not its own: {body[:80]!r}")
                self.ends["right"] += 1
            elif status in OURS:
                self.ends[str(status)] += 1
            else:
                raise WrongAnswerError(f"{question}: {status} {body[:80]!r}")
            if not goes_on:
                return False
        return True


async def _answer(reader: asyncio.StreamReader, question: Question) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection is kept. What came of a body that broke off must be right, too."""
    status, fields = 100, {}
    while status < 200:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        if not lines[0].startswith("HTTP/1.1 "):
            raise WrongAnswerError(f"{question}: {lines[0]!r} is no status line")
        status = int(lines[0].split(" ")[1])
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    is_kept = fields.get("connection") != "close"
    if status == 204:
        return status, b"", is_kept
    right = body_of(question.name, question.size)
    parts: list[bytes] = []
    try:
        if fields.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                parts.append(await reader.readexactly(size))
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            parts.append(await reader.readexactly(int(fields["content-length"])))
    except asyncio.IncompleteReadError as error:
        came = b"".join(parts) + (error.partial if "content-length" in fields else b"")
        if status == 200 and came != right[: len(came)]:
            raise WrongAnswerError(f"{question}: what came before the end is not its own: {came[:80]!r}") from error
        raise
    return status, b"".join(parts), is_kept


async def settled(balancer: Balancer, sockets: int) -> None:
    """Waits until nothing is left over. Raises TimeoutError that names what is."""
    end_s, left = time.monotonic() + 60, {}
    while time.monotonic() < end_s:
        metrics = await asyncio.to_thread(balancer.metrics)
        left = {
            "clients": metrics.total("mfalb_listener_connections"),
            "active": metrics.total("mfalb_backend_active"),
            "waiting": metrics.total("mfalb_pool_waiting"),
            "sockets": len(sockets_of(balancer.worker)) - sockets,
        }
        if not any(left.values()):
            return
        await asyncio.sleep(0.2)
    raise TimeoutError(f"left over: {left}")


async def test_every_answer_is_right_or_a_clean_error_or_broken_off(
    tmp_path: Path, certificate: CertificateFiles
) -> None:
    tls, plain = new_front(certificate), new_front()
    context = ssl.create_default_context(cafile=str(certificate.ca))
    chaos = Chaos()
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(FaultBackend(seed)) for seed in range(3)]
        pool = http_pool(*(backend.address for backend in backends), response_timeout="1s")
        listeners = [front.listener(name, [{"pool": "p"}]) for front, name in ((tls, "tls"), (plain, "plain"))]
        balancer = Balancer({"listeners": listeners, "pools": {"p": pool}}, tmp_path / "mfalb")
        await asyncio.to_thread(balancer.start)
        try:
            await asyncio.to_thread(balancer.metrics)
            sockets = len(sockets_of(balancer.worker))
            await run(chaos, (tls, plain), context, LENGTH_S / 3)
            warm = rss_bytes(balancer.worker)
            await run(chaos, (tls, plain), context, LENGTH_S * 2 / 3)
            grown = rss_bytes(balancer.worker) - warm
            await stack.pop_all().aclose()  # without servers no kept connection is left either
            await settled(balancer, sockets)
        finally:
            code = await asyncio.to_thread(balancer.stop)
        balancer.assert_clean(code)
    seen = sum((backend.seen for backend in backends), Counter())
    assert not [name for name in chaos.posts if seen[name] > 1], "a POST reached two servers, or one twice"
    assert not [name for backend in backends for name in backend.spoilt], "an upload was not what its client sent"
    assert set().union(*(backend.faults for backend in backends)) == set(Fault), "a fault never happened"
    assert grown < GROWTH_LIMIT_BYTES, f"{grown / 1e6:.1f} MB more after {sum(chaos.ends.values())} requests"
    assert chaos.ends["right"] > sum(chaos.ends.values()) / 3, chaos.ends
    assert chaos.ends["broken off"] > 0, chaos.ends
    assert chaos.ends["502"] > 0, chaos.ends


async def run(chaos: Chaos, fronts: tuple[Front, Front], context: ssl.SSLContext, length_s: float) -> None:
    """The load, half of it over TLS. What one client finds wrong ends it all."""
    end_s = time.monotonic() + length_s
    tls, plain = fronts
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            number = random.randrange(1 << 30)  # noqa: S311 - names must not repeat from run to run
            front, secured = (tls, context) if number % 2 else (plain, None)
            clients.create_task(chaos.client(number, front, secured, end_s))
