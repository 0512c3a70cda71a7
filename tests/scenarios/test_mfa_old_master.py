"""Promise: a slave follows a master of an older version too, which reads its first word and nothing after it.

And a stream that has ended leaves nothing behind in the slave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from programs.ports import LOOPBACK

from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.group.follower import Follower, PeerTls
from mfalb.reference.mfa_server.group.ledger import Ledger
from mfalb.reference.mfa_server.group.lone import lone_standing
from mfalb.reference.mfa_server.group.messages import Heartbeat, Message, Welcome, message_bytes
from mfalb.reference.mfa_server.group.replication_server import NOT_MASTER, SERVICE, Identity
from mfalb.reference.mfa_server.group.standing import Standing

UNREAD: Final = 5_000  # acknowledgements, more than HTTP/2 takes for a reader who does not read

Context = grpc.aio.ServicerContext[bytes, bytes]
Answer = Callable[[bytes, Context], AsyncIterator[bytes]]


@pytest.fixture
def ledgers(tmp_path: Path) -> Any:
    """A master's, with one user, and an empty one of a slave."""
    with ExitStack() as stack:
        files = [stack.enter_context(Pfdata(tmp_path / f"{name}.pfdata")) for name in ("master", "slave")]
        files[0].begin_epoch(1)
        yield Ledger(files[0], lone_standing(), lambda: 0.0), Ledger(files[1], Standing(), lambda: 0.0)


@asynccontextmanager
async def old_master(answer: Answer) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server whose `Follow` takes one message, as it did before slaves said how far they are."""
    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Follow": grpc.unary_stream_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


def follower_of(slave: Ledger) -> tuple[Follower, list[str]]:
    """A follower, and the words that it has told."""
    tls = PeerTls(b"", b"", b"")
    follower, told = Follower(Identity("mfa2", "hq", "standalone"), slave, Standing(), tls, Faults()), list[str]()
    follower.told = told.append
    return follower, told


async def test_what_a_master_never_reads_holds_up_nothing(ledgers: tuple[Ledger, Ledger]) -> None:
    master, slave = ledgers
    await master.write("AddUser", {"user": "alice", "phone": "+1"})

    async def answer(_request: bytes, _context: Context) -> AsyncIterator[bytes]:
        words: list[Message] = [Welcome(master.pfdata.history()), *[Heartbeat(0)] * UNREAD]
        for word in (*words, *master.pfdata.changes_after(0), Heartbeat(1)):
            yield message_bytes(word)
        await slave.has_reached(1, 60.0)

    follower, told = follower_of(slave)
    async with asyncio.timeout(60), old_master(answer) as channel:
        await follower._follow_once(channel)
    assert (slave.position, told[0]) == (master.position, "")
    assert slave.pfdata.digest() == master.pfdata.digest()


async def test_a_stream_that_its_master_has_ended_leaves_nothing_behind(ledgers: tuple[Ledger, Ledger]) -> None:
    async def answer(_request: bytes, context: Context) -> AsyncIterator[bytes]:
        await context.abort(grpc.StatusCode.UNAVAILABLE, NOT_MASTER)
        yield b""

    follower, told = follower_of(ledgers[1])
    async with asyncio.timeout(60), old_master(answer) as channel:
        for _ in range(10):
            await follower._follow_once(channel)
        speaking = [task for task in asyncio.all_tasks() if "_consume_request_iterator" in repr(task)]
        assert not speaking or not (await asyncio.wait(speaking, timeout=10.0))[1]
    assert told == [NOT_MASTER] * 10
