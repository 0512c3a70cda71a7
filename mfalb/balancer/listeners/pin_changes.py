"""What answers do to pins, done before they leave: in this node's table at once, in the store soon."""

from __future__ import annotations

from mfalb.balancer.affinity.store import Pin, PinChange, PinStore
from mfalb.balancer.upstreams.pin_sharing import PinSharing


def change_pins(changes: tuple[PinChange, ...], pins: PinStore, sharing: PinSharing | None, now: float) -> list[Pin]:
    """The pins that were made (the next half may come at once); other nodes hear of ends, and nobody waits for that."""
    made: list[Pin] = []
    ended: list[Pin] = []
    for change in changes:
        if isinstance(change, Pin):
            pins.put(change, now)
            made.append(change)
        else:
            pin = pins.end(change, now)
            if pin is not None:
                ended.append(pin)
    if ended and sharing is not None:
        again = {pin.key for pin in made}  # a conversation that keeps its State
        sharing.end([pin for pin in ended if pin.key not in again])
    return made
