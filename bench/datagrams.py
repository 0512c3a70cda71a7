"""Batches of datagrams with recvmmsg and sendmmsg (Linux, cffi in ABI mode), for the generator and the responder.

One system call moves up to a batch; a batch's bytes lie in one block of memory with a fixed distance between messages,
so that one strided slice reads the same byte of all of them.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Final

from cffi import FFI

BATCH: Final = 64
STRIDE_BYTES: Final = 512  # room for one datagram; longer ones are cut, and none of a bench's is that long
_NAME_BYTES: Final = 16  # struct sockaddr_in

ffi: Final = FFI()
ffi.cdef(
    """
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name; unsigned int msg_namelen;
        struct iovec *msg_iov; size_t msg_iovlen;
        void *msg_control; size_t msg_controllen; int msg_flags;
    };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, void *timeout);
    int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
    """
)
_libc: Final[Any] = ffi.dlopen(None)
_WOULD_BLOCK: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})
_LENGTH_STEP: Final = ffi.sizeof("struct mmsghdr") // 4
_LENGTH_OFFSET: Final = ffi.offsetof("struct mmsghdr", "msg_len") // 4


class Messages:
    """An array of messages with memory of their own, `stride` bytes apart."""

    def __init__(self, count: int, stride: int, names: Any = None) -> None:
        self.stride: Final = stride
        self._block = ffi.new("char[]", count * stride)
        self.memory: Final = memoryview(ffi.buffer(self._block))
        self._iovecs = ffi.new("struct iovec[]", count)
        self._headers = ffi.new("struct mmsghdr[]", count)
        self.names: Final[Any] = names
        self._lengths = memoryview(ffi.buffer(self._headers)).cast("B").cast("I")[_LENGTH_OFFSET::_LENGTH_STEP]
        self._sizes = [stride] * count
        for number in range(count):
            self._iovecs[number].iov_base = self._block + number * stride
            self._iovecs[number].iov_len = stride
            header = self._headers[number].msg_hdr
            header.msg_iov = self._iovecs + number
            header.msg_iovlen = 1
            if names is not None:
                header.msg_name = names + number * _NAME_BYTES
                header.msg_namelen = _NAME_BYTES

    def receive(self, descriptor: int) -> int:
        """Fills messages from the start; how many, 0 when there are none. Raises OSError."""
        count: int = _libc.recvmmsg(descriptor, self._headers, len(self._sizes), socket.MSG_DONTWAIT, ffi.NULL)
        return count if count >= 0 else _none_or_raise()

    def send(self, descriptor: int, first: int, count: int) -> int:
        """Sends messages from number `first` on; how many went out, 0 when the socket is full. Raises OSError."""
        sent: int = _libc.sendmmsg(descriptor, self._headers + first, count, socket.MSG_DONTWAIT)
        return sent if sent >= 0 else _none_or_raise()

    def lengths(self, count: int) -> list[int]:
        """The lengths of the first `count` received messages, in bytes."""
        return self._lengths[:count].tolist()

    def put(self, number: int, datagram: bytes) -> None:
        """Makes `datagram` message number `number`. Raises ValueError when it is longer than the stride."""
        start, size = number * self.stride, len(datagram)
        if size > self.stride:
            raise ValueError(f"a datagram of {size} bytes in room for {self.stride}")
        self.memory[start : start + size] = datagram
        if self._sizes[number] != size:
            self._sizes[number] = size
            self._iovecs[number].iov_len = size


def names_for(count: int) -> Any:
    """Room for the addresses of `count` messages: shared by those received and their answers."""
    return ffi.new("char[]", count * _NAME_BYTES)


def _none_or_raise() -> int:
    number: int = ffi.errno
    if number in _WOULD_BLOCK:
        return 0
    raise OSError(number, os.strerror(number))


def udp_socket(port: int = 0) -> socket.socket:
    """A non-blocking socket on loopback with a receive buffer for thousands of datagrams."""
    created = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        created.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        created.bind(("127.0.0.1", port))
    except BaseException:
        created.close()
        raise
    return created


def run_in_batches() -> None:
    """Lets this process, once it runs, work until it has nothing left to do (SCHED_BATCH; its children inherit it).

    Generator and responder share a core. By default each batch that one sends makes the kernel run the other at once,
    and batches shrink to a few datagrams: alone they reach 80,000 transactions a second, like this 115,000.
    """
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
