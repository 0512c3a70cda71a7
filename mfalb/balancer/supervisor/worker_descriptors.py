"""What comes to a worker, or leaves it, as descriptors: sockets and memory."""

from __future__ import annotations

import logging
import mmap
import os
import socket
from collections.abc import Iterable

from mfalb.balancer.exchange import handed_exchanges
from mfalb.balancer.exchange.handed_exchanges import HandedService
from mfalb.balancer.upstreams.custody import KeptSocket, SocketKeeper
from mfalb.errors import MalformedMessage
from mfalb.net.control_channel import Message

_log = logging.getLogger("mfalb.worker")


def listening_sockets(counts: tuple[tuple[str, int], ...], descriptors: list[int]) -> dict[str, list[socket.socket]]:
    """By listener: so many of the descriptors are each one's, in order."""
    left = iter(descriptors)
    return {name: [socket.socket(fileno=next(left)) for _ in range(count)] for name, count in counts}


def mapped(descriptor: int, size_bytes: int) -> mmap.mmap:
    """The memory behind a descriptor, which is closed."""
    memory = mmap.mmap(descriptor, size_bytes)
    os.close(descriptor)
    return memory


def handed_services(order: Message | None, keeper: SocketKeeper) -> dict[str, HandedService]:
    """What a predecessor tells of its exchanges, by their owners; nothing when it cannot be read, as after a crash."""
    if order is None or not order.descriptors:
        return {}
    keeper.follow_on(order.words["last_socket"])
    try:
        (descriptor,) = order.descriptors
        data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        os.close(descriptor)
        return {one.owner: one for one in handed_exchanges.read_untrusted(data)}
    except MalformedMessage as error:
        _log.error("what was handed over cannot be read", extra={"reason": error.reason})
        return {}


def kept_sockets(message: Message) -> list[KeptSocket]:
    """A predecessor's sockets towards RADIUS backends."""
    kept = []
    for (number, owner, backend), descriptor in zip(message.words["sockets"], message.descriptors, strict=True):
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        kept.append(KeptSocket(number, owner, backend, sock))
    return kept


def handed_memory(services: Iterable[HandedService]) -> int:
    """The descriptor of memory that has all of this, however much it is: a message would be too small."""
    left = memoryview(handed_exchanges.packed(services))
    memory = os.memfd_create("mfalb-handed", os.MFD_CLOEXEC)
    while left:
        left = left[os.write(memory, left) :]
    return memory
