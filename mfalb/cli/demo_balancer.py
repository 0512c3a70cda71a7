"""`mfalb serve` as a demonstration runs it: a process of its own, as an operator has it."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from mfalb.cli.demo_failures import DemoFailed

_READY_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 10.0


async def start_balancer(configuration: Path, stack: AsyncExitStack) -> None:
    """Start it and wait until it serves; it ends with the stack. Raises DemoFailed with its log."""
    read_end, write_end = os.pipe()
    log = configuration.with_name("balancer.log")
    with log.open("wb") as log_file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mfalb", "serve", "-c", str(configuration), "--ready-fd", str(write_end),
            stdin=asyncio.subprocess.DEVNULL, stderr=log_file, pass_fds=[write_end],
        )  # fmt: skip
    os.close(write_end)
    stack.push_async_callback(_stop, process)
    with os.fdopen(read_end, "rb", buffering=0) as ready:
        try:
            line = await asyncio.wait_for(asyncio.to_thread(ready.readline), _READY_TIMEOUT_S)
        except TimeoutError:
            line = b""
    if line != b"ready\n":
        raise DemoFailed(f"the balancer did not start:\n{log.read_text('utf-8')}")
    print(f"The balancer is up, configured by {configuration}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
