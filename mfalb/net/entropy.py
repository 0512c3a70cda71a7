"""Random bytes for the data path."""

from __future__ import annotations

import os
from typing import Final

_BLOCK_BYTES: Final = 4096


class Entropy:
    """16 random bytes at a time, drawn from the kernel in blocks: a system call for each would cost 1.6 us."""

    def __init__(self) -> None:
        self._block = b""
        self._position = 0

    def take(self) -> bytes:
        if self._position == len(self._block):
            self._block = os.urandom(_BLOCK_BYTES)
            self._position = 0
        start = self._position
        self._position = start + 16
        return self._block[start : start + 16]
