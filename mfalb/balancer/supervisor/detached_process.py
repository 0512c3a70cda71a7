"""A process that is nobody's child once it serves: the double fork of daemons, with its end still told until then.

A service manager holds on only to its own children. When a service ends, systemd (252) waits for the main process if
that is its child, which it looks up when it is told MAINPID; any other it kills at once, with all its connections. An
orphan of a service is the service manager's child. So there is one more process between us and the other one, which
ends as that one ends, and goes away when that one is let go.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Self

_BIRTH_TIMEOUT_S: Final = 10.0
_PID_BYTES: Final = 16

# Of the running version, not of what lies on the disk. It ends as its child ends, and signals are for others to answer.
_CODE: Final = """
import os, signal, sys
told, handed, *command = sys.argv[1:]
pid = os.fork()
if pid == 0:
    os.close(int(told))
    os.execv(command[0], command)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
os.write(int(told), b"%d" % pid)
os.close(int(told))
os.close(int(handed))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class DetachedProcess:
    """Made by `start`. `pid` is its own, not that of the process in between."""

    def __init__(self, between: Process, pid: int) -> None:
        self._between = between
        self.pid: Final = pid

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], handed: int) -> Self:
        """Start it; of our descriptors it has `handed`. Raises OSError, also when nothing is heard of it."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            words = (sys.executable, "-I", "-S", "-c", _CODE, str(theirs.fileno()), str(handed), *command)
            between = await asyncio.create_subprocess_exec(
                *words, env=dict(environment), pass_fds=(theirs.fileno(), handed)
            )
            theirs.close()
            try:
                async with asyncio.timeout(_BIRTH_TIMEOUT_S):
                    told = await asyncio.get_running_loop().sock_recv(ours, _PID_BYTES)
            except TimeoutError:
                between.kill()
                raise OSError("nothing is heard of it") from None
        if not told:
            raise OSError(f"it ended with {await between.wait()}")
        return cls(between, int(told))

    async def let_go(self) -> None:
        """It is an orphan from now on."""
        with suppress(ProcessLookupError):
            self._between.kill()
        await self._between.wait()

    async def kill(self) -> None:
        """End it, if it has not ended by itself."""
        if self._between.returncode is None:  # else its number may be another's by now
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        await self._between.wait()

    async def exit_code(self) -> int:
        """How it has ended; negative: by that signal."""
        return await self._between.wait()
