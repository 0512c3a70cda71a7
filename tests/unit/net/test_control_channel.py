"""What is said over a control channel arrives whole, in order, with its descriptors; what is none of it ends it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.still_loop import run

from mfalb.net import control_channel
from mfalb.net.control_channel import (
    FD_LIMIT,
    FRAME_LIMIT_BYTES,
    ControlChannel,
    FrameReader,
    Message,
    NotAMessage,
    frame,
)

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


# ------------------------------------------------------------------------------------ over a socket pair

# Both ends are this process's own: what is tested is how a channel uses a socket, and no fake has SCM_RIGHTS.


@dataclass
class End:
    """One end of a channel, and what it has heard."""

    sock: socket.socket
    heard: list[Message] = field(default_factory=list)
    ends: int = 0

    def __post_init__(self) -> None:
        self.channel = ControlChannel(self.sock, self.heard.append, self._ended)

    def _ended(self) -> None:
        self.ends += 1


async def until(is_true: Callable[[], bool]) -> None:
    """Let both ends do what they can."""
    for _ in range(10_000):
        if is_true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


def between_two(story: Callable[[End, End], Coroutine[Any, Any, None]]) -> None:
    async def told() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        one, other = End(ours), End(theirs)
        await story(one, other)
        for end in (one, other):
            end.channel.close()

    run(told())


def with_a_stranger(story: Callable[[End, socket.socket], Coroutine[Any, Any, None]]) -> None:
    """The other end is whoever has the socket."""

    async def told() -> None:
        ours, stranger = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        end = End(ours)
        with stranger:
            await story(end, stranger)
        end.channel.close()

    run(told())


def test_messages_come_in_order_each_with_its_own_descriptors_and_longer_than_any_buffer() -> None:
    long = bytes(range(256)) * 10_000
    with TemporaryFile() as first, TemporaryFile() as second:
        files = [os.fstat(file.fileno()).st_ino for file in (first, second)]

        async def story(one: End, other: End) -> None:
            one.channel.send(Message({"kind": "long"}, long, (first.fileno(),)))
            one.channel.send(Message({"kind": "short"}, b"", (second.fileno(),)))
            one.channel.send(Message({"kind": "none"}))
            other.channel.send(Message({"kind": "back"}))
            await until(lambda: len(other.heard) == 3 and len(one.heard) == 1)
            assert [message.kind for message in other.heard] == ["long", "short", "none"]
            assert other.heard[0].data == long
            received = [descriptor for message in other.heard for descriptor in message.descriptors]
            assert [len(message.descriptors) for message in other.heard] == [1, 1, 0]
            assert [os.fstat(descriptor).st_ino for descriptor in received] == files
            assert set(received).isdisjoint({first.fileno(), second.fileno()}), "they are the receiver's own"
            assert one.heard == [Message({"kind": "back"})]
            for descriptor in received:
                os.close(descriptor)

        between_two(story)


def test_an_end_that_is_gone_is_told_of_once_and_what_is_said_to_it_is_lost() -> None:
    async def story(one: End, other: End) -> None:
        other.channel.close()
        await until(lambda: one.ends == 1)
        assert not one.channel.is_open
        one.channel.send(Message({"kind": "lost"}))
        await asyncio.sleep(1)
        assert (one.ends, other.ends) == (1, 0), "who closes it knows"

    between_two(story)


def test_what_was_said_before_the_end_is_heard() -> None:
    async def story(one: End, other: End) -> None:
        other.channel.send(Message({"kind": "last"}))
        other.channel.close()
        await until(lambda: one.ends == 1)
        assert one.heard == [Message({"kind": "last"})]

    between_two(story)


@pytest.mark.parametrize("forged", [b"\xff" * 9, struct.pack("!IIB", 8, 0, 0) + b"password"])
def test_who_talks_nonsense_is_hung_up_on_and_the_log_has_the_reason_but_not_the_words(
    forged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(end: End, stranger: socket.socket) -> None:
        stranger.send(frame(MESSAGES[1]) + forged + frame(MESSAGES[1]))
        await until(lambda: end.ends == 1)
        assert end.heard == [], "what came together is judged together"
        assert stranger.recv(1) == b""

    with_a_stranger(story)
    (record,) = caplog.records
    assert record.message == "the control channel's other end talks nonsense"
    assert record.__dict__["reason"] in ("too long", "no JSON")
    assert "password" not in caplog.text


def test_an_end_that_takes_nothing_is_given_up_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control_channel, "UNSENT_LIMIT_BYTES", 3_000_000)

    async def story(end: End, _stranger: socket.socket) -> None:
        for _ in range(2):
            end.channel.send(Message({}, bytes(1_000_000)))
        assert end.channel.is_open
        for _ in range(2):
            end.channel.send(Message({}, bytes(1_000_000)))
        assert (end.channel.is_open, end.ends) == (False, 1)

    with_a_stranger(story)
    assert [record.message for record in caplog.records] == ["the control channel's other end takes nothing"]


def test_what_an_end_does_not_take_at_once_is_said_when_it_does() -> None:
    messages = [Message({"number": number}, bytes(200_000)) for number in range(5)]

    async def story(end: End, stranger: socket.socket) -> None:
        stranger.setblocking(False)
        for message in messages:
            end.channel.send(message)
        reader, got = FrameReader(), list[Message]()
        while len(got) < len(messages):
            with suppress(BlockingIOError):
                got += reader.feed_untrusted(stranger.recv(50_000), ())
            await asyncio.sleep(0)
        assert got == messages

    with_a_stranger(story)


def test_more_descriptors_than_the_kernel_passes_are_refused_before_anything_is_sent() -> None:
    async def story(one: End, other: End) -> None:
        with pytest.raises(ValueError, match=str(FD_LIMIT)):
            one.channel.send(Message({}, b"", (0,) * (FD_LIMIT + 1)))
        one.channel.send(Message({"kind": "next"}))
        await until(lambda: bool(other.heard))
        assert other.heard == [Message({"kind": "next"})]

    between_two(story)
