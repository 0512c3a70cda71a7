"""Structured log lines: one event a line, text or JSON, and nothing a peer sent can break the line."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from mfalb.telemetry.log_file import LogFile

_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_WORD: Final = re.compile(r"[!#-<>-\[\]-~]+").fullmatch  # printable ASCII but blank, quote, equals sign and backslash


def escaped(value: object) -> str:
    """A value as one word of a log line: control characters, blanks and quotes cannot reach it unescaped."""
    text = str(value)
    return text if _WORD(text) else _quoted(text)


def _quoted(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is


def is_journal() -> bool:
    """Whether standard error is the journal of systemd (sd-daemon(3)), which stamps lines by itself."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _priority(level: int) -> str:
    """A level as the journal reads it from the beginning of a line: <3> is an error, <7> for debugging."""
    return next((f"<{number}>" for least, number in _PRIORITIES if level >= least), "<7>")


class _Formatter(logging.Formatter):
    def __init__(self, *, is_json: bool, for_journal: bool) -> None:
        super().__init__()
        self._is_json = is_json
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _PLAIN}
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        if self._is_json:
            head = {"time": time, "level": record.levelname.lower(), "logger": record.name}
            return json.dumps(head | {"event": record.getMessage()} | fields, default=str)
        message = record.getMessage()
        if not message.isprintable():  # ours are; a library's may quote a peer
            message = _quoted(message)
        start = _priority(record.levelno) if self._for_journal else f"{time} "
        return f"{start}{record.levelname.lower()} {message}{_words(fields)}"


def _words(fields: Mapping[str, Any]) -> str:
    return "".join(f" {name}={escaped(value)}" for name, value in fields.items())


def configure(level: str, *, is_json: bool) -> None:
    """Send the log to standard error. Called once, by the command line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(is_json=is_json, for_journal=is_journal()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


class Lines(Protocol):
    """Where finished lines go."""

    def write(self, lines: str, /) -> object: ...

    def flush(self) -> object: ...


class AccessLog:
    """One line for each exchange, gathered on the hot path and written in batches off it.

    Holds at most `LIMIT` lines between two flushes; past that, lines are counted and left out rather than memory
    grown or the data path held up.
    """

    LIMIT: Final = 50_000
    FLUSH_ROWS: Final = 500  # 0.4 ms
    WORDS: Final = 4096  # remembered; clients choose them, so when full all are forgotten

    def __init__(self, *, is_json: bool, stream: Lines | None = None, for_journal: bool = False) -> None:
        """`for_journal`: text lines carry a priority in the place of their time."""
        self._is_json = is_json
        self._for_journal = for_journal
        self._stream = stream
        self._rows: list[Row] = []
        self._words: dict[bytes, str] = {}
        self._too_many = 0

    def add(self, form: LineForm, values: tuple[object, ...]) -> None:
        """Keep one row; writing waits for `flush`. What a client chose goes through `word` before."""
        if len(self._rows) < self.LIMIT:
            self._rows.append((form, values))
        else:
            self._too_many += 1

    @property
    def left_out(self) -> int:
        """Lines that were never written: too many at once, or the file could not be written."""
        return self._too_many + (self._stream.left_out if isinstance(self._stream, LogFile) else 0)

    @property
    def is_worth_a_flush(self) -> bool:
        """Whether so many rows wait that all of them later would hold up everybody for milliseconds."""
        return len(self._rows) >= self.FLUSH_ROWS

    def wire_word(self, data: bytes) -> str:
        """A client's bytes as one value of a line. Paths come again and again: most were made fit before."""
        word = self._words.get(data)
        if word is None:
            word = self.word(data.decode("latin-1"))
            if len(self._words) >= self.WORDS:
                self._words.clear()
            self._words[data] = word
        return word

    def word(self, text: str) -> str:
        """A client's text as one value of a line (JSON escapes by itself)."""
        return text if self._is_json else escaped(text)

    def flush(self, now: float) -> None:
        """Write what was gathered, stamped with `now` (unix seconds): one write for all."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        time = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        stream: Lines = self._stream if self._stream is not None else sys.stderr
        stream.write(_json_of(rows, time) if self._is_json else _text_of(rows, self._head(time)))
        stream.flush()

    def _head(self, time: str) -> str:
        return f"{_priority(logging.INFO)}info " if self._for_journal else f"{time} info "


Row = tuple["LineForm", tuple[object, ...]]


def _json_of(rows: list[Row], time: str) -> str:
    head = f'{{"time": "{time}", "level": "info", "event": '
    return "".join(f"{head}{json.dumps(form.event)}{form.json(values)}\n" for form, values in rows)


def _text_of(rows: list[Row], head: str) -> str:
    known: dict[tuple[object, ...], str] = {}
    return head + ("\n" + head).join([form.text(values, known) for form, values in rows]) + "\n"


_FLOATS: Final = ("ms",)  # numbers that are rounded when a line is written, off the hot path


class LineForm:
    """The form of one kind of access log line, made once: a line then costs 1 us instead of 8 (measured)."""

    def __init__(self, event: str, names: tuple[str, ...], *, varying: int = 0) -> None:
        """`varying`: many lines differ in so many of their last values only. 0: nearly all lines differ throughout."""
        self.event = event
        self.names = names
        self._varying = varying
        fields = [f" {name}=%.1f" if name in _FLOATS else f" {name}=%s" for name in names]
        self._text = event + "".join(fields)
        self._same, self._last = (
            event + "".join(fields[: len(fields) - varying]),
            "".join(fields[len(fields) - varying :]),
        )

    def text(self, row: tuple[object, ...], known: dict[tuple[object, ...], str]) -> str:
        """The line without its time. `known` keeps what repeats itself, so that it is formatted once a batch."""
        varying = self._varying
        if not varying:
            return self._text % row
        same = row[:-varying]
        start = known.get(same)
        if start is None:
            start = known[same] = self._same % same
        return start + self._last % row[-varying:]

    def json(self, values: tuple[object, ...]) -> str:
        """The fields as the rest of a JSON object."""
        rounded = (round(value, 1) if isinstance(value, float) else value for value in values)
        return ", " + json.dumps(dict(zip(self.names, rounded, strict=True)), default=str)[1:]
