"""Where workers come from: a process that has loaded everything, does nothing, and forks one when it is asked to.

A fork takes milliseconds where starting Python takes half a second, so a worker that crashed is replaced before its
clients notice, and what all workers load lies in memory once. The supervisor itself cannot be forked: it has an event
loop and threads. Where the nursery is forked from the supervisor it must be before either.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mfalb.net.memory import calm_the_garbage_collector

_LINE_BYTES: Final = 4096
_POLL_S: Final = 1.0  # at most so late is the end of a child told, should its signal have been missed

Child = Callable[[int], None]  # what a worker does with its end of the control channel, a descriptor


def start_nursery(child: Child, *, but: tuple[int, ...] = ()) -> tuple[socket.socket, int]:
    """Fork it off; returns the supervisor's end of its channel and its process id.

    `but` are descriptors that are the supervisor's alone.

    Requests are `w` with one descriptor, the control channel of the worker to be, and `k` with the process id of one to
    be killed. Answers are lines of JSON: for each `w`, in order, {"born": pid} or {"born": 0, "errno": why not}, and
    {"died": pid, "status": wait status} for each end.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        ours.setblocking(False)
        return ours, pid
    ours.close()
    for descriptor in but:
        os.close(descriptor)
    status = 1
    try:
        status = _tend(theirs, child)
    finally:
        os._exit(status)


def _tend(channel: socket.socket, child: Child) -> int:
    """The nursery's life: until the supervisor is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):  # the supervisor's to answer
        signal.signal(number, signal.SIG_IGN)
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, _noted)
    calm_the_garbage_collector()
    while True:
        ready, _, _ = select.select([channel.fileno(), read_end], [], [], _POLL_S)
        if read_end in ready:
            os.read(read_end, _LINE_BYTES)
        if channel.fileno() in ready and not _serve(channel, child, (read_end, write_end)):
            return 0
        _tell_of_the_dead(channel)


def _noted(_number: int, _frame: object) -> None:
    """The wake-up descriptor has it."""


def _serve(channel: socket.socket, child: Child, wake_up: tuple[int, int]) -> bool:
    """One request; False when the supervisor is gone."""
    data, descriptors, _, _ = socket.recv_fds(channel, _LINE_BYTES, 1)
    if not data:
        return False
    if data.startswith(b"k"):
        _kill(int(data[1:]))
        return True
    (control,) = descriptors
    try:
        pid = os.fork()
    except OSError as error:  # a limit of processes or memory, which may be less tight in a moment
        _say(channel, {"born": 0, "errno": error.errno or 0})
    else:
        if pid == 0:
            _become(channel, child, control, wake_up)
        _say(channel, {"born": pid})
    os.close(control)
    return True


def _kill(pid: int) -> None:
    """Only a child that nobody has waited for yet: by then its number may be another process's."""
    with suppress(ChildProcessError):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            os.kill(pid, signal.SIGKILL)


def _become(channel: socket.socket, child: Child, control: int, wake_up: tuple[int, int]) -> None:
    """In the new process: leave everything of the nursery behind. Never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        channel.close()
        for descriptor in wake_up:
            os.close(descriptor)
        child(control)
        status = 0
    except BaseException:  # noqa: BLE001 - the last place where anybody could tell of it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _tell_of_the_dead(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say(channel, {"died": pid, "status": status})


def _say(channel: socket.socket, words: dict[str, int]) -> None:
    with suppress(OSError):  # the supervisor is gone, which is noticed elsewhere
        channel.send(json.dumps(words).encode())
