"""Work that would hold up the event loop, in threads: hashing, and libraries that wait by blocking.

Each kind of work has threads of its own and few of them, so that a directory server that is silent delays no hash, and
a crowd of sign-ins takes no more memory than that many hashes. Work that finds no free thread waits for one. What can
wait has a limit already: it is a request that a front keeps open.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_Value = TypeVar("_Value")


class Threads:
    """At most `limit` threads for one kind of work. They are started when they are needed."""

    def __init__(self, kind: str, limit: int) -> None:
        self._executor = ThreadPoolExecutor(limit, thread_name_prefix=kind)

    async def run(self, work: Callable[..., _Value], *arguments: object) -> _Value:
        """What `work` returns, or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)


# scrypt leaves the interpreter to others while it works, so that there can be as many at a time as there are cores
HASHING: Final = Threads("hashing", os.cpu_count() or 1)
