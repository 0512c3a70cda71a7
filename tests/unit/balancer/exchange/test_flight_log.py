"""What a worker notes of its requests is found by its successor, and nothing else is."""

from __future__ import annotations

import mmap

import pytest
from unit.balancer.exchange.radius_world import ENTROPY, World, access_request

from mfalb.balancer.exchange.flight_log import ENTRIES, ENTRY_BYTES, KEY_LIMIT_BYTES, RING_BYTES, FlightLog, Noted
from mfalb.balancer.exchange.radius_exchange import RadiusExchange


@pytest.fixture
def memory() -> mmap.mmap:
    return mmap.mmap(-1, 2 * RING_BYTES)


def exchange(number: int = 1, identifier: int = 7) -> RadiusExchange:
    """One that its upstream has just given an identifier; `number` makes it one of a kind."""
    authenticator = number.to_bytes(16, "big")
    made = World().begin(access_request(authenticator=authenticator), source=number.to_bytes(8, "big"))
    made.identifier = identifier
    return made


def noted(one: RadiusExchange, socket: int, at: float) -> Noted:
    return Noted(one.key, one.request.authenticator, ENTROPY, at, socket, one.identifier)


def test_a_successor_finds_what_was_sent_from_the_sockets_that_it_has_the_last_first(memory: mmap.mmap) -> None:
    log, first, second, third = FlightLog(memory, 0), exchange(1), exchange(2), exchange(3, identifier=8)
    for number, one in enumerate((first, second, third)):
        log.note(one, (5, 6, 5)[number], 10.0 + number)
    assert FlightLog(memory, 0).take_over({5}, 0.0) == [noted(third, 5, 12.0), noted(first, 5, 10.0)]


def test_each_worker_has_a_ring_of_its_own(memory: mmap.mmap) -> None:
    FlightLog(memory, 0).note(exchange(), 5, 10.0)
    assert FlightLog(memory, 1).take_over({5}, 0.0) == []


def test_of_two_requests_under_one_identifier_only_the_last_counts(memory: mmap.mmap) -> None:
    log, first, second = FlightLog(memory, 0), exchange(1), exchange(2)
    log.note(first, 5, 10.0)
    log.note(second, 5, 11.0)
    assert FlightLog(memory, 0).take_over({5}, 0.0) == [noted(second, 5, 11.0)]


def test_what_was_sent_too_long_ago_does_not_count(memory: mmap.mmap) -> None:
    log = FlightLog(memory, 0)
    log.note(exchange(1, 1), 5, 10.0)
    log.note(exchange(2, 2), 5, 20.0)
    assert [one.sent_at for one in FlightLog(memory, 0).take_over({5}, 15.0)] == [20.0]


@pytest.mark.parametrize("written", range(0, ENTRY_BYTES - 7, 7))
def test_an_entry_that_was_half_written_is_not_believed(memory: mmap.mmap, written: int) -> None:
    log, sound, torn = FlightLog(memory, 0), exchange(1, 1), exchange(2, 2)
    log.note(sound, 5, 10.0)
    at = 2 * ENTRY_BYTES
    before = memory[at : at + ENTRY_BYTES]
    log.note(torn, 5, 11.0)
    memory[at + written : at + ENTRY_BYTES] = before[written:]
    assert FlightLog(memory, 0).take_over({5}, 0.0) == [noted(sound, 5, 10.0)]


def test_a_half_written_entry_over_an_old_one_is_neither(memory: mmap.mmap) -> None:
    log, old, new = FlightLog(memory, 0), exchange(1, 1), exchange(2, 2)
    log.note(old, 5, 10.0)
    at = ENTRY_BYTES
    before = memory[at : at + ENTRY_BYTES]
    filler = exchange(3, 3)
    for _ in range(ENTRIES - 1):
        log.note(filler, 5, 11.0)
    log.note(new, 5, 12.0)
    memory[at + 64 : at + ENTRY_BYTES] = before[64:]
    assert FlightLog(memory, 0).take_over({5}, 0.0) == [noted(filler, 5, 11.0)]


def test_a_full_ring_has_the_last_requests_and_a_successor_writes_behind_them(memory: mmap.mmap) -> None:
    log, one, other = FlightLog(memory, 0), exchange(1, 1), exchange(2, 2)
    for number in range(ENTRIES + 1):
        log.note(one, number, 10.0)
    sockets = range(ENTRIES + 2)
    successor = FlightLog(memory, 0)
    found = successor.take_over(sockets, 0.0)
    assert [found[0].socket, found[-1].socket, len(found)] == [ENTRIES, 1, ENTRIES]
    successor.note(other, 9, 11.0)
    again = FlightLog(memory, 0).take_over(sockets, 0.0)
    assert again[0] == noted(other, 9, 11.0)
    assert len(again) == ENTRIES


def test_the_longest_key_of_a_udp_client_is_kept_whole(memory: mmap.mmap) -> None:
    one = exchange()
    one.key = bytes(range(KEY_LIMIT_BYTES))  # tag, sockaddr_in6, in6_pktinfo, code and identifier: 2 + 28 + 20 + 2
    log = FlightLog(memory, 0)
    log.note(one, 5, 10.0)
    (found,) = FlightLog(memory, 0).take_over({5}, 0.0)
    assert found.key == one.key


def test_who_takes_nothing_over_notes_behind_what_is_there_all_the_same(memory: mmap.mmap) -> None:
    log, old, new = FlightLog(memory, 0), exchange(1, 1), exchange(2, 2)
    for _ in range(5):
        log.note(old, 5, 10.0)
    FlightLog(memory, 0).note(new, 6, 11.0)
    assert FlightLog(memory, 0).take_over({6}, 0.0) == [noted(new, 6, 11.0)]
