"""What a connected socket's error queue says of datagrams, and what of it is a refusal."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from mfalb.net.datagrams import refused_datagrams

Note = tuple[int, int, bytes]


def note(error: int, *, origin: int = 2) -> Note:
    """A sock_extended_err (linux/errqueue.h) from an ICMP message, as it comes with IP_RECVERR."""
    return socket.IPPROTO_IP, 11, struct.pack("=I4B2I", error, origin, 3, 0, 0, 0, 0) + bytes(16)


class ErrorQueue(socket.socket):
    """A socket that was told this of its datagrams."""

    def __init__(self, *entries: tuple[bytes, list[Note]]) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self._entries = list(entries)

    def recvmsg(self, *_arguments: int) -> tuple[bytes, list[Note], int, None]:
        if not self._entries:
            raise BlockingIOError
        data, notes = self._entries.pop(0)
        return data, notes, socket.MSG_ERRQUEUE, None


@pytest.mark.parametrize("soft", [errno.EMSGSIZE, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPROTO])
def test_only_a_closed_port_is_a_refusal_and_what_routers_say_is_not(soft: int) -> None:
    with ErrorQueue((b"one", [note(soft)]), (b"two", [note(errno.ECONNREFUSED)]), (b"three", [])) as sock:
        assert refused_datagrams(sock) == [b"two"]
        assert refused_datagrams(sock) == []
