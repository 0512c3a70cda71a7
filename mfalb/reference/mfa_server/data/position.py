"""Places in the order of all changes, and whether one server's past is the beginning of another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The last change that a server has: its number, and the epoch it was written in. (0, 0) has none."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """The reign of one master. Its first change is the one after `after_sequence`."""

    number: int
    after_sequence: int


@dataclass(frozen=True, slots=True)
class Change:
    """One committed write, as its master made it. `made_at` is unix seconds."""

    position: Position
    made_at: float
    changeset: bytes = field(repr=False)


def is_beginning_of(position: Position, history: Sequence[Epoch], last_sequence: int) -> bool:
    """Whether a server at `position` has nothing that the server with this history lacks.

    `history` is in the order of epochs. An epoch ends where the next one begins: a change after that was never seen by
    the master that came next.
    """
    if position.sequence == 0:
        return True
    for index, epoch in enumerate(history):
        if epoch.number == position.epoch:
            is_last = index == len(history) - 1
            end = last_sequence if is_last else history[index + 1].after_sequence
            return position.sequence <= end
    return False
