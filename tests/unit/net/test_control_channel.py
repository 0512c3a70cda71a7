"""What is said over a control channel arrives whole, in order, with its descriptors; what is none of it ends it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.net.control_channel import FRAME_LIMIT_BYTES, FrameReader, Message, NotAMessage, frame

MESSAGES = [
    Message({"kind": "begin", "states": [{"weight": 1}]}, b"\0\xff" * 20, (5, 6)),
    Message({}),
    Message({"kind": "keep", "name": "mfa\u00e4"}, b"", (7,)),
]
STREAM = b"".join(map(frame, MESSAGES))


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_stream_may_be_cut_anywhere(cut: int) -> None:
    reader = FrameReader()
    got = reader.feed_untrusted(STREAM[:cut], (5, 6, 7)) + reader.feed_untrusted(STREAM[cut:], ())
    assert got == MESSAGES


def test_a_message_is_told_with_its_last_byte_and_its_own_descriptors() -> None:
    reader, data = FrameReader(), frame(MESSAGES[0])
    assert reader.feed_untrusted(data[:1], (5, 6)) == []
    for at in range(1, len(data) - 1):
        assert reader.feed_untrusted(data[at : at + 1], ()) == []
    assert reader.feed_untrusted(data[-1:] + frame(MESSAGES[2]), (7,)) == [MESSAGES[0], MESSAGES[2]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack("!IIB", FRAME_LIMIT_BYTES, 1, 0), "too long"),
        (struct.pack("!IIB", 0xFFFFFFFF, 0xFFFFFFFF, 255), "too long"),
        (struct.pack("!IIB", 2, 0, 0) + b"{x", "no JSON"),
        (struct.pack("!IIB", 0, 0, 0), "no JSON"),
        (struct.pack("!IIB", 2, 0, 0) + b"\xff\xfe", "no JSON"),
        (struct.pack("!IIB", 2, 0, 0) + b"[]", "no table"),
        (struct.pack("!IIB", 4, 0, 0) + b"null", "no table"),
    ],
)
def test_forged_frames_are_told_apart(data: bytes, reason: str) -> None:
    with pytest.raises(NotAMessage, match=reason):
        FrameReader().feed_untrusted(data, ())


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_whatever_bytes_come_they_are_messages_or_none(data: bytes) -> None:
    try:
        messages = FrameReader().feed_untrusted(data, ())
    except NotAMessage:
        return
    assert all(isinstance(message.words, dict) for message in messages)


@pytest.mark.parametrize(("words", "kind"), [({}, ""), ({"kind": 5}, ""), ({"kind": "good"}, "good")])
def test_a_message_that_does_not_say_its_kind_has_none(words: dict[str, object], kind: str) -> None:
    assert Message(words).kind == kind


def test_the_bytes_of_a_message_are_in_no_log() -> None:
    assert "secret" not in repr(Message({"kind": "begin"}, b"secret"))


def test_a_message_whose_descriptors_found_no_room_is_heard_without_them() -> None:
    reader = FrameReader()
    kept, other = Message({"kind": "keep"}, b"", (5,)), Message({"kind": "other"})
    assert reader.feed_untrusted(frame(kept) + frame(other), ()) == [Message({"kind": "keep"}), other]
