"""What a worker has opened is held for its successors; what it cannot have opened is not."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from unit.balancer.pools.pool_builder import watched_pool

from mfalb.balancer.supervisor.kept_sockets import KeptSockets
from mfalb.balancer.upstreams.radius import SOCKET_LIMIT
from mfalb.net.control_channel import FD_LIMIT, Message


@pytest.fixture
def kept() -> Iterator[KeptSockets]:
    sockets = KeptSockets({"mfa": watched_pool("b1", "b2", "b3")})
    yield sockets
    sockets.close()


def descriptor() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def keep(number: object = 1, owner: object = "radius/auth", backend: object = "b1") -> Message:
    return Message({"kind": "keep", "number": number, "owner": owner, "backend": backend}, b"", (descriptor(),))


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_a_successor_is_told_what_the_one_before_it_had(kept: KeptSockets) -> None:
    first, second = keep(1), keep(2, backend="b2")
    assert kept.take_untrusted(0, first)
    assert kept.take_untrusted(0, second)
    (message,) = kept.messages(0)
    assert message.words == {"kind": "kept", "sockets": [[1, "radius/auth", "b1"], [2, "radius/auth", "b2"]]}
    assert message.descriptors == first.descriptors + second.descriptors
    assert kept.messages(1) == ()


def test_more_than_one_message_carries_are_told_in_several(kept: KeptSockets) -> None:
    for number in range(1, FD_LIMIT + 11):
        assert kept.take_untrusted(0, keep(number, backend=f"b{1 + number % 3}"))
    assert [len(message.descriptors) for message in kept.messages(0)] == [FD_LIMIT, 10]


@pytest.mark.parametrize(
    "words",
    [
        {"number": 0},
        {"number": 1 << 32},
        {"number": True},
        {"number": "1"},
        {"owner": 5},
        {"owner": "x" * 1000},
        {"backend": "nobody"},
        {"backend": ["b1"]},
        {"kind": "good"},
    ],
)
def test_nonsense_is_refused_and_its_descriptors_are_closed(kept: KeptSockets, words: dict[str, object]) -> None:
    message = keep()
    message.words.update(words)
    assert not kept.take_untrusted(0, message)
    assert not is_open(message.descriptors[0])


def test_two_descriptors_at_once_or_one_number_twice_are_refused(kept: KeptSockets) -> None:
    two = Message(keep().words, b"", (descriptor(), descriptor()))
    assert not kept.take_untrusted(0, two)
    assert not any(map(is_open, two.descriptors))
    assert kept.take_untrusted(0, keep(1))
    again = keep(1)
    assert not kept.take_untrusted(0, again)
    assert not is_open(again.descriptors[0])


def test_no_more_are_held_than_a_worker_may_open(kept: KeptSockets) -> None:
    assert all(kept.take_untrusted(0, keep(number)) for number in range(1, SOCKET_LIMIT + 1))
    assert not kept.take_untrusted(0, keep(SOCKET_LIMIT + 1))
    assert kept.take_untrusted(0, keep(SOCKET_LIMIT + 2, backend="b2"))
    assert kept.take_untrusted(1, keep(1))


def test_all_are_closed_at_the_end(kept: KeptSockets) -> None:
    message = keep()
    kept.take_untrusted(0, message)
    kept.close()
    assert not is_open(message.descriptors[0])
    assert kept.messages(0) == ()


def test_those_of_some_owners_are_told_alone(kept: KeptSockets) -> None:
    for message in (keep(1), keep(2, owner="radsec/auth"), keep(3)):
        kept.take_untrusted(0, message)
    (message,) = kept.messages(0, {"radius/auth"})
    assert [one[0] for one in message.words["sockets"]] == [1, 3]
    assert kept.messages(0, ()) == ()


def test_what_another_supervisor_has_held_is_held_and_what_is_of_no_use_is_closed(kept: KeptSockets) -> None:
    good, bad = descriptor(), descriptor()
    words = {"kind": "kept", "sockets": [[4, "radius/auth", "b1"], [5, "radius/auth", "b9"]]}
    kept.take_handed_untrusted(1, Message(words, descriptors=(good, bad)))
    (message,) = kept.messages(1)
    assert message.descriptors == (good,)
    assert not is_open(bad)
