"""Tests of mfalb.net.tls_end: both ends are real, and what lies between them is memory."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from unit.net.throw_away_certificates import write_certificate

from mfalb.net.lifecycle import Tasks
from mfalb.net.tls_end import TlsEnd, TlsTerms

NAME = "web.test"


class Recorder(asyncio.Protocol):
    """Writes down what happens to it."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.events.append("made")

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
        self.events.append(("lost", exc))


@dataclass
class Raw:
    """The event loop's transport: what is written stays here."""

    written: list[bytes] = field(default_factory=list)
    has_ended: bool = False
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    is_paused: bool = False

    @property
    def is_aborted(self) -> bool:
        return self.aborted.is_set()

    def write(self, data: bytes) -> None:
        assert not self.has_ended
        self.written.append(data)

    def write_eof(self) -> None:
        self.has_ended = True

    def abort(self) -> None:
        self.aborted.set()

    def is_closing(self) -> bool:
        return self.is_aborted

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return 7

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 4711)}.get(name, default)

    def take(self) -> bytes:
        taken = b"".join(self.written)
        self.written.clear()
        return taken


class Peer:
    """The other side, by Python's ssl itself."""

    def __init__(self, context: ssl.SSLContext, *, is_server: bool = False) -> None:
        self.arrived, self.to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if is_server else NAME
        self.end = context.wrap_bio(self.arrived, self.to_send, server_side=is_server, server_hostname=name)

    def shake(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.end.do_handshake()

    def hear(self) -> bytes:
        """All that came, in clear; the goodbye is b"" at the end."""
        heard = b""
        try:
            while one := self.end.read(65_536):
                heard += one
        except ssl.SSLWantReadError:
            return heard
        return heard + b"<goodbye>"

    def say(self, data: bytes) -> bytes:
        self.end.write(data)
        return self.to_send.read()


def deliver(end: TlsEnd, data: bytes, step: int = 65_536) -> None:
    """As an event loop does it."""
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        end.get_buffer(len(piece))[: len(piece)] = piece
        end.buffer_updated(len(piece))


@dataclass
class Meeting:
    """A server's end of ours and a client."""

    end: TlsEnd
    raw: Raw
    heard: Recorder
    peer: Peer
    terms: TlsTerms

    def pass_on(self, step: int = 65_536) -> None:
        """All that either side has for the other, until both are silent."""
        for _ in range(10):
            self.peer.arrived.write(self.raw.take())
            self.peer.shake()
            deliver(self.end, self.peer.to_send.read(), step)

    def reply(self) -> bytes:
        self.peer.arrived.write(self.raw.take())
        return self.peer.hear()


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    pair = write_certificate(tmp_path, "web", NAME)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*pair)
    return server, ssl.create_default_context(cafile=str(pair[0]))


def meeting(contexts: tuple[ssl.SSLContext, ssl.SSLContext], *, timeout_s: float = 60.0) -> Meeting:
    terms, raw, heard = TlsTerms(contexts[0], timeout_s), Raw(), Recorder()
    end = TlsEnd(terms, heard)
    end.connection_made(cast(asyncio.Transport, raw))
    return Meeting(end, raw, heard, Peer(contexts[1]), terms)


def met(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Meeting:
    made = meeting(contexts)
    made.pass_on()
    assert made.heard.events == ["made"]
    return made


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


async def test_a_protocol_is_told_of_its_connection_after_the_handshake_only(contexts: Contexts) -> None:
    made = meeting(contexts)
    assert made.terms.under_way == 1
    made.peer.shake()
    deliver(made.end, made.peer.to_send.read())
    assert made.heard.events == []
    made.pass_on()
    assert made.heard.events == ["made"]
    assert made.terms.under_way == 0
    assert made.heard.transport is made.end  # type: ignore[comparison-overlap]
    assert made.end.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert made.end.get_extra_info("peername") == ("192.0.2.1", 4711)
    assert made.end.get_extra_info("nothing", 3) == 3


@pytest.mark.parametrize("step", [1, 7, 65_536])
async def test_what_arrives_in_pieces_of_any_size_is_passed_on_whole(contexts: Contexts, step: int) -> None:
    made = meeting(contexts)
    made.pass_on(step)
    deliver(made.end, made.peer.say(b"one") + made.peer.say(b"two" * 20_000), step)
    assert b"".join(cast(list[bytes], made.heard.events[1:])) == b"one" + b"two" * 20_000


class Opaque:
    """An SSLObject as another Python might have it: nothing shows what it is made of."""

    def __init__(self, inner: ssl.SSLObject) -> None:
        self._inner = inner

    @classmethod
    def _create(cls, *given: Any, **named: Any) -> Opaque:
        return cls(ssl.SSLObject._create(*given, **named))  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        if name == "_sslobj":
            raise AttributeError(name)
        return getattr(self._inner, name)


async def test_what_pythons_ssl_object_is_made_of_is_used_only_where_it_is_there(contexts: Contexts) -> None:
    contexts[0].sslobject_class = Opaque  # type: ignore[assignment]
    made = met(contexts)
    deliver(made.end, made.peer.say(b"ping"))
    made.end.write(b"pong")
    assert (made.heard.events[1:], made.reply()) == ([b"ping"], b"pong")


async def test_records_that_arrive_together_are_passed_on_together(contexts: Contexts) -> None:
    made = met(contexts)
    deliver(made.end, made.peer.say(b"one") + made.peer.say(b"two"))
    assert made.heard.events[1:] == [b"onetwo"]


async def test_what_comes_right_behind_the_handshake_is_not_forgotten(contexts: Contexts) -> None:
    made = meeting(contexts)
    made.peer.shake()
    deliver(made.end, made.peer.to_send.read())
    made.peer.arrived.write(made.raw.take())
    made.peer.shake()
    deliver(made.end, made.peer.to_send.read() + made.peer.say(b"early"))
    assert made.heard.events == ["made", b"early"]


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 300_000])
async def test_what_is_written_reaches_the_peer(contexts: Contexts, size: int) -> None:
    made = met(contexts)
    made.reply()
    made.end.write(bytes(size))
    assert made.reply() == bytes(size)


async def test_nothing_is_passed_on_while_reading_is_paused(contexts: Contexts) -> None:
    made = met(contexts)
    made.end.pause_reading()
    assert made.raw.is_paused
    deliver(made.end, made.peer.say(b"a" * 200_000)[:65_536])  # was on its way already
    assert made.heard.events[1:] == []
    made.end.resume_reading()
    await asyncio.sleep(0)
    assert not made.raw.is_paused
    assert sum(len(cast(bytes, one)) for one in made.heard.events[1:]) >= 3 * 16_384


async def test_a_protocol_that_pauses_while_it_reads_gets_the_rest_when_it_resumes(contexts: Contexts) -> None:
    made = met(contexts)
    received: list[bytes] = []

    def pause(data: bytes) -> None:
        received.append(data)
        made.end.pause_reading()

    made.end._received = pause
    whole = b"".join(bytes([number]) * 16_384 for number in range(12))
    deliver(made.end, b"".join(made.peer.say(whole[at : at + 16_384]) for at in range(0, len(whole), 16_384)))
    before = len(b"".join(received))
    assert before < len(whole)
    for _ in range(12):
        made.end.resume_reading()
        await asyncio.sleep(0)
    assert b"".join(received) == whole


async def test_a_close_says_goodbye_behind_what_was_written_and_reads_no_more(contexts: Contexts) -> None:
    made = met(contexts)
    made.reply()
    made.end.write(b"last words")
    made.end.close()
    assert made.end.is_closing()
    assert made.raw.has_ended
    made.end.write(b"too late")
    assert made.reply() == b"last words<goodbye>"
    deliver(made.end, made.peer.say(b"nobody listens"))
    assert made.end.eof_received() is False
    made.end.connection_lost(None)
    assert made.heard.events == ["made", ("lost", None)]


async def test_a_peer_that_says_goodbye_has_left(contexts: Contexts) -> None:
    made = met(contexts)
    made.reply()
    words = made.peer.say(b"bye")
    with pytest.raises(ssl.SSLWantReadError):
        made.peer.end.unwrap()
    deliver(made.end, words + made.peer.to_send.read())
    assert made.heard.events == ["made", b"bye", "eof"]
    assert made.raw.has_ended
    assert made.end.is_closing()


async def test_a_peer_that_ends_without_a_goodbye_has_left_too(contexts: Contexts) -> None:
    made = met(contexts)
    assert made.end.eof_received() is False
    assert made.heard.events == ["made", "eof"]
    assert made.end.is_closing()


async def test_bytes_that_are_no_tls_end_the_connection_with_an_alert(contexts: Contexts) -> None:
    made = met(contexts)
    made.reply()
    good = made.peer.say(b"good")
    bad = bytearray(made.peer.say(b"bad"))
    bad[-1] ^= 1
    deliver(made.end, good + bytes(bad))
    assert made.heard.events == ["made", b"good"]
    assert made.raw.has_ended
    with pytest.raises(ssl.SSLError, match=r"(?i)bad record mac"):
        made.reply()
    made.end.connection_lost(None)
    assert made.heard.events[-1] == ("lost", None)


async def test_a_handshake_that_fails_ends_with_an_alert_and_nobody_is_told_of_a_connection(
    contexts: Contexts,
) -> None:
    contexts[1].maximum_version = ssl.TLSVersion.TLSv1_2
    contexts[1].set_ciphers("kRSA")
    made = meeting(contexts)
    made.peer.shake()
    deliver(made.end, made.peer.to_send.read())
    assert made.raw.has_ended
    assert made.raw.take().startswith(b"\x15\x03")  # an alert
    deliver(made.end, b"more of it")
    made.end.connection_lost(None)
    assert made.heard.events == []
    assert made.terms.under_way == 0


async def test_who_is_too_slow_is_let_go(contexts: Contexts) -> None:
    made = meeting(contexts, timeout_s=0.0)
    await asyncio.wait_for(made.raw.aborted.wait(), 5)
    made.end.connection_lost(None)
    assert made.heard.events == []
    assert made.terms.under_way == 0


class Door:
    """Lets so many in, and writes down who came and left."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.seen: list[str] = []

    def enter(self, client: str) -> str | None:
        if not self.room:
            return None
        self.room -= 1
        self.seen.append(client)
        return client

    def leave(self, source: str) -> None:
        self.seen.append(f"{source} left")


async def test_handshakes_take_room_until_they_are_over_and_without_room_there_is_none(contexts: Contexts) -> None:
    door = Door(2)
    terms = TlsTerms(contexts[0], 60.0, door)
    begun = []
    for client in ("", "198.51.100.7", "198.51.100.8"):  # of the connection, or told by somebody who is believed
        raw, heard = Raw(), Recorder()
        end = TlsEnd(terms, heard, client=client)
        end.connection_made(cast(asyncio.Transport, raw))
        begun.append(Meeting(end, raw, heard, Peer(contexts[1]), terms))
    assert [one.raw.is_aborted for one in begun] == [False, False, True]
    assert (door.seen, terms.under_way) == (["192.0.2.1", "198.51.100.7"], 2)
    begun[0].pass_on()
    for one in begun:
        one.end.connection_lost(None)
    assert door.seen[2:] == ["192.0.2.1 left", "198.51.100.7 left"]
    assert [one.heard.events for one in begun] == [["made", ("lost", None)], [], []]
    assert terms.under_way == 0


async def test_pauses_of_the_transport_below_reach_the_protocol(contexts: Contexts) -> None:
    made = met(contexts)
    made.end.pause_writing()
    made.end.resume_writing()
    assert made.heard.events[1:] == ["pause", "resume"]
    assert made.end.get_write_buffer_size() == 7
    made.end.abort()
    assert made.raw.is_aborted
    made.end.pause_writing()
    assert made.heard.events[3:] == []


async def test_a_lost_connection_holds_its_protocol_no_longer(contexts: Contexts) -> None:
    made = met(contexts)
    made.end.connection_lost(None)
    assert made.end._protocol is None
    assert getattr(made.end._received, "__self__", None) is not made.heard
    assert made.end.is_closing()
    assert made.end.get_write_buffer_size() == 0


def calling(contexts: Contexts) -> tuple[TlsEnd, Raw, Recorder, Peer]:
    raw, heard = Raw(), Recorder()
    end = TlsEnd(TlsTerms(contexts[1], 60.0), heard, NAME)
    end.connection_made(cast(asyncio.Transport, raw))
    return end, raw, heard, Peer(contexts[0], is_server=True)


async def test_who_calls_speaks_first_and_waits_for_the_end_of_the_handshake(contexts: Contexts) -> None:
    end, raw, heard, peer = calling(contexts)
    tasks = Tasks("calls")
    waiting = tasks.start("call", end.opened())
    await asyncio.sleep(0)
    assert not waiting.done()
    for _ in range(4):
        peer.arrived.write(raw.take())
        peer.shake()
        deliver(end, peer.to_send.read())
    await waiting
    assert heard.events == ["made"]
    end.write(b"hello")
    peer.arrived.write(raw.take())
    assert peer.hear() == b"hello"


async def test_a_server_that_is_not_who_was_asked_for_is_an_error_of_the_call(contexts: Contexts) -> None:
    raw, heard, peer = Raw(), Recorder(), Peer(contexts[0], is_server=True)
    end = TlsEnd(TlsTerms(contexts[1], 60.0), heard, "other.test")
    end.connection_made(cast(asyncio.Transport, raw))
    peer.arrived.write(raw.take())
    peer.shake()
    deliver(end, peer.to_send.read())
    with pytest.raises(ssl.SSLCertVerificationError):
        await end.opened()
    assert heard.events == []
    assert raw.is_aborted


async def test_a_call_that_is_cut_off_is_an_error_and_one_that_is_given_up_lets_go(contexts: Contexts) -> None:
    end, _, heard, _ = calling(contexts)
    end.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await end.opened()
    other, raw, _, _ = calling(contexts)
    tasks = Tasks("calls")
    waiting = tasks.start("call", other.opened())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert raw.is_aborted
    assert heard.events == []
