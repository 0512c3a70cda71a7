"""What one worker tells another of its exchanges is read as it was told, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfalb.balancer.exchange.handed_exchanges import (
    MAGIC,
    HandedAnswer,
    HandedEndpoint,
    HandedFlight,
    HandedService,
    packed,
    read_untrusted,
)
from mfalb.errors import MalformedMessage

FLIGHT = HandedFlight(
    datagram=b"\x01\x07 a request",
    peer=b"10.0.0.5:40000",
    backend="mfa1",
    entropy=bytes(range(16)),
    socket=70_000,
    identifier=200,
    transmissions=3,
    begun_at=10.0,
    first_sent_at=11.0,
    sent_at=12.5,
    deadline=130.0,
)
ANSWER = HandedAnswer(b"10.0.0.5:40000\x01\x08", bytes(range(16)), b"\x02\x08 an answer", 17.5)
WHOLE = [
    HandedService(
        "radius/auth",
        [
            HandedEndpoint("('127.0.0.1', 1812)", [FLIGHT, FLIGHT._replace(is_superseded=True)], [ANSWER]),
            HandedEndpoint("('127.0.0.2', 1812)", [FLIGHT._replace(socket=0, is_elsewhere=True)]),
        ],
    ),
    HandedService("accounting/acct"),
]


def test_everything_comes_out_as_it_went_in() -> None:
    assert read_untrusted(packed(WHOLE)) == WHOLE
    assert read_untrusted(packed([])) == []


def test_cut_at_any_length_it_is_nothing() -> None:
    data = packed(WHOLE)
    for length in range(len(data)):
        with pytest.raises(MalformedMessage):
            read_untrusted(data[:length])


def test_with_a_tail_it_is_nothing() -> None:
    with pytest.raises(MalformedMessage):
        read_untrusted(packed(WHOLE) + b"\0")


def test_another_version_is_not_read() -> None:
    data = packed(WHOLE)
    with pytest.raises(MalformedMessage, match="handed_version"):
        read_untrusted(MAGIC[:-1] + b"2" + data[len(MAGIC) :])


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (2, b"an endpoint of no service", "handed_order"),
        (3, b"a flight of no service", "handed_order"),
        (9, b"what is that", "handed_order"),
        (1, b"\xff", "handed_name"),
        (1, b"x" * 1025, "handed_name"),
        (5, bytes(8) + b"!", "handed_count"),
        (5, (1).to_bytes(8, "little"), "handed_count"),
    ],
)
def test_what_makes_no_sense_is_refused_by_a_reason(kind: int, body: bytes, reason: str) -> None:
    record = bytes((kind,)) + len(body).to_bytes(4, "little") + body
    with pytest.raises(MalformedMessage, match=reason):
        read_untrusted(MAGIC + record)


@pytest.mark.parametrize(
    "flight",
    [FLIGHT._replace(datagram=b""), FLIGHT._replace(datagram=bytes(4097))],
    ids=["no datagram", "a datagram that is too long"],
)
def test_a_flight_has_a_datagram(flight: HandedFlight) -> None:
    with pytest.raises(MalformedMessage, match="handed_flight"):
        read_untrusted(packed([HandedService("a", [HandedEndpoint("b", [flight])])]))


def test_an_answer_names_code_and_identifier_and_has_a_datagram() -> None:
    for answer in (ANSWER._replace(asked=b"x"), ANSWER._replace(datagram=b"")):
        with pytest.raises(MalformedMessage, match="handed_answer"):
            read_untrusted(packed([HandedService("a", [HandedEndpoint("b", [], [answer])])]))


@given(data=st.binary(max_size=300), at=st.integers(0, 400), length=st.integers(0, 40))
def test_nothing_that_comes_raises_anything_else(data: bytes, at: int, length: int) -> None:
    whole = packed(WHOLE)
    for forged in (data, MAGIC + data, whole[:at] + data[:length] + whole[at + length :]):
        try:
            read_untrusted(forged)
        except MalformedMessage:
            continue
