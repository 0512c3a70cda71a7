"""The memory behind message headers: where each datagram of a batch came from, and where each goes to.

A peer is a sockaddr, on a wildcard address followed by the pktinfo that names our own address (see `sockaddr`). Layout
of a slot, made for the peers of one socket:

    name       sockaddr_in; or sockaddr_in6 and 4 bytes that nobody uses       not on a connected socket
    address    cmsghdr, in_pktinfo or in6_pktinfo, up to a multiple of 8       on a wildcard address
    segments   cmsghdr, the length of each segment (2), up to a multiple of 8  when sending
    cmsghdr    length without what fills it up (8)  level (4)  type (4)
"""

from __future__ import annotations

import socket
import struct
from array import array
from functools import cache
from typing import Any, Final

from mfalb.net.arena import CONTROL_LENGTH_QUAD, MMSGHDR_QUADS, ffi
from mfalb.net.datagrams import BATCH
from mfalb.net.sockaddr import PeerForm, answering_info

_CMSGHDR: Final = struct.Struct("=Qii")
_SEGMENT_LENGTH: Final = struct.Struct("=H")
_SEGMENTS_BYTES: Final = socket.CMSG_SPACE(_SEGMENT_LENGTH.size)
_UDP_SEGMENT: Final = 103  # linux/udp.h
_KNOWN_LIMIT: Final = 1024  # our addresses that were asked; when full they are worked out again


def _address_bytes(form: PeerForm) -> int:
    return 0 if form.info is None else socket.CMSG_SPACE(form.info.size_bytes)


class OriginSlots:
    """Who sent each datagram of a batch, and to which of our addresses: written by recvmmsg, read all at once."""

    def __init__(self, headers: Any, form: PeerForm) -> None:
        name_bytes, info = form.name_bytes, form.info
        address_at = -(-name_bytes // 8) * 8
        self._control_bytes = _address_bytes(form)
        self._layout = f"{name_bytes}s{address_at - name_bytes}x"
        if info is not None:
            rest = self._control_bytes - _CMSGHDR.size - info.size_bytes
            self._layout += f"{_CMSGHDR.size}x{info.size_bytes}s{rest}x"
        self._stride = address_at + self._control_bytes
        self._memory = ffi.new(f"char[{BATCH * self._stride}]")
        self._bytes = memoryview(ffi.buffer(self._memory)).cast("B")
        self._zeros = bytes(BATCH * self._stride)
        self._header_quads = memoryview(ffi.buffer(headers)).cast("B").cast("Q")
        self._control_lengths = memoryview(array("Q", [self._control_bytes] * BATCH))
        self._known: dict[bytes, bytes] = {}
        for index in range(BATCH):
            header, slot = headers[index].msg_hdr, self._memory + index * self._stride
            header.msg_name, header.msg_namelen = slot, name_bytes
            if info is not None:
                header.msg_control, header.msg_controllen = slot + address_at, self._control_bytes

    def take(self, count: int) -> tuple[bytes, ...] | list[bytes]:
        """The peers of the first `count` datagrams. Makes the slots ready for the next batch."""
        fields: tuple[bytes, ...] = _reader(self._layout, count).unpack_from(self._bytes)
        if not self._control_bytes:
            return fields
        self._bytes[: count * self._stride] = self._zeros[: count * self._stride]  # no datagram inherits an address
        first, end = CONTROL_LENGTH_QUAD, count * MMSGHDR_QUADS  # the kernel wrote what it used
        self._header_quads[first:end:MMSGHDR_QUADS] = self._control_lengths[:count]
        known = self._known
        return [
            name + (known.get(asked) or self._learn(asked))
            for name, asked in zip(fields[::2], fields[1::2], strict=True)
        ]

    def _learn(self, asked: bytes) -> bytes:
        if len(self._known) >= _KNOWN_LIMIT:
            self._known.clear()
        answering = self._known[asked] = answering_info(asked)
        return answering


@cache  # a layout for each family, with and without pktinfo: at most 4 times 64
def _reader(layout: str, count: int) -> struct.Struct:
    """Reads so many slots of one layout at once: 25 ns a field instead of 100 for a slice (measured)."""
    return struct.Struct("=" + layout * count)


class DestinationSlots:
    """Where each message of a batch goes, from which of our addresses, and how it is cut up: read by sendmmsg."""

    def __init__(self, headers: Any, form: PeerForm) -> None:
        name_bytes, info = form.name_bytes, form.info
        address_at = -(-name_bytes // 8) * 8
        self._name_bytes = name_bytes
        self._address_bytes = _address_bytes(form)
        self._info_at = address_at + _CMSGHDR.size
        self._segments_at = address_at + self._address_bytes + _CMSGHDR.size
        self._stride = address_at + self._address_bytes + _SEGMENTS_BYTES
        self._memory = ffi.new(f"char[{BATCH * self._stride}]")
        self._bytes = memoryview(ffi.buffer(self._memory)).cast("B")
        self._header_quads = memoryview(ffi.buffer(headers)).cast("B").cast("Q")
        for index in range(BATCH):
            header, start = headers[index].msg_hdr, index * self._stride
            if name_bytes:
                header.msg_name, header.msg_namelen = self._memory + start, name_bytes
            header.msg_control = self._memory + start + address_at
            if info is not None:
                _CMSGHDR.pack_into(
                    self._bytes, start + address_at, _CMSGHDR.size + info.size_bytes, info.level, info.kind
                )
            _CMSGHDR.pack_into(
                self._bytes,
                start + address_at + self._address_bytes,
                _CMSGHDR.size + _SEGMENT_LENGTH.size,
                socket.IPPROTO_UDP,
                _UDP_SEGMENT,
            )

    def put(self, index: int, peer: bytes, segment_bytes: int) -> None:
        """Message number `index` goes to that peer, cut up into segments of that length (0: as it is)."""
        start, size, control_bytes = index * self._stride, self._name_bytes, self._address_bytes
        if segment_bytes:
            control_bytes += _SEGMENTS_BYTES
            _SEGMENT_LENGTH.pack_into(self._bytes, start + self._segments_at, segment_bytes)
        self._header_quads[index * MMSGHDR_QUADS + CONTROL_LENGTH_QUAD] = control_bytes
        if self._address_bytes:
            at = start + self._info_at
            self._bytes[at : at + len(peer) - size] = peer[size:]
            peer = peer[:size]
        if size:
            self._bytes[start : start + size] = peer
