"""Tests of mfalb.net.tls_reads."""

from __future__ import annotations

import asyncio

from mfalb.net.tls_reads import SharedReads


class Recorder(asyncio.Protocol):
    """Writes down what happens to it."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append(transport)

    def data_received(self, data: bytes) -> None:
        self.events.append(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        return True

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(exc)


def read(reads: SharedReads, data: bytes) -> None:
    """As an event loop does it."""
    reads.get_buffer(len(data))[: len(data)] = data
    reads.buffer_updated(len(data))


def test_what_two_connections_read_is_each_one_s_own_and_stays_as_it_was() -> None:
    one, two = Recorder(), Recorder()
    reads = [SharedReads(one), SharedReads(two)]
    for number, data in ((0, b"first"), (1, b"second, longer"), (0, b"3"), (1, b"")):
        read(reads[number], data)
    assert one.events == [b"first", b"3"]
    assert two.events == [b"second, longer", b""]


def test_every_event_is_passed_on() -> None:
    recorder, transport, error = Recorder(), asyncio.BaseTransport(), OSError()
    reads = SharedReads(recorder)
    reads.connection_made(transport)
    reads.pause_writing()
    reads.resume_writing()
    assert reads.eof_received() is True
    reads.connection_lost(error)
    assert recorder.events == [transport, "pause", "resume", "eof", error]


def test_an_event_loop_takes_it_for_one_that_brings_its_own_buffer() -> None:
    assert isinstance(SharedReads(Recorder()), asyncio.BufferedProtocol)
    assert not isinstance(SharedReads(Recorder()), asyncio.Protocol)  # uvloop looks for this first
    assert len(SharedReads(Recorder()).get_buffer(1_000_000)) == 256 * 1024
