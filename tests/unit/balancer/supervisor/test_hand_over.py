"""What supervisors say to one another is what the models say, and nothing else; and its form has a number."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfalb.balancer.affinity import hub
from mfalb.balancer.exchange import flight_log, handed_exchanges
from mfalb.balancer.pools.backend_state import BackendState
from mfalb.balancer.supervisor import hand_over, shared_memory
from mfalb.balancer.supervisor.hand_over import (
    AdminPort,
    AdminSocket,
    Backends,
    Exchanges,
    HandedDrain,
    Hello,
    Kept,
    Kin,
    Memory,
    Place,
    Prepared,
    Released,
    Reopen,
    Serve,
    Serving,
    Standing,
    Stop,
    Unfit,
    Word,
    read_to_former_untrusted,
    read_to_heir_untrusted,
    said,
)
from mfalb.errors import MalformedMessage
from mfalb.net.control_channel import FrameReader, Message, NotAMessage, frame

HELLO = Hello(format=1, version="1", pid=7, workers=2, pin_limit=9, generation=1, own_generation=0)
DRAIN = HandedDrain(pool="mfa", backend="b1", deadline_at=None, is_maint_next=True)
TO_HEIR = [
    (HELLO, 0),
    (Memory(), 2),
    (Place(is_udp=True, host="10.0.0.1", port=1812), 2),
    (AdminPort(host="::1", port=9300), 1),
    (AdminSocket(path="/run/mfalb/admin.sock"), 1),
    (Kin(pid=6, generation=2), 1),
    (Standing(states=[{"pool": "mfa"}], drains=[DRAIN]), 0),
    (Kept(seat=1, sockets=[(3, "radius/auth", "b1")]), 1),
    (Exchanges(seat=1, last_socket=3), 1),
    (Serve(states=[], drains=[]), 0),
    (Released(), 0),
]
TO_FORMER = [Prepared(), Unfit(reason="why"), Serving(), Backends(states=[{"pool": "mfa"}]), Reopen(), Stop()]


@pytest.mark.parametrize(("word", "count"), TO_HEIR, ids=lambda one: getattr(one, "kind", ""))
def test_the_heir_reads_what_the_former_one_says_with_just_its_descriptors(word: Word, count: int) -> None:
    numbers = tuple(range(100, 100 + count))
    assert read_to_heir_untrusted(said(word, descriptors=numbers)) == word
    wrong = [0] if isinstance(word, Place | AdminPort) else [one for one in (count - 1, count + 1) if one >= 0]
    for other in wrong:
        with pytest.raises(MalformedMessage, match="hand_over_descriptors"):
            read_to_heir_untrusted(said(word, descriptors=tuple(range(other))))


@pytest.mark.parametrize("word", TO_FORMER, ids=lambda one: one.kind)
def test_the_former_one_reads_what_the_heir_says_and_takes_no_descriptors(word: Word) -> None:
    assert read_to_former_untrusted(said(word)) == word
    with pytest.raises(MalformedMessage):
        read_to_former_untrusted(said(word, descriptors=(1,)))


def test_neither_reads_what_the_other_one_should() -> None:
    for word, _ in TO_HEIR:
        with pytest.raises(MalformedMessage):
            read_to_former_untrusted(said(word))
    for word in TO_FORMER:
        with pytest.raises(MalformedMessage):
            read_to_heir_untrusted(said(word))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "hallo"},
        {"kind": None},
        {"workers": 0},
        {"workers": 65},
        {"workers": "2"},
        {"generation": -1},
        {"pid": 0},
        {"pid": True},
        {"more": 1},
    ],
    ids=str,
)
def test_a_word_with_a_wrong_value_or_an_unknown_key_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage, match="hand_over_words"):
        read_to_heir_untrusted(Message(HELLO.model_dump(mode="json") | change))


@pytest.mark.parametrize(("word", "count"), TO_HEIR, ids=lambda one: getattr(one, "kind", ""))
def test_a_frame_that_is_cut_anywhere_is_no_message_yet(word: Word, count: int) -> None:
    data = frame(said(word, b"data", tuple(range(count))))
    for length in range(len(data)):
        assert FrameReader().feed_untrusted(data[:length], range(count)) == []
    (message,) = FrameReader().feed_untrusted(data, range(count))
    assert read_to_heir_untrusted(message) == word


@given(st.binary(max_size=200))
def test_bytes_of_anybodys_are_a_message_or_an_error_of_ours(data: bytes) -> None:
    try:
        messages = FrameReader().feed_untrusted(data, ())
    except NotAMessage:
        return
    for message in messages:
        for read in (read_to_heir_untrusted, read_to_former_untrusted):
            with pytest.raises(MalformedMessage):
                read(message)


@given(st.dictionaries(st.sampled_from(["kind", "format", "states", "seat", "sockets", "reason"]), st.text()))
def test_words_of_anybodys_are_a_word_or_an_error_of_ours(words: dict[str, str]) -> None:
    for read in (read_to_heir_untrusted, read_to_former_untrusted):
        try:
            read(Message(words))
        except MalformedMessage:
            continue


# What has to stay as it is while FORMAT does: processes of two versions share it
FORM_1 = "aa6d4038e889c856"


def form(word: Word) -> list[tuple[str, str]]:
    """The names and types of its values."""
    return [(name, str(one.annotation)) for name, one in type(word).model_fields.items()]


def test_whoever_changes_what_two_versions_share_counts_the_format_up() -> None:
    shared = [
        *(form(word) for word in (*(one for one, _ in TO_HEIR), *TO_FORMER, DRAIN)),
        [one.name for one in fields(BackendState)],
        (hub._TOTALS.format, hub._BUCKET.format, hub._SLOT.format, hub._HEAD_BYTES, hub._LOAD, hub._CHECK_BYTES),
        (flight_log._ENTRY.format, flight_log.ENTRIES),
        (handed_exchanges.MAGIC, handed_exchanges._RECORD.format, handed_exchanges._FLIGHT.format),
        (handed_exchanges._ANSWER.format, shared_memory.GENERATIONS),
    ]
    digest = hashlib.sha256(repr(shared).encode()).hexdigest()[:16]
    assert (hand_over.FORMAT, digest) == (1, FORM_1), "count FORMAT up, then note the new digest here"
