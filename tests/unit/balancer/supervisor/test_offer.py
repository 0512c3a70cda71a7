"""An offer is read whole, in its order, from who has the same format; else the reason is told."""

from __future__ import annotations

from typing import Any

import pytest

from mfalb.balancer.supervisor.hand_over import CannotUpgrade, HandedDrain, Memory, Prepared, Released, said
from mfalb.balancer.supervisor.offer import Offer, OfferReader
from mfalb.balancer.supervisor.shared_memory import MemoryPlan
from mfalb.errors import MalformedMessage
from mfalb.net.control_channel import Message

SECRET = bytes(range(32))


def offer() -> Offer:
    drain = HandedDrain(pool="mfa", backend="b1", deadline_at=12.5, is_maint_next=False)
    return Offer("1.2", 7, 0, MemoryPlan(2, 100, 1), (101, 102), SECRET, states=[{"pool": "mfa"}], drains=[drain])


def read(messages: list[Message]) -> Offer | None:
    reader, found = OfferReader(), None
    for message in messages:
        assert found is None
        found = reader.take_untrusted(message)
    return found


def test_an_offer_is_read_as_it_was_made() -> None:
    assert read(list(offer().messages())) == offer()


def test_it_is_not_there_before_its_last_message() -> None:
    assert read(list(offer().messages())[:-1]) is None


@pytest.mark.parametrize("theirs", [0, 2, "1", None])
def test_another_format_is_refused_whatever_else_it_says(theirs: Any) -> None:
    first, *_ = offer().messages()
    with pytest.raises(CannotUpgrade, match="this version takes over what has form 1, the running one hands over form"):
        read([Message({**first.words, "format": theirs, "unknown": 1})])


def test_it_has_to_begin_with_hello_and_to_have_the_memory_and_a_whole_secret() -> None:
    hello, memory, standing = offer().messages()
    short = Message(standing.words, SECRET[:-1])
    for messages in ([memory], [hello, standing], [hello, hello], [hello, memory, short], [hello, said(Released())]):
        with pytest.raises(MalformedMessage):
            read(messages)


def test_what_only_an_heir_says_is_no_part_of_it() -> None:
    hello, *_ = offer().messages()
    with pytest.raises(MalformedMessage):
        read([hello, said(Prepared())])


def test_memory_without_its_descriptors_is_refused() -> None:
    hello, *_ = offer().messages()
    with pytest.raises(MalformedMessage, match="hand_over_descriptors"):
        read([hello, said(Memory(), descriptors=(101,))])
