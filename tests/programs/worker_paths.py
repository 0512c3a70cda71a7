"""Sockets of clients that are known to reach a certain worker: the kernel deals clients out by their address and port.

Which one a socket reaches is seen in proc(5): where the datagram lies that the stopped workers do not read, or who has
the connection.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from programs.balancer import Balancer
from programs.descriptors import sockets_of
from programs.ports import LOOPBACK
from programs.process import wait_until

_TRIES: Final = 400  # of 4 workers one is missed by as many with a probability of 1 in 10^50
_LOCAL: Final = 1
_REMOTE: Final = 2
_QUEUES: Final = 4
_INODE: Final = 9


@contextmanager
def udp_to_each_worker(balancer: Balancer, port: int) -> Iterator[Mapping[int, socket.socket]]:
    """A connected socket to each worker, by its process id. Each worker may get some empty datagrams."""
    owners = _owners(balancer)
    found: dict[int, socket.socket] = {}
    try:
        for _ in range(_TRIES):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect((LOOPBACK, port))
            worker = owners[_reached(balancer, port, sock)]
            if worker in found:
                sock.close()
            else:
                found[worker] = sock
            if len(found) == len(balancer.workers):
                break
        assert set(found) == set(balancer.workers), "a worker was never reached"
        yield found
    finally:
        for sock in found.values():
            sock.close()


def _reached(balancer: Balancer, port: int, sock: socket.socket) -> str:
    """The inode of the balancer's socket that a datagram of this one comes to."""
    workers = balancer.workers
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        for worker in workers:
            wait_until(lambda pid=worker: _is_stopped(pid), "a stopped worker")  # type: ignore[misc]
        before = _waiting(port)
        sock.send(b"")
        now = _waiting(port)
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
    (inode,) = [inode for inode, queues in now.items() if queues != before[inode]]
    return inode


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(") ")[2].startswith("T")


def _waiting(port: int) -> dict[str, str]:
    """What waits at each of the sockets bound to this port, by inode."""
    return {fields[_INODE]: fields[_QUEUES] for fields in _table("udp") if fields[_LOCAL].endswith(f":{port:04X}")}


@contextmanager
def tcp_to_each_worker(balancer: Balancer, port: int) -> Iterator[Mapping[int, socket.socket]]:
    """An open connection with each worker, by its process id."""
    found: dict[int, socket.socket] = {}
    try:
        for _ in range(_TRIES):
            sock = socket.create_connection((LOOPBACK, port))
            try:
                worker = _accepter(balancer, sock)
            except BaseException:
                sock.close()
                raise
            if worker in found:
                sock.close()
            else:
                found[worker] = sock
            if len(found) == len(balancer.workers):
                break
        assert set(found) == set(balancer.workers), "a worker was never reached"
        yield found
    finally:
        for sock in found.values():
            sock.close()


def _accepter(balancer: Balancer, sock: socket.socket) -> int:
    """The worker that has the other end."""
    ours, theirs = (f":{end[1]:04X}" for end in (sock.getsockname(), sock.getpeername()))
    workers = list[int]()

    def is_accepted() -> bool:
        owners = _owners(balancer)
        workers[:] = [
            owners[fields[_INODE]]
            for fields in _table("tcp")
            if fields[_LOCAL].endswith(theirs) and fields[_REMOTE].endswith(ours) and fields[_INODE] in owners
        ]
        return bool(workers)

    wait_until(is_accepted, "a worker that accepts the connection")
    return workers[0]


def _table(protocol: str) -> list[list[str]]:
    return [line.split() for line in Path(f"/proc/net/{protocol}").read_text("ascii").splitlines()[1:]]


def _owners(balancer: Balancer) -> dict[str, int]:
    """Which worker has which socket: process ids by inodes."""
    return {inode: worker for worker in balancer.workers for inode in sockets_of(worker).values()}
