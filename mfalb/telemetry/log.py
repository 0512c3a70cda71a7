"""Structured log lines: one event a line, text or JSON, and nothing a peer sent can break the line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def escaped(value: object) -> str:
    """A value as one word of a log line: control characters, blanks and quotes cannot reach it unescaped."""
    text = str(value)
    if text.isascii() and text.isprintable() and not set(text) & {" ", '"', "\\", "="} and text:
        return text
    return json.dumps(text)


class _Formatter(logging.Formatter):
    def __init__(self, *, is_json: bool) -> None:
        super().__init__()
        self._is_json = is_json

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _PLAIN}
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        if self._is_json:
            head = {"time": time, "level": record.levelname.lower(), "logger": record.name}
            return json.dumps(head | {"event": record.getMessage()} | fields, default=str)
        return f"{time} {record.levelname.lower()} {record.getMessage()}{_words(fields)}"


def _words(fields: Mapping[str, Any]) -> str:
    return "".join(f" {name}={escaped(value)}" for name, value in fields.items())


def configure(level: str, *, is_json: bool) -> None:
    """Send the log to standard error. Called once, by the command line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(is_json=is_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


class AccessLog:
    """One line for each exchange, gathered on the hot path and written in batches off it.

    Holds at most `LIMIT` lines between two flushes; past that, lines are counted and left out rather than memory
    grown or the data path held up.
    """

    LIMIT: Final = 50_000

    def __init__(self, *, is_json: bool, stream: TextIO | None = None) -> None:
        self._is_json = is_json
        self._stream = stream
        self._rows: list[tuple[str, tuple[str, ...], tuple[object, ...]]] = []
        self.left_out = 0

    def add(self, event: str, names: tuple[str, ...], values: tuple[object, ...]) -> None:
        """Keep one row; formatting waits for `flush`."""
        if len(self._rows) < self.LIMIT:
            self._rows.append((event, names, values))
        else:
            self.left_out += 1

    def flush(self, now: float) -> None:
        """Write what was gathered, stamped with `now` (unix seconds): one write for all."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        time = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        lines = []
        for event, names, values in rows:
            fields = dict(zip(names, values, strict=True))
            if self._is_json:
                lines.append(json.dumps({"time": time, "level": "info", "event": event} | fields, default=str))
            else:
                lines.append(f"{time} info {event}{_words(fields)}")
        stream = self._stream or sys.stderr
        stream.write("\n".join(lines) + "\n")
        stream.flush()
