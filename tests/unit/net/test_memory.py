"""Tests of mfalb.net.memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

# In a process of its own: the settings are the process's
_TRY: Final = """
import ctypes
from mfalb.net.memory import keep_large_blocks_apart
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def is_apart(size):  # blocks with pages of their own have their head, of 16 bytes, at the start of a page
    block = libc.malloc(size)
    is_so = block % 4096 == 16
    libc.free(block)
    return is_so
print(keep_large_blocks_apart())
print(is_apart(256 * 1024), is_apart(256 * 1024))  # by default the first one's end changes it
print(is_apart(256_000))
"""


def test_blocks_of_256_kib_have_pages_of_their_own_though_some_were_freed_and_smaller_ones_have_not() -> None:
    said = subprocess.run([sys.executable, "-c", _TRY], check=True, capture_output=True, text=True).stdout
    assert said == "True\nTrue True\nFalse\n"
