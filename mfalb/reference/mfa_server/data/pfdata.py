"""`PhoneFactor.pfdata`: the file, its two connections, and what replication does with it.

Everybody reads through a connection that cannot write. The one that can belongs to the master's writes or to a slave's
follower; calls that use it block on the disk and are made from a thread, one after another.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self, TypeVar

import apsw

from mfalb.errors import MfalbError
from mfalb.reference.mfa_server.data.position import Change, Epoch, Position

FORMAT: Final = 1  # of the tables below; a file of another format is refused
REPLICATED: Final = ("activations", "bypasses", "devices", "users")  # what changesets are made of
_BUSY_MS: Final = 10_000
_BACKUP_PAGES: Final = 256  # copied at a time: 1 MiB
_BATCH_BYTES: Final = 1024 * 1024

# Every replicated table has a primary key of its own, by which a changeset finds its rows. `key` is the user's name
# without regard to case.
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS users (
  key TEXT PRIMARY KEY, name TEXT NOT NULL, phone TEXT NOT NULL, method TEXT NOT NULL, enabled INTEGER NOT NULL,
  pin_salt BLOB, pin_hash BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bypasses (
  key TEXT PRIMARY KEY, until REAL NOT NULL, reason TEXT NOT NULL, requested_by TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS activations (
  code TEXT PRIMARY KEY, key TEXT NOT NULL, until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS devices (
  key TEXT NOT NULL, name TEXT NOT NULL, token TEXT NOT NULL, version TEXT NOT NULL, oath_secret BLOB NOT NULL,
  oath_counter INTEGER NOT NULL, confirmation TEXT, until REAL NOT NULL, PRIMARY KEY (key, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS epochs (number INTEGER PRIMARY KEY, after_sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS position (
  one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, sequence INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS changes (
  sequence INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, made_at REAL NOT NULL, changeset BLOB NOT NULL
);
INSERT OR IGNORE INTO position VALUES (1, 0, 0);
"""

Result = TypeVar("Result")


class DataError(MfalbError):
    """The file cannot be used, or a change does not fit what it holds; the file is as it was before."""


class Misfit(DataError):  # noqa: N818 - says what happened
    """A change does not fit what the file holds: this file and its master's are not the same."""


class Pfdata:
    """One server's file. Nothing of it is a secret to this process; everything is to the log."""

    def __init__(self, path: Path, kept_changes: int = 10_000) -> None:
        """Opens or makes the file, for its owner only. Raises DataError."""
        self.path: Final = path
        self._kept_changes = kept_changes  # older ones go: a slave that still needs them takes a snapshot
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._writer = _connect(path)
            self._reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        except (OSError, apsw.Error) as error:
            raise DataError(f"{path}: {error}") from None
        self._reader.set_busy_timeout(_BUSY_MS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock, self._reading:
            self._reader.close()
            self._writer.close()

    # ------------------------------------------------------------------------------ questions

    def read(self, ask: Callable[[apsw.Connection], Result]) -> Result:
        """What `ask` finds, through the connection that cannot write; from any thread. Raises DataError."""
        with self._reading:
            try:
                return ask(self._reader)
            except apsw.Error as error:
                raise DataError(f"{self.path}: {type(error).__name__}") from None

    def position(self) -> Position:
        return self.read(_position)

    def history(self) -> tuple[Epoch, ...]:
        query = "SELECT number, after_sequence FROM epochs ORDER BY number"
        return self.read(lambda db: tuple(Epoch(number, after) for number, after in db.execute(query)))

    def epoch(self) -> int:
        """The highest epoch that this server has heard of through its group; 0 for none."""
        return self.read(lambda db: int(db.execute("SELECT coalesce(max(number), 0) FROM epochs").get))

    def has_changes_after(self, sequence: int) -> bool:
        """Whether the log still reaches back to what follows `sequence`."""
        query = "SELECT EXISTS (SELECT 1 FROM changes WHERE sequence = ?)"
        return sequence == self.position().sequence or bool(
            self.read(lambda db: db.execute(query, (sequence + 1,)).get)
        )

    def changes_after(self, sequence: int) -> list[Change]:
        """What follows, in order: at least one change when there is any, and about 1 MiB of them at most."""
        return self.read(lambda db: _changes_after(db, sequence))

    def digest(self) -> str:
        """One number for all that is replicated: servers in the same position have the same one."""
        return self.read(content_digest)

    # ------------------------------------------------------------------------------ the master's part

    def write(self, work: Callable[[apsw.Connection], Result], made_at: float) -> tuple[Result, Position]:
        """Do `work` and log its changeset, or neither: an error of `work` leaves everything as it was."""
        with self._transaction() as db:
            session = apsw.Session(db, "main")
            try:
                for table in REPLICATED:
                    session.attach(table)
                result = work(db)
                changeset = session.changeset()
            finally:
                session.close()
            position = _position(db)
            if changeset:
                position = Position(position.epoch, position.sequence + 1)
                self._log(db, Change(position, made_at, changeset))
        return result, position

    def begin_epoch(self, number: int) -> None:
        """Let a reign of this server begin. Raises DataError for an epoch that has been."""
        with self._transaction() as db:
            highest = db.execute("SELECT coalesce(max(number), 0) FROM epochs").get
            if number <= highest:
                raise DataError(f"epoch {number} is not after epoch {highest}")
            # An epoch that began after what this server has is none of its past
            db.execute("DELETE FROM epochs WHERE after_sequence > (SELECT sequence FROM position)")
            db.execute("INSERT INTO epochs SELECT ?, sequence FROM position", (number,))
            db.execute("UPDATE position SET epoch = ?", (number,))

    def wait_for_writer(self) -> None:
        """Return when whoever writes has committed."""
        with self._lock:
            pass

    def save_snapshot(self, path: Path) -> Position:
        """A copy of all, as it is at one moment, in a new file for its owner only; returns that moment's position."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        source = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            source.set_busy_timeout(_BUSY_MS)
            source.execute("VACUUM INTO ?", (str(path),))
        except apsw.Error as error:
            raise DataError(f"{path}: {error}") from None
        finally:
            source.close()
        return snapshot_position(path)

    # ------------------------------------------------------------------------------ a slave's part

    def adopt_history(self, history: Sequence[Epoch]) -> None:
        """Take over the epochs of a master that has found this server's past to be the beginning of its own."""
        with self._transaction() as db:
            db.execute("DELETE FROM epochs")
            db.executemany(
                "INSERT INTO epochs VALUES (?, ?)", ((epoch.number, epoch.after_sequence) for epoch in history)
            )

    def apply(self, change: Change) -> None:
        """Apply the next change and take its position. Raises DataError; the file is then as it was."""
        with self._transaction() as db:
            sequence = db.execute("SELECT sequence FROM position").get
            if change.position.sequence != sequence + 1:
                raise Misfit(f"change {change.position.sequence} does not follow {sequence}")
            try:
                apsw.Changeset.apply(change.changeset, db, filter=REPLICATED.__contains__)
            except (apsw.AbortError, apsw.ConstraintError, apsw.CorruptError) as error:  # a row is not as it was
                raise Misfit(f"change {change.position.sequence} does not fit: {type(error).__name__}") from None
            self._log(db, change)

    def load_snapshot(self, path: Path) -> None:
        """Become a copy of a snapshot, all or nothing, while others go on reading. Raises DataError."""
        snapshot_position(path)
        with self._lock:
            source = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                with self._writer.backup("main", source, "main") as backup:
                    while not backup.done:
                        backup.step(_BACKUP_PAGES)
            except apsw.Error as error:
                raise DataError(f"{path}: {error}") from None
            finally:
                source.close()

    # ------------------------------------------------------------------------------ inside

    @contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        with self._lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                self._writer.execute("COMMIT")
            except apsw.Error as error:  # the disk is full, or somebody else holds the file
                raise DataError(f"{self.path}: {type(error).__name__}") from None
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")

    def _log(self, db: apsw.Connection, change: Change) -> None:
        """A change's place and its changeset. A slave keeps the log as well: it may be the next master."""
        epoch, sequence = change.position.epoch, change.position.sequence
        db.execute("INSERT INTO changes VALUES (?, ?, ?, ?)", (sequence, epoch, change.made_at, change.changeset))
        db.execute("DELETE FROM changes WHERE sequence <= ?", (sequence - self._kept_changes,))
        db.execute("UPDATE position SET epoch = ?, sequence = ?", (epoch, sequence))


def _position(db: apsw.Connection) -> Position:
    epoch, sequence = db.execute("SELECT epoch, sequence FROM position").get
    return Position(epoch, sequence)


def _changes_after(db: apsw.Connection, sequence: int) -> list[Change]:
    changes, size = [], 0
    query = "SELECT epoch, sequence, made_at, changeset FROM changes WHERE sequence > ? ORDER BY sequence LIMIT 256"
    for epoch, number, made_at, changeset in db.execute(query, (sequence,)):
        changes.append(Change(Position(epoch, number), made_at, changeset))
        size += len(changeset)
        if size > _BATCH_BYTES:
            break
    return changes


def snapshot_position(path: Path) -> Position:
    """The position of a snapshot. Raises DataError for a file that is none, or is damaged."""
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            _check_format(db, path)
            verdict = db.execute("PRAGMA quick_check(1)").get
            if verdict != "ok":
                raise DataError(f"{path} is damaged")
            return _position(db)
        finally:
            db.close()
    except apsw.Error as error:
        raise DataError(f"{path}: {type(error).__name__}") from None


def content_digest(db: apsw.Connection) -> str:
    """SHA-256 over every row of every replicated table, in order."""
    digest = hashlib.sha256()
    for table in REPLICATED:
        columns = ", ".join(f"quote({row[1]})" for row in db.execute(f"PRAGMA table_info({table})"))
        for row in db.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2"):  # noqa: S608 - names of our own tables
            digest.update("\x1f".join([table, *row]).encode() + b"\x1e")
    return digest.hexdigest()


def _connect(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    db.set_busy_timeout(_BUSY_MS)
    version = db.execute("PRAGMA user_version").get
    if version:
        _check_format(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # a write that was answered survives a power cut
    db.execute("BEGIN IMMEDIATE")
    db.execute(_TABLES)
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")
    return db


def _check_format(db: apsw.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").get
    if version != FORMAT:
        raise DataError(f"{path} has format {version}; this program reads format {FORMAT}")
