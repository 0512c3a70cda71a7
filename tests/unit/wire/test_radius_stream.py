"""Packets come out of a stream as they went in, however it is cut; a wrong Length ends it at once."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfalb.errors import MalformedMessage
from mfalb.wire.radius_stream import PacketStream


def packet(length: int, fill: int = 0) -> bytes:
    """Bytes that say of themselves that they are `length` long. Whether they are sound is not this layer's matter."""
    return bytes((1, 7, length >> 8, length & 255)) + bytes([fill]) * (length - 4)


def read(stream: PacketStream, data: bytes) -> list[bytes]:
    return list(stream.packets_untrusted(data))


WHOLE = [packet(20), packet(21, 1), packet(255, 2), packet(256, 3), packet(4096, 4), packet(20, 5)]
LENGTHS = st.one_of(st.sampled_from([20, 21, 4095, 4096]), st.integers(20, 4096))


def test_packets_that_come_in_one_piece_come_out_one_by_one() -> None:
    stream = PacketStream()
    assert read(stream, b"".join(WHOLE)) == WHOLE
    assert not stream.is_in_packet


@pytest.mark.parametrize("cut", range(len(packet(20) + packet(23)) + 1))
def test_two_packets_cut_anywhere_come_out_whole(cut: int) -> None:
    data, stream = packet(20) + packet(23, 9), PacketStream()
    first = read(stream, data[:cut])
    assert stream.is_in_packet is (cut not in (0, 20, 43))
    assert first + read(stream, data[cut:]) == [packet(20), packet(23, 9)]
    assert not stream.is_in_packet


def test_a_packet_comes_out_with_its_last_byte_and_no_sooner() -> None:
    stream, data = PacketStream(), packet(40)
    assert [read(stream, data[index : index + 1]) for index in range(39)] == [[]] * 39
    assert read(stream, data[39:]) == [data]


def test_no_bytes_are_no_packet() -> None:
    stream = PacketStream()
    assert read(stream, b"") == []
    assert read(stream, packet(20)[:10]) == []
    assert read(stream, b"") == []
    assert stream.is_in_packet


@pytest.mark.parametrize("length", [0, 1, 19, 4097, 65_535])
def test_a_length_that_no_packet_has_is_refused_with_its_fourth_byte(length: int) -> None:
    stream, head = PacketStream(), bytes((1, 7, length >> 8, length & 255))
    assert read(stream, head[:3]) == []
    with pytest.raises(MalformedMessage, match="bad_length"):
        read(stream, head[3:])


@pytest.mark.parametrize("length", [19, 4097])
def test_what_came_whole_before_a_wrong_length_still_comes_out(length: int) -> None:
    packets = PacketStream().packets_untrusted(packet(20) + packet(30) + bytes((1, 7, length >> 8, length & 255)))
    assert [next(packets), next(packets)] == [packet(20), packet(30)]
    with pytest.raises(MalformedMessage, match="bad_length"):
        next(packets)


@given(st.lists(LENGTHS, max_size=8), st.lists(st.integers(0, 40_000), max_size=20), st.binary(max_size=3))
def test_any_packets_in_any_pieces_come_out_as_they_went_in(lengths: list[int], cuts: list[int], tail: bytes) -> None:
    sent = [packet(length, index) for index, length in enumerate(lengths)]
    data = b"".join(sent) + tail
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    stream = PacketStream()
    received = [one for start, end in itertools.pairwise(edges) for one in read(stream, data[start:end])]
    assert received == sent
    assert stream.is_in_packet is bool(tail)


@given(st.lists(st.binary(max_size=6000), max_size=6))
def test_whatever_comes_is_packets_or_malformed(pieces: list[bytes]) -> None:
    stream, received = PacketStream(), b""
    with suppress(MalformedMessage):
        for piece in pieces:
            for one in stream.packets_untrusted(piece):
                assert len(one) == one[2] << 8 | one[3]
                assert 20 <= len(one) <= 4096
                received += one
    assert b"".join(pieces).startswith(received)
