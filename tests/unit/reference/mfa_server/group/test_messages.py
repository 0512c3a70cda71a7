from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfalb.errors import MalformedMessage
from mfalb.reference.mfa_server.data.position import Change, Epoch, Position
from mfalb.reference.mfa_server.group.messages import (
    MESSAGE_LIMIT,
    VERSION,
    Applied,
    Heartbeat,
    Hello,
    Kind,
    Message,
    SnapshotBegins,
    Welcome,
    WriteCall,
    WriteDone,
    message_bytes,
    read_message_untrusted,
    read_untrusted,
)

MESSAGES: list[Message] = [
    Hello("hq", "standalone", "mfa2", epoch=1, sequence=7, known_epoch=2),
    Hello("hq", "domain_joined", "mfa2", epoch=0, sequence=0, known_epoch=0, wants_snapshot=True),
    Welcome((Epoch(1, 0), Epoch(3, 2**40))),
    Welcome(()),
    Heartbeat(12),
    Applied(0),
    Applied(2**40),
    SnapshotBegins(4096, "ab" * 32),
    Change(Position(2, 2**40), 1_000_000.5, b"\0changeset\xff"),
    b"a piece of a file",
    b"",
    WriteCall("mfa2", "hq", "AddUser", {"user": "é", "phone": ""}),
    WriteDone(0, "", 9, {"activationCode": "123456789"}),
    WriteDone(5, "The user is known already.", 0, {}),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_read_back_as_it_was_written(message: Message) -> None:
    assert read_message_untrusted(message_bytes(message)) == message


@pytest.mark.parametrize("message", [message for message in MESSAGES if not isinstance(message, bytes | Change)])
def test_a_table_that_is_cut_anywhere_or_has_a_tail_is_none(message: Message) -> None:
    whole = message_bytes(message)
    for data in (*(whole[:length] for length in range(len(whole))), whole + b"x"):
        with pytest.raises(MalformedMessage):
            read_message_untrusted(data)


def table(kind: int, content: object, version: int = VERSION) -> bytes:
    return struct.pack("!BB", version, kind) + json.dumps(content).encode()


HELLO = {"group": "g", "kind": "k", "server": "s", "epoch": 1, "sequence": 1, "known_epoch": 1, "wants_snapshot": False}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (table(Kind.HELLO, HELLO, version=2), "replication_version"),
        (table(77, HELLO), "replication_kind"),
        (table(Kind.HELLO, [HELLO]), "replication_table"),
        (table(Kind.HELLO, {**HELLO, "group": 7}), "replication_text"),
        (table(Kind.HELLO, {**HELLO, "group": "g" * 1025}), "replication_text"),
        (table(Kind.HELLO, {**HELLO, "epoch": -1}), "replication_number"),
        (table(Kind.HELLO, {**HELLO, "epoch": True}), "replication_number"),
        (table(Kind.HELLO, {**HELLO, "epoch": 2**63}), "replication_number"),
        (table(Kind.HELLO, {**HELLO, "epoch": 1.5}), "replication_number"),
        (table(Kind.HELLO, {"group": "g"}), "replication_table"),
        (table(Kind.APPLIED, {"sequence": -1}), "replication_number"),
        (table(Kind.APPLIED, {"sequence": 2**63}), "replication_number"),
        (table(Kind.APPLIED, {"sequence": "7"}), "replication_number"),
        (table(Kind.APPLIED, {"sequence": True}), "replication_number"),
        (table(Kind.APPLIED, {}), "replication_table"),
        (table(Kind.APPLIED, [7]), "replication_table"),
        (table(Kind.WELCOME, {"epochs": 7}), "replication_table"),
        (table(Kind.WELCOME, {"epochs": [7]}), "replication_table"),
        (table(Kind.WRITE, {"server": "s", "group": "g", "name": "n", "texts": []}), "replication_text"),
        (table(Kind.WRITE, {"server": "s", "group": "g", "name": "n", "texts": {"a": 1}}), "replication_text"),
        (struct.pack("!BB", VERSION, Kind.CHANGE) + bytes(20), "replication_change"),
        (struct.pack("!BB", VERSION, Kind.HELLO) + b" " * 70_000, "replication_length"),
        (struct.pack("!BB", VERSION, Kind.HELLO) + b"[" * 60_000, "replication_table"),
        (struct.pack("!BB", VERSION, Kind.PIECE) + bytes(MESSAGE_LIMIT), "replication_length"),
        (b"\x01", "replication_length"),
    ],
)
def test_what_is_no_message_is_refused_in_our_own_words(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as refusal:
        read_message_untrusted(data)
    assert refusal.value.reason == reason


def test_an_acknowledgement_is_no_heartbeat_although_they_look_alike() -> None:
    assert message_bytes(Applied(7))[2:] == message_bytes(Heartbeat(7))[2:]
    with pytest.raises(MalformedMessage, match="replication_unexpected"):
        read_untrusted(message_bytes(Heartbeat(7)), Applied)


def test_another_message_than_the_one_that_is_due_is_refused() -> None:
    assert read_untrusted(message_bytes(Heartbeat(1)), Heartbeat) == Heartbeat(1)
    with pytest.raises(MalformedMessage, match="replication_unexpected"):
        read_untrusted(message_bytes(Heartbeat(1)), Hello)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        message = read_message_untrusted(data)
    except MalformedMessage:
        return
    assert read_message_untrusted(message_bytes(message)) == message or isinstance(message, Change)  # nan is no time


def test_a_write_shows_nothing_of_what_it_holds() -> None:
    call = WriteCall("mfa2", "hq", "ChangeUserPin", {"newPin": "4711"})
    done = WriteDone(0, "", 9, {"activationCode": "123456789"})
    assert "4711" not in repr(call)
    assert "123456789" not in repr(done)
