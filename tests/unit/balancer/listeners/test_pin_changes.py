"""Tests of mfalb.balancer.listeners.pin_changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from unit.balancer.affinity.node_pins import pin_hub

from mfalb.balancer.affinity.store import Pin, PinEnd
from mfalb.balancer.listeners.pin_changes import change_pins
from mfalb.balancer.upstreams.pin_sharing import PinSharing

OLD, NEW = b"o" * 16, b"n" * 16


class Sharing:
    """Writes down which ends other nodes are told of."""

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def end(self, pins: Sequence[Pin]) -> None:
        self.told += [pin.key for pin in pins]


def test_an_answer_ends_one_sign_in_and_begins_another_and_the_store_hears_of_the_end() -> None:
    hub, sharing = pin_hub(), Sharing()
    hub.put(Pin(OLD, "b1", 1300.0), 1000.0)
    begun = Pin(NEW, "b1", 1400.0)
    changes = (PinEnd(OLD, "b1", 1001.0), begun)
    assert change_pins(changes, hub, cast(PinSharing, sharing), 1002.0) == [begun]
    assert hub.find(NEW, 1003.0) == "b1"
    assert sharing.told == [OLD]


def test_a_conversation_that_keeps_its_key_is_not_told_of_as_ended() -> None:
    hub, sharing = pin_hub(), Sharing()
    hub.put(Pin(OLD, "b1", 1300.0), 1000.0)
    changes = (PinEnd(OLD, "b1", 1001.0), Pin(OLD, "b1", 1400.0))
    assert change_pins(changes, hub, cast(PinSharing, sharing), 1002.0)
    assert sharing.told == []


def test_an_end_of_what_nobody_began_is_nothing() -> None:
    sharing = Sharing()
    assert change_pins((PinEnd(OLD, "b1", 1001.0),), pin_hub(), cast(PinSharing, sharing), 1002.0) == []
    assert change_pins((PinEnd(OLD, "b1", 1001.0),), pin_hub(), None, 1002.0) == []
    assert sharing.told == []
