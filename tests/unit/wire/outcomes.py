"""What became of reading a stranger's bytes, as one value that a table can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mfalb.errors import MalformedMessage

T = TypeVar("T")


def outcome(read: Callable[[bytes], T], data: bytes) -> T | str:
    """What `read` makes of the bytes, or the reason for which it refuses them. No other error passes."""
    try:
        return read(data)
    except MalformedMessage as error:
        return error.reason
