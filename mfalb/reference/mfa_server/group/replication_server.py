"""The master's side of replication: gRPC methods whose messages are bytes of ours.

`Follow` streams to a slave what it lacks, changes after its position or a snapshot first, and hears from it how far it
is (`replicas.py`). `Write` makes a write that a slave passes on. Every server serves both, because any of them may be
the master tomorrow; one that is not says so.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc

from mfalb.errors import MalformedMessage
from mfalb.net.lifecycle import Tasks
from mfalb.reference.mfa_server.data.pfdata import DataError
from mfalb.reference.mfa_server.data.position import Position, is_beginning_of
from mfalb.reference.mfa_server.data.writes import WriteRefused
from mfalb.reference.mfa_server.group.door import Door, Refusals
from mfalb.reference.mfa_server.group.ledger import Ledger, NotMaster
from mfalb.reference.mfa_server.group.messages import (
    MESSAGE_LIMIT,
    PIECE_BYTES,
    Applied,
    Heartbeat,
    Hello,
    Welcome,
    WriteCall,
    WriteDone,
    message_bytes,
    read_untrusted,
)
from mfalb.reference.mfa_server.group.replicas import Replica
from mfalb.reference.mfa_server.group.snapshot_file import description
from mfalb.reference.mfa_server.group.standing import Role, Standing

SERVICE: Final = "mfalb.Replication"
HEARTBEAT_S: Final = 1.0
RETIRE: Final = "Retire"  # a write of replication's own: take no more of them, another server is being promoted
RETIRE_S: Final = 15.0  # so long; a promotion that has failed by then changes nothing
# Why a peer is turned away: the details of a gRPC status, and the reasons that are counted
DIVERGED: Final = "diverged"
NOT_MASTER: Final = "not_master"
FORGED: Final = "forged_name"
OTHER_GROUP: Final = "other_group"
MIXED_KIND: Final = "mixed_kind"

_log = logging.getLogger("mfalb.reference.mfa_server.replication")

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this server is among its peers."""

    server: str
    group: str
    kind: str


class ReplicationServer:
    """Serves slaves. `ask_cloud` is called when a peer knows a higher epoch than this server."""

    def __init__(self, identity: Identity, ledger: Ledger, standing: Standing, door: Door, refusals: Refusals) -> None:
        self._identity = identity
        self._ledger = ledger
        self._standing = standing
        self._door = door
        self._refusals = refusals
        self._snapshots = asyncio.Semaphore(1)  # each costs a file of the database's size
        self._server: grpc.aio.Server | None = None
        self.ask_cloud: Callable[[], None] = lambda: None
        self._tasks = Tasks("replication")

    async def open(self) -> int:
        """Serve the door on a loopback port; returns the port."""
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            ("grpc.max_send_message_length", MESSAGE_LIMIT),
            ("grpc.max_concurrent_streams", 16),
        ]
        server = grpc.aio.server(options=options)
        handlers: dict[str, Any] = {
            "Follow": grpc.stream_stream_rpc_method_handler(self._follow),
            "Write": grpc.unary_unary_rpc_method_handler(self._write),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        port = server.add_insecure_port("127.0.0.1:0")  # plain: nobody but the door is served, and TLS ends there
        await server.start()
        self._server = server
        return port

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
        await self._tasks.close()  # after their calls have ended: see `_hear`

    # ------------------------------------------------------------------------------ who is there

    async def _refuse(self, context: Context, reason: str, name: str) -> NoReturn:
        self._refusals.count(reason, name)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)

    async def _admit(self, context: Context, claimed: str, group: str, kind: str | None = None) -> None:
        """Turns away whoever is not the server of this group that it says it is."""
        name = self._door.name_behind(context.peer())
        if name is None or name.casefold() != claimed.casefold():
            await self._refuse(context, FORGED, name or "no name")
        if group != self._identity.group:
            await self._refuse(context, OTHER_GROUP, name)
        if kind is not None and kind != self._identity.kind:
            await self._refuse(context, MIXED_KIND, name)

    async def _reign(self, context: Context, peer_epoch: int) -> None:
        """Turns away everybody while this server is not the master, and a peer that knows of a later one."""
        standing = self._standing
        is_outranked = peer_epoch > standing.epoch
        if is_outranked:
            self.ask_cloud()
        if is_outranked or standing.role is not Role.MASTER or not standing.is_confirmed:
            await context.abort(grpc.StatusCode.UNAVAILABLE, NOT_MASTER)

    # ------------------------------------------------------------------------------ Follow

    async def _follow(self, _requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        request = await context.read()
        if not isinstance(request, bytes):  # gRPC's word for the end
            return
        try:
            hello = read_untrusted(request, Hello)
        except MalformedMessage as error:
            await self._refuse(context, error.reason, "unknown")
        await self._admit(context, hello.server, hello.group, hello.kind)
        await self._reign(context, hello.known_epoch)
        history = self._ledger.pfdata.history()
        is_past = is_beginning_of(hello.position, history, self._ledger.position.sequence)
        if not is_past and not hello.wants_snapshot:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, DIVERGED)
        _log.info("slave follows", extra={"slave": hello.server, "sequence": str(hello.sequence)})
        replica = self._ledger.replicas.join(hello.server)
        self._tasks.start(f"acknowledgements of {hello.server}", self._hear(context, replica))
        try:
            async for message in self._stream(hello, replica):
                yield message
        finally:
            self._ledger.replicas.leave(replica)

    async def _hear(self, context: Context, replica: Replica) -> None:
        """Take what a slave says of itself, one message in memory at a time, until its stream has ended.

        Nothing that it says ends the stream: what makes no sense is counted, and it is not taken to be any further.
        This task ends with its call and may not be cancelled before: the message that gRPC is about to receive would be
        written into memory that is not there any more. Nor may it wait for anything else between two reads: a call that
        was cancelled is gone some turns of the loop later.
        """
        try:
            while isinstance(message := await context.read(), bytes):
                self._take_untrusted(message, replica)
        except grpc.aio.BaseError:  # what `read` raises when the other half of the stream has ended
            pass
        finally:
            self._ledger.replicas.mute(replica)

    def _take_untrusted(self, message: bytes, replica: Replica) -> None:
        try:
            self._ledger.replicas.has_applied_untrusted(replica, read_untrusted(message, Applied).sequence)
        except MalformedMessage as error:
            self._refusals.count(error.reason, replica.name)

    async def _stream(self, hello: Hello, replica: Replica) -> AsyncIterator[bytes]:
        epoch, sequence = self._standing.epoch, hello.sequence
        is_empty = hello.sequence == 0 and self._ledger.position.sequence > 0
        if hello.wants_snapshot or is_empty or not self._ledger.pfdata.has_changes_after(sequence):
            async with self._snapshots:
                path = self._snapshot_path(hello.server)
                try:
                    position = await asyncio.to_thread(self._ledger.pfdata.save_snapshot, path)
                    replica.sent = sequence = position.sequence  # before it is: the answer may be here first
                    async for message in _pieces(path):
                        yield message
                finally:
                    path.unlink(missing_ok=True)
        else:
            replica.sent = replica.applied = sequence
            yield message_bytes(Welcome(self._ledger.pfdata.history()))
        while self._standing.role is Role.MASTER and self._standing.epoch == epoch:
            changes = self._ledger.pfdata.changes_after(sequence)
            if changes and changes[0].position.sequence != sequence + 1:
                return  # the log was trimmed under a slow slave: it comes again, and takes a snapshot
            for change in changes:
                replica.sent = sequence = change.position.sequence
                yield message_bytes(change)
            yield message_bytes(Heartbeat(self._ledger.position.sequence))
            await self._ledger.has_reached(sequence + 1, HEARTBEAT_S)

    def _snapshot_path(self, slave: str) -> Path:
        """A new name for each: a peer's own name never becomes a part of a path."""
        path = self._ledger.pfdata.path
        _log.info("snapshot for a slave", extra={"slave": slave})
        return path.with_name(f"{path.name}.snapshot-{os.urandom(8).hex()}")

    # ------------------------------------------------------------------------------ Write

    async def _write(self, request: bytes, context: Context) -> bytes:
        try:
            call = read_untrusted(request, WriteCall)
        except MalformedMessage as error:
            await self._refuse(context, error.reason, "unknown")
        await self._admit(context, call.server, call.group)
        await self._reign(context, self._standing.epoch)
        if call.name == RETIRE:
            last = (await self._retire()).sequence
            return message_bytes(WriteDone(0, "", last, {"sequence": str(last)}))
        try:
            given, position = await self._ledger.write(call.name, call.texts)
        except NotMaster:
            await context.abort(grpc.StatusCode.UNAVAILABLE, NOT_MASTER)
        except WriteRefused as refused:
            return message_bytes(WriteDone(*refused.failure, 0, {}))
        except DataError:
            _log.exception("write failed")
            await context.abort(grpc.StatusCode.INTERNAL, "write_failed")
        return message_bytes(WriteDone(0, "", position.sequence, given))

    async def _retire(self) -> Position:
        """Take no more writes for a while; the position that is returned is the last one of this reign."""
        standing = self._standing
        standing.is_retiring = True

        def resume() -> None:
            standing.is_retiring = False

        asyncio.get_running_loop().call_later(RETIRE_S, resume)
        return await self._ledger.settled()


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    """A snapshot's messages, one piece in memory at a time."""
    yield message_bytes(await asyncio.to_thread(description, path))
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield message_bytes(piece)
