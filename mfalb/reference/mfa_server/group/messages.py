"""What replication peers say to each other: bytes on gRPC, values here. Core.

Every message begins with the version and its kind, a byte each:

    0        1        2
    +--------+--------+------------------------------------------------+
    | version| kind   | JSON (all kinds but the two below)             |
    +--------+--------+------------------------------------------------+
    | version| kind   | epoch u32, sequence u64, made at f64, changeset|  a change
    +--------+--------+------------------------------------------------+
    | version| kind   | a piece of a snapshot's file                   |
    +--------+--------+------------------------------------------------+
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any, Final, TypeVar

from mfalb.errors import MalformedMessage
from mfalb.reference.mfa_server.data.position import Change, Epoch, Position

VERSION: Final = 1
SMALL_LIMIT: Final = 64 * 1024  # of a message in JSON
MESSAGE_LIMIT: Final = 8 * 1024 * 1024  # of any message; a changeset is far below it
PIECE_BYTES: Final = 256 * 1024
_CHANGE: Final = struct.Struct("!IQd")
_HEAD: Final = struct.Struct("!BB")
_TEXT_LIMIT: Final = 1024  # characters; a push token is the longest


class Kind(IntEnum):
    """What a message is."""

    HELLO = 1
    WELCOME = 2
    CHANGE = 3
    HEARTBEAT = 4
    SNAPSHOT = 5
    PIECE = 6
    WRITE = 7
    DONE = 8
    APPLIED = 9


@dataclass(frozen=True, slots=True)
class Hello:
    """A slave's first word: who it is, what it has, and the highest epoch that it has heard of.

    `wants_snapshot` throws away what it has.
    """

    group: str
    kind: str
    server: str
    epoch: int
    sequence: int
    known_epoch: int
    wants_snapshot: bool = False

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.sequence)


@dataclass(frozen=True, slots=True)
class Welcome:
    """The master's answer: the epochs so far. The past of the slave is the beginning of the master's."""

    epochs: tuple[Epoch, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How far the master is: what follows is not yet on its way, or there is nothing."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Applied:
    """How far a slave is: this change and all before it are on its disk, and whoever asks it finds them.

    It says so after each change and each snapshot, and when a heartbeat finds it level. Masters that do not know this
    message read a slave's first one only, and slaves that do not know it say nothing: the version is the same.
    """

    sequence: int


@dataclass(frozen=True, slots=True)
class SnapshotBegins:
    """A file of so many bytes follows in pieces."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class WriteCall:
    """A write that a slave passes on. `name` is that of the SDK's operation."""

    server: str
    group: str
    name: str
    texts: dict[str, str] = field(repr=False)  # may hold a user PIN


@dataclass(frozen=True, slots=True)
class WriteDone:
    """What became of it: `code` 0, what it gave and where it stands in the order; or the refusal."""

    code: int
    text: str
    sequence: int
    given: dict[str, str] = field(repr=False)


Message = Hello | Welcome | Change | Heartbeat | Applied | SnapshotBegins | bytes | WriteCall | WriteDone
Value = TypeVar("Value")
_KINDS: Final[dict[type, Kind]] = {
    Hello: Kind.HELLO,
    Welcome: Kind.WELCOME,
    Heartbeat: Kind.HEARTBEAT,
    Applied: Kind.APPLIED,
    SnapshotBegins: Kind.SNAPSHOT,
    WriteCall: Kind.WRITE,
    WriteDone: Kind.DONE,
}


def message_bytes(message: Message) -> bytes:
    """The bytes of a message."""
    if isinstance(message, bytes):
        return _HEAD.pack(VERSION, Kind.PIECE) + message
    if isinstance(message, Change):
        place = _CHANGE.pack(message.position.epoch, message.position.sequence, message.made_at)
        return _HEAD.pack(VERSION, Kind.CHANGE) + place + message.changeset
    return _HEAD.pack(VERSION, _KINDS[type(message)]) + json.dumps(asdict(message)).encode()


def read_message_untrusted(data: bytes) -> Message:
    """The message in some bytes. Raises MalformedMessage."""
    if len(data) < _HEAD.size or len(data) > MESSAGE_LIMIT:
        raise MalformedMessage("replication_length")
    version, kind = _HEAD.unpack_from(data)
    if version != VERSION:
        raise MalformedMessage("replication_version")
    body = data[_HEAD.size :]
    if kind == Kind.CHANGE:
        return _read_change(body)
    if kind == Kind.PIECE:
        return body
    read = _READERS.get(kind)
    if read is None:
        raise MalformedMessage("replication_kind")
    if len(body) > SMALL_LIMIT:
        raise MalformedMessage("replication_length")
    try:
        table = json.loads(body)
        if not isinstance(table, dict):
            raise MalformedMessage("replication_table")
        return read(table)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MalformedMessage("replication_table") from None


def read_untrusted(data: bytes, wanted: type[Value]) -> Value:
    """The message in some bytes, of the type that is due. Raises MalformedMessage."""
    message = read_message_untrusted(data)
    if not isinstance(message, wanted):
        raise MalformedMessage("replication_unexpected")
    return message


def _read_change(body: bytes) -> Change:
    if len(body) <= _CHANGE.size:
        raise MalformedMessage("replication_change")
    epoch, sequence, made_at = _CHANGE.unpack_from(body)
    return Change(Position(epoch, sequence), made_at, body[_CHANGE.size :])


def _hello(table: dict[str, Any]) -> Hello:
    group, kind, server = (_text(table[name]) for name in ("group", "kind", "server"))
    epoch, sequence, known = (_number(table[name]) for name in ("epoch", "sequence", "known_epoch"))
    return Hello(group, kind, server, epoch, sequence, known, table["wants_snapshot"] is True)


def _welcome(table: dict[str, Any]) -> Welcome:
    epochs = table["epochs"]
    return Welcome(tuple(Epoch(_number(one["number"]), _number(one["after_sequence"])) for one in epochs))


def _heartbeat(table: dict[str, Any]) -> Heartbeat:
    return Heartbeat(_number(table["sequence"]))


def _applied(table: dict[str, Any]) -> Applied:
    return Applied(_number(table["sequence"]))


def _snapshot_begins(table: dict[str, Any]) -> SnapshotBegins:
    return SnapshotBegins(_number(table["size"]), _text(table["sha256"]))


def _write_call(table: dict[str, Any]) -> WriteCall:
    return WriteCall(_text(table["server"]), _text(table["group"]), _text(table["name"]), _texts(table["texts"]))


def _write_done(table: dict[str, Any]) -> WriteDone:
    given = _texts(table["given"])
    return WriteDone(_number(table["code"]), _text(table["text"]), _number(table["sequence"]), given)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_LIMIT:
        raise MalformedMessage("replication_text")
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise MalformedMessage("replication_text")
    return {_text(name): _text(text) for name, text in value.items()}


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise MalformedMessage("replication_number")
    return value


_READERS: Final[dict[int, Callable[[dict[str, Any]], Message]]] = {
    Kind.HELLO: _hello,
    Kind.WELCOME: _welcome,
    Kind.HEARTBEAT: _heartbeat,
    Kind.APPLIED: _applied,
    Kind.SNAPSHOT: _snapshot_begins,
    Kind.WRITE: _write_call,
    Kind.DONE: _write_done,
}
