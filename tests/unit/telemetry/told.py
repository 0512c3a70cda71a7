"""What a log record says, for tests that look for secrets in it."""

from __future__ import annotations

import logging

_NUMBERS_OF_THE_RECORD = ("created", "msecs", "relativeCreated", "thread", "process")  # hold any digits by chance


def told(record: logging.LogRecord) -> str:
    """All of a record, its own fields and its arguments included, but the clock and the process it was made in."""
    return str({name: value for name, value in vars(record).items() if name not in _NUMBERS_OF_THE_RECORD})
