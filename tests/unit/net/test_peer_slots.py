"""The kernel's part is played here: it writes into, and reads from, what the headers point at."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from mfalb.net import peer_slots
from mfalb.net.arena import Arena, ffi
from mfalb.net.datagrams import BATCH
from mfalb.net.peer_slots import DestinationSlots, OriginSlots
from mfalb.net.sockaddr import CONNECTED, PACKET_INFO, SOCKADDR_BYTES, PacketInfo, PeerForm, answering_info

FAMILIES = [socket.AF_INET, socket.AF_INET6]
by_family = pytest.mark.parametrize("family", FAMILIES, ids=["IPv4", "IPv6"])


def name_of(family: socket.AddressFamily, number: int) -> bytes:
    return bytes((number % 251 + 1,)) * SOCKADDR_BYTES[family]


def asked(family: socket.AddressFamily, number: int) -> bytes:
    """A pktinfo as it comes with a datagram to the host's unicast address of that number."""
    size = PACKET_INFO[family].size_bytes
    return bytes((0x20, 1)) + number.to_bytes(size - 2, "big")


def deliver(header: Any, name: bytes, info: PacketInfo | None, pktinfo: bytes) -> None:
    """What recvmmsg writes for one datagram; without a control message when `pktinfo` is empty."""
    assert header.msg_namelen == len(name)
    ffi.buffer(header.msg_name, len(name))[:] = name
    if info is None:
        assert header.msg_controllen == 0
        return
    assert header.msg_controllen == socket.CMSG_SPACE(info.size_bytes)
    header.msg_controllen = 0
    if pktinfo:
        head = struct.pack("=Qii", socket.CMSG_LEN(info.size_bytes), info.level, info.kind)
        message = (head + pktinfo).ljust(socket.CMSG_SPACE(info.size_bytes), b"\xee")  # what fills it up says nothing
        ffi.buffer(header.msg_control, len(message))[:] = message
        header.msg_controllen = len(message)


@by_family
def test_a_socket_with_one_address_tells_names_alone(family: socket.AddressFamily) -> None:
    headers = Arena().headers()
    slots = OriginSlots(headers, PeerForm(SOCKADDR_BYTES[family], None))
    for count in (1, BATCH, 3):
        names = [name_of(family, count + index) for index in range(count)]
        for index, name in enumerate(names):
            deliver(headers[index].msg_hdr, name, None, b"")
        assert list(slots.take(count)) == names


@by_family
def test_on_a_wildcard_address_a_peer_is_who_asked_and_what_to_answer_from(family: socket.AddressFamily) -> None:
    headers, info = Arena().headers(), PACKET_INFO[family]
    slots = OriginSlots(headers, PeerForm(SOCKADDR_BYTES[family], info))
    for count in (1, BATCH, 3, BATCH):
        came = [(name_of(family, count + index), asked(family, index % 5)) for index in range(count)]
        for index, (name, pktinfo) in enumerate(came):
            deliver(headers[index].msg_hdr, name, info, pktinfo)
        assert list(slots.take(count)) == [name + answering_info(pktinfo) for name, pktinfo in came]


@by_family
def test_a_datagram_that_came_without_an_address_inherits_none_from_the_batch_before(
    family: socket.AddressFamily,
) -> None:
    headers, info, name = Arena().headers(), PACKET_INFO[family], name_of(family, 1)
    slots = OriginSlots(headers, PeerForm(len(name), info))
    for pktinfo in (asked(family, 7), b"", asked(family, 8)):
        deliver(headers[0].msg_hdr, name, info, pktinfo)
        (peer,) = slots.take(1)
        assert peer == name + (answering_info(pktinfo) if pktinfo else bytes(info.size_bytes))  # zeros: the kernel's


@by_family
def test_of_many_addresses_a_bounded_number_is_remembered_and_all_are_answered(family: socket.AddressFamily) -> None:
    headers, info, name = Arena().headers(), PACKET_INFO[family], name_of(family, 1)
    slots = OriginSlots(headers, PeerForm(len(name), info))
    for number in range(3 * peer_slots._KNOWN_LIMIT):
        deliver(headers[0].msg_hdr, name, info, asked(family, number))
        assert list(slots.take(1)) == [name + answering_info(asked(family, number))]
    assert len(slots._known) <= peer_slots._KNOWN_LIMIT


def controls_of(header: Any) -> bytes:
    return bytes(ffi.buffer(header.msg_control, header.msg_controllen))


def segments_of(length: int) -> bytes:
    """udp(7): a control message UDP_SEGMENT with a 16-bit number."""
    return struct.pack("=QiiH6x", 18, socket.IPPROTO_UDP, 103, length)


@by_family
def test_a_message_goes_where_it_was_last_put_from_our_address_and_cut_up_as_said(
    family: socket.AddressFamily,
) -> None:
    headers, info = Arena().headers(), PACKET_INFO[family]
    slots = DestinationSlots(headers, PeerForm(SOCKADDR_BYTES[family], info))
    for round_number in range(3):
        for index in range(BATCH):
            number, length = round_number + index, (round_number + index) % 2 * 130
            name, source = name_of(family, number), answering_info(asked(family, number))
            slots.put(index, name + source, length)
            header = headers[index].msg_hdr
            assert bytes(ffi.buffer(header.msg_name, header.msg_namelen)) == name
            address = struct.pack("=Qii", socket.CMSG_LEN(len(source)), info.level, info.kind) + source
            address = address.ljust(socket.CMSG_SPACE(len(source)), b"\0")
            assert controls_of(header) == address + (segments_of(length) if length else b"")


@by_family
def test_a_socket_with_one_address_has_no_control_message_but_for_cutting_up(family: socket.AddressFamily) -> None:
    headers, name = Arena().headers(), name_of(family, 1)
    slots = DestinationSlots(headers, PeerForm(len(name), None))
    for length in (0, 1200, 0):
        slots.put(3, name, length)
        header = headers[3].msg_hdr
        assert bytes(ffi.buffer(header.msg_name, header.msg_namelen)) == name
        assert controls_of(header) == (segments_of(length) if length else b"")


def test_on_a_connected_socket_messages_have_no_name() -> None:
    headers = Arena().headers()
    slots = DestinationSlots(headers, CONNECTED)
    slots.put(0, b"", 130)
    assert headers[0].msg_hdr.msg_name == ffi.NULL
    assert headers[0].msg_hdr.msg_namelen == 0
    assert controls_of(headers[0].msg_hdr) == segments_of(130)
