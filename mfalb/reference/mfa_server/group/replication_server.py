"""The master's side of replication: gRPC methods whose messages are bytes of ours.

`Follow` streams to a slave what it lacks: changes after its position, or a snapshot first. `Write` makes a write that a
slave passes on. Every server serves both, because any of them may be the master tomorrow; one that is not says so.
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
from mfalb.reference.mfa_server.data.pfdata import DataError
from mfalb.reference.mfa_server.data.position import Position, is_beginning_of
from mfalb.reference.mfa_server.data.writes import WriteRefused
from mfalb.reference.mfa_server.group.door import Door, Refusals
from mfalb.reference.mfa_server.group.ledger import Ledger, NotMaster
from mfalb.reference.mfa_server.group.messages import (
    MESSAGE_LIMIT,
    PIECE_BYTES,
    Heartbeat,
    Hello,
    Welcome,
    WriteCall,
    WriteDone,
    message_bytes,
    read_untrusted,
)
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
        self.slaves: dict[str, int] = {}  # the last change that was sent to each slave that follows now

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
            "Follow": grpc.unary_stream_rpc_method_handler(self._follow),
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

    async def _follow(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
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
        try:
            async for message in self._stream(hello):
                yield message
        finally:
            self.slaves.pop(hello.server, None)

    async def _stream(self, hello: Hello) -> AsyncIterator[bytes]:
        epoch, sequence = self._standing.epoch, hello.sequence
        is_empty = hello.sequence == 0 and self._ledger.position.sequence > 0
        if hello.wants_snapshot or is_empty or not self._ledger.pfdata.has_changes_after(sequence):
            async with self._snapshots:
                path = self._snapshot_path(hello.server)
                try:
                    position = await asyncio.to_thread(self._ledger.pfdata.save_snapshot, path)
                    async for message in _pieces(path):
                        yield message
                finally:
                    path.unlink(missing_ok=True)
            sequence = position.sequence
        else:
            yield message_bytes(Welcome(self._ledger.pfdata.history()))
        while self._standing.role is Role.MASTER and self._standing.epoch == epoch:
            changes = self._ledger.pfdata.changes_after(sequence)
            if changes and changes[0].position.sequence != sequence + 1:
                return  # the log was trimmed under a slow slave: it comes again, and takes a snapshot
            for change in changes:
                yield message_bytes(change)
                sequence = change.position.sequence
            self.slaves[hello.server] = sequence
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
