"""Which form of datagram socket serves in this process: batched where it can, else plain."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from mfalb.net.datagrams import DatagramSocket, PlainDatagramSocket

PLAIN_VARIABLE: Final = "MFALB_PLAIN_DATAGRAMS"
_OFF: Final = ("", "0")
_POINTER_BYTES: Final = 8  # the layouts in `arena` are those of 64-bit Linux


class Wrap(Protocol):
    """Makes a datagram socket of a UDP socket that is bound, or connected."""

    def __call__(self, sock: socket.socket, *, is_connected: bool) -> DatagramSocket: ...


@dataclass(frozen=True, slots=True)
class DatagramForm:
    """How sockets are wrapped, and why the plain form has to serve ("" when the batched one does)."""

    wrap: Wrap
    why_plain: str = ""

    @property
    def name(self) -> str:
        return "plain" if self.why_plain else "batched"


def datagram_form(environment: Mapping[str, str]) -> DatagramForm:
    """The fastest form that works here; the plain one on demand, to find out whether a fault lies in the other."""
    if environment.get(PLAIN_VARIABLE, "") not in _OFF:
        return DatagramForm(PlainDatagramSocket, f"{PLAIN_VARIABLE} is set")
    if struct.calcsize("P") != _POINTER_BYTES:
        return DatagramForm(PlainDatagramSocket, "not a 64-bit system")
    try:
        from mfalb.net.batched_datagrams import BatchedDatagramSocket  # noqa: PLC0415 - imports cffi

        BatchedDatagramSocket.load()
    except (ImportError, OSError, AttributeError) as error:  # no cffi; a system without the calls; a library without
        return DatagramForm(PlainDatagramSocket, f"{type(error).__name__}: {error}")
    return DatagramForm(BatchedDatagramSocket)
