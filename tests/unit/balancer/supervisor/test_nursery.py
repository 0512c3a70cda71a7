"""The nursery forks who is asked for, kills only its own, and tells of each birth and each end.

Processes are no real ones here; tests/scenarios/test_workers.py and test_worker_stands_still.py have those.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from mfalb.balancer.supervisor import nursery

NOBODY_CHANGED = (0, 0)  # waitpid(2): no child has ended


class Exited(BaseException):
    """The end of a process."""


@dataclass
class FakeProcesses:
    """What the nursery asks the system for. `running` and `ended` are its children; `ended` with their wait status."""

    next_pid: int = 100
    fork_fails: int = 0
    is_child: bool = False  # the next fork is seen from the other side
    running: set[int] = field(default_factory=set)
    ended: dict[int, int] = field(default_factory=dict)
    killed: list[tuple[int, int]] = field(default_factory=list)
    handlers: dict[int, Any] = field(default_factory=dict)

    def fork(self) -> int:
        if self.fork_fails:
            raise OSError(self.fork_fails, os.strerror(self.fork_fails))
        if self.is_child:
            return 0
        self.next_pid += 1
        self.running.add(self.next_pid)
        return self.next_pid

    def end(self, pid: int, status: int) -> None:
        self.running.discard(pid)
        self.ended[pid] = status

    def waitid(self, _kind: int, pid: int, options: int) -> object | None:
        assert options & os.WNOWAIT, "it has to be told of later"
        if pid in self.running:
            return None
        if pid in self.ended:
            return object()
        raise ChildProcessError

    def waitpid(self, pid: int, _options: int) -> tuple[int, int]:
        assert pid == -1
        if self.ended:
            return self.ended.popitem()
        if self.running:
            return NOBODY_CHANGED
        raise ChildProcessError

    def kill(self, pid: int, number: int) -> None:
        self.killed.append((pid, number))

    def exit(self, status: int) -> None:
        raise Exited(status)

    def signal(self, number: int, handler: object) -> None:
        self.handlers[number] = handler


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> FakeProcesses:
    fake = FakeProcesses()
    for name in ("fork", "waitid", "waitpid", "kill"):
        monkeypatch.setattr(os, name, getattr(fake, name))
    monkeypatch.setattr(os, "_exit", fake.exit)
    monkeypatch.setattr(signal, "signal", fake.signal)
    monkeypatch.setattr(signal, "set_wakeup_fd", lambda _: -1)
    monkeypatch.setattr(nursery, "calm_the_garbage_collector", lambda: None)
    return fake


@dataclass
class Channel:
    """Both ends; `ours` is the supervisor's. What a child does is noted in `became`."""

    ours: socket.socket
    theirs: socket.socket
    became: list[int] = field(default_factory=list)
    child_fails: bool = False

    def ask_for_one(self) -> socket.socket:
        """Returns our end of its control channel."""
        mine, its = socket.socketpair()
        with its:
            socket.send_fds(self.ours, [b"w"], [its.fileno()])
        return mine

    def child(self, control: int) -> None:
        self.became.append(control)
        if self.child_fails:
            raise ValueError("a mistake")

    def serve(self) -> bool:
        return nursery._serve(self.theirs, self.child, (-1, -1))

    def told(self) -> list[dict[str, int]]:
        """What the supervisor has heard since the last time."""
        self.ours.setblocking(False)
        lines = []
        try:
            while line := self.ours.recv(4096):
                lines.append(json.loads(line))
        except BlockingIOError:
            pass
        return lines


@pytest.fixture
def channel() -> Iterator[Channel]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield Channel(ours, theirs)


def is_over(sock: socket.socket) -> bool:
    """Whether nobody has the other end any more."""
    with sock:
        sock.setblocking(False)
        try:
            return not sock.recv(1)
        except BlockingIOError:
            return False


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------------ births


def test_each_request_is_one_birth_told_in_order_and_nothing_of_the_child_s_is_kept(
    processes: FakeProcesses, channel: Channel
) -> None:
    controls = [channel.ask_for_one(), channel.ask_for_one()]
    assert channel.serve()
    assert channel.serve()
    assert channel.told() == [{"born": 101}, {"born": 102}]
    assert processes.running == {101, 102}
    assert all(map(is_over, controls)), "only a child has the other end"


def test_a_fork_that_fails_is_told_with_the_reason_and_the_next_one_is_tried(
    processes: FakeProcesses, channel: Channel
) -> None:
    control = channel.ask_for_one()
    processes.fork_fails = errno.EAGAIN
    assert channel.serve()
    assert channel.told() == [{"born": 0, "errno": errno.EAGAIN}]
    assert is_over(control), "the end of the channel is what the supervisor goes by"
    processes.fork_fails = 0
    channel.ask_for_one().close()
    assert channel.serve()
    assert channel.told() == [{"born": 101}]


def test_a_child_has_its_control_channel_and_nothing_of_the_nursery_s(
    processes: FakeProcesses, channel: Channel
) -> None:
    processes.is_child = True
    wake_up = os.pipe()
    with channel.ask_for_one(), pytest.raises(Exited) as caught:
        nursery._serve(channel.theirs, channel.child, wake_up)
    assert caught.value.args == (0,)
    (control,) = channel.became
    assert is_open(control)
    os.close(control)
    assert not any(map(is_open, wake_up))
    assert channel.theirs.fileno() == -1
    assert processes.handlers == dict.fromkeys((signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)


def test_a_child_that_fails_ends_with_1_and_its_error_is_told(
    processes: FakeProcesses, channel: Channel, capsys: pytest.CaptureFixture[str]
) -> None:
    processes.is_child, channel.child_fails = True, True
    with channel.ask_for_one(), pytest.raises(Exited) as caught:
        nursery._serve(channel.theirs, channel.child, os.pipe())
    assert caught.value.args == (1,)
    assert "ValueError: a mistake" in capsys.readouterr().err
    os.close(channel.became[0])


# ------------------------------------------------------------------------------------ ends


def test_who_is_named_is_killed(processes: FakeProcesses, channel: Channel) -> None:
    processes.running = {4711, 4712}
    channel.ours.send(b"k4711")
    assert channel.serve()
    assert processes.killed == [(4711, signal.SIGKILL)]


def test_nobody_is_killed_for_one_who_has_ended_whether_that_was_told_or_not(
    processes: FakeProcesses, channel: Channel
) -> None:
    processes.ended = {4711: 0}  # told later
    for pid in (4711, 4712):
        channel.ours.send(b"k%d" % pid)
        assert channel.serve()
    assert processes.killed == []
    assert processes.ended == {4711: 0}


def test_each_end_is_told_once_with_its_status(processes: FakeProcesses, channel: Channel) -> None:
    processes.running = {101, 102, 103}
    nursery._tell_of_the_dead(channel.theirs)
    assert channel.told() == []
    processes.end(101, 9)
    processes.end(103, 256)
    nursery._tell_of_the_dead(channel.theirs)
    told = sorted(channel.told(), key=lambda words: words["died"])
    assert told == [{"died": 101, "status": 9}, {"died": 103, "status": 256}]
    processes.end(102, 0)
    nursery._tell_of_the_dead(channel.theirs)
    nursery._tell_of_the_dead(channel.theirs)  # no child is left
    assert channel.told() == [{"died": 102, "status": 0}]


def test_when_the_supervisor_is_gone_nothing_more_is_served_and_nothing_is_raised(
    processes: FakeProcesses, channel: Channel
) -> None:
    channel.ours.close()
    assert not channel.serve()
    processes.ended = {101: 0}
    nursery._tell_of_the_dead(channel.theirs)
    assert processes.ended == {}


# ------------------------------------------------------------------------------------ its life


def test_it_serves_what_was_asked_tells_of_ends_and_ends_with_its_supervisor(
    processes: FakeProcesses, channel: Channel
) -> None:
    controls = [channel.ask_for_one(), channel.ask_for_one()]
    channel.ours.send(b"k101")
    processes.ended = {99: 9}
    channel.ours.shutdown(socket.SHUT_WR)
    assert nursery._tend(channel.theirs, channel.child) == 0
    told = channel.told()
    assert [words["born"] for words in told if "born" in words] == [101, 102]
    assert [words for words in told if "died" in words] == [{"died": 99, "status": 9}]
    assert processes.killed == [(101, signal.SIGKILL)]
    assert all(map(is_over, controls))


def test_signals_that_are_the_supervisor_s_to_answer_do_not_end_it(processes: FakeProcesses, channel: Channel) -> None:
    channel.ours.close()
    nursery._tend(channel.theirs, channel.child)
    ignored = {number for number, handler in processes.handlers.items() if handler is signal.SIG_IGN}
    assert ignored == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2}
    assert callable(processes.handlers[signal.SIGCHLD]), "an end wakes it up"


def test_the_end_of_a_child_is_told_though_its_signal_was_missed(
    processes: FakeProcesses, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_happens(*_: object) -> tuple[list[int], list[int], list[int]]:
        if processes.running:
            processes.end(101, 0)
        else:
            channel.ours.shutdown(socket.SHUT_WR)
            return [channel.theirs.fileno()], [], []
        return [], [], []

    processes.running = {101}
    monkeypatch.setattr(select, "select", nothing_happens)
    assert nursery._tend(channel.theirs, channel.child) == 0
    assert channel.told() == [{"died": 101, "status": 0}]
