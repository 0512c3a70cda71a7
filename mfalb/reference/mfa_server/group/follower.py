"""A slave's side of replication: it opens the connection, says how far it is, and applies what comes, saying so.

One master at a time. What was applied is in the file together with its position, so there is nothing to recover after a
crash: the next connection goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

import grpc

from mfalb.errors import MalformedMessage, MfalbError
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.data.pfdata import DataError, Misfit
from mfalb.reference.mfa_server.data.position import Change
from mfalb.reference.mfa_server.data.writes import Texts, WriteRefused
from mfalb.reference.mfa_server.failures import Failure
from mfalb.reference.mfa_server.group.ledger import Ledger
from mfalb.reference.mfa_server.group.messages import (
    MESSAGE_LIMIT,
    Heartbeat,
    Hello,
    Message,
    SnapshotBegins,
    Welcome,
    WriteCall,
    WriteDone,
    message_bytes,
    read_message_untrusted,
    read_untrusted,
)
from mfalb.reference.mfa_server.group.progress import Progress
from mfalb.reference.mfa_server.group.replicas import PATIENCE_S
from mfalb.reference.mfa_server.group.replication_server import DIVERGED, HEARTBEAT_S, NOT_MASTER, SERVICE, Identity
from mfalb.reference.mfa_server.group.snapshot_file import IncomingSnapshot
from mfalb.reference.mfa_server.group.standing import Standing

_SILENCE_S: Final = 5 * HEARTBEAT_S  # without a heartbeat for so long the master is not there
_WRITE_TIMEOUT_S: Final = 10.0
_PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0)  # between connections; the last one goes on

_log = logging.getLogger("mfalb.reference.mfa_server.replication")


class MasterAway(MfalbError):  # noqa: N818 - says what happened
    """The master cannot be reached. A write that it raised for may or may not have been made."""


@dataclass(frozen=True, slots=True)
class PeerTls:
    """What a server shows its peers, and whom it believes: PEM, as bytes."""

    ca: bytes
    key: bytes = field(repr=False)
    chain: bytes

    @classmethod
    def read(cls, cert: str, key: str, ca: str) -> PeerTls:
        """Raises OSError."""
        return cls(Path(ca).read_bytes(), Path(key).read_bytes(), Path(cert).read_bytes())

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca, self.key, self.chain)


@dataclass(slots=True)
class Lag:
    """How far this slave is behind, as far as it knows. `level_at` is when it last had all (monotonic seconds)."""

    master_sequence: int = 0
    level_at: float | None = None
    heard_at: float | None = None

    def seconds(self, now: float) -> float | None:
        """Since when something is missing, or the master silent; None when it was never level."""
        return None if self.level_at is None else max(0.0, now - self.level_at - HEARTBEAT_S)


class Follower:
    """Follows one master, and passes writes on to it."""

    def __init__(self, identity: Identity, ledger: Ledger, standing: Standing, tls: PeerTls, faults: Faults) -> None:
        self._identity = identity
        self._ledger = ledger
        self._standing = standing
        self._credentials = tls.credentials()
        self._faults = faults
        self._channel: grpc.aio.Channel | None = None
        self.lag = Lag()
        self.snapshots = 0  # how often everything was taken anew
        self.wants_snapshot = False
        self.told: Callable[[str], None] = lambda _word: None  # gets DIVERGED, NOT_MASTER or "" (following)

    def is_live(self, now: float) -> bool:
        """Whether the master has been heard lately. `now` is monotonic seconds."""
        heard_at = self.lag.heard_at
        return heard_at is not None and now - heard_at < _SILENCE_S and not self._faults.now.master_lost

    async def run(self, master: str) -> None:
        """Follow the server at this address until cancelled."""
        failures = 0
        options = [
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            ("grpc.max_send_message_length", MESSAGE_LIMIT),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        async with grpc.aio.secure_channel(master, self._credentials, options) as channel:
            self._channel = channel
            try:
                while True:
                    before = self._ledger.position.sequence
                    await self._follow_once(channel)
                    self.lag.heard_at = None  # the connection is gone, and with it what it said
                    failures = 0 if self._ledger.position.sequence > before else failures + 1
                    await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
            finally:
                self._channel = None
                self.lag.heard_at = None

    async def write(self, name: str, texts: Texts) -> dict[str, str]:
        """Have the master make a write. Raises WriteRefused and MasterAway."""
        channel = self._channel
        if channel is None or self._faults.now.master_lost:
            raise MasterAway("not connected")
        call = WriteCall(self._identity.server, self._identity.group, name, dict(texts))
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Write")
        try:
            answer = await method(message_bytes(call), timeout=_WRITE_TIMEOUT_S)
            done = read_untrusted(answer, WriteDone)
        except (grpc.aio.AioRpcError, MalformedMessage) as error:
            raise MasterAway(type(error).__name__) from None
        if done.code:
            raise WriteRefused(Failure(done.code, done.text))
        # Whoever wrote may read here next, and should find it; the master has not waited for a slave out of step
        await self._ledger.has_reached(done.sequence, PATIENCE_S)
        return done.given

    # ------------------------------------------------------------------------------ following

    async def _follow_once(self, channel: grpc.aio.Channel) -> None:
        """One stream, to its end."""
        stream_of: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{SERVICE}/Follow")
        progress = Progress(self._hello())
        stream = stream_of(progress)
        try:
            await self._apply_all(_messages_untrusted(stream), progress)
        except grpc.aio.AioRpcError as error:
            self.told(_word(error))
        except TimeoutError:
            _log.warning("master silent")
        except MalformedMessage as error:
            _log.error("master sent nonsense", extra={"reason": error.reason})
        except Misfit as error:
            # The two files are not the same although their numbers are: only a copy of all can mend that
            _log.error("change refused, taking a snapshot", extra={"reason": str(error)})
            self.wants_snapshot = True
        except DataError as error:
            _log.error("change not written", extra={"reason": str(error)})
        finally:
            stream.cancel()
            progress.end()  # a stream that the master has ended cannot be cancelled, and would wait for news

    def _hello(self) -> Hello:
        position = self._ledger.position
        known = max(self._standing.epoch, self._ledger.pfdata.epoch())
        who = self._identity
        return Hello(who.group, who.kind, who.server, position.epoch, position.sequence, known, self.wants_snapshot)

    async def _apply_all(self, messages: AsyncIterator[Message], progress: Progress) -> None:
        async for message in messages:
            if self._faults.now.master_lost:
                raise TimeoutError
            self.lag.heard_at = monotonic()
            match message:
                case Welcome(epochs):
                    await self._ledger.adopt_history(epochs)
                    self.told("")
                case Change():
                    await self._ledger.apply(message)
                    progress.has_applied(message.position.sequence)
                case Heartbeat(sequence):
                    self._hear(sequence, progress)
                case SnapshotBegins():
                    await self._take_snapshot(message, messages)
                    progress.has_applied(self._ledger.position.sequence)
                    self.told("")
                case _:
                    raise MalformedMessage("replication_unexpected")

    def _hear(self, sequence: int, progress: Progress) -> None:
        self.lag.master_sequence = sequence
        own = self._ledger.position.sequence
        if own >= sequence:
            self.lag.level_at = monotonic()
            progress.has_applied(own)

    async def _take_snapshot(self, begins: SnapshotBegins, messages: AsyncIterator[Message]) -> None:
        path = self._ledger.pfdata.path
        with IncomingSnapshot(path.with_name(f"{path.name}.incoming"), begins) as incoming:
            async for piece in messages:
                if not isinstance(piece, bytes):
                    raise MalformedMessage("replication_unexpected")
                if await asyncio.to_thread(incoming.add, piece):
                    await self._ledger.load_snapshot(incoming.path)
                    self.snapshots += 1
                    self.wants_snapshot = False
                    _log.info("snapshot taken", extra={"sequence": str(self._ledger.position.sequence)})
                    return
        raise MalformedMessage("snapshot_cut_off")


async def _messages_untrusted(stream: grpc.aio.StreamStreamCall[bytes, bytes]) -> AsyncIterator[Message]:
    """What the master sends, one by one. Raises AioRpcError, TimeoutError for silence, and MalformedMessage."""
    while True:
        async with asyncio.timeout(_SILENCE_S):
            data = await stream.read()
        if not isinstance(data, bytes):  # gRPC's word for the end
            return
        yield read_message_untrusted(data)


def _word(error: grpc.aio.AioRpcError) -> str:
    """Why there is no stream, in one of our words.

    One that ended while an acknowledgement was on its way is `away`: gRPC tells of what could not be sent, not of what
    the master said, which the next stream hears.
    """
    details = error.details() or ""
    if details in (DIVERGED, NOT_MASTER):
        return details
    return f"refused: {details}" if error.code() is grpc.StatusCode.PERMISSION_DENIED else "away"
