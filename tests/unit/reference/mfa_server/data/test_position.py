from __future__ import annotations

import pytest

from mfalb.reference.mfa_server.data.position import Epoch, Position, is_beginning_of

# Three reigns: up to change 10, up to change 25, and now 40 changes in all
HISTORY = (Epoch(1, 0), Epoch(2, 10), Epoch(4, 25))


@pytest.mark.parametrize(
    ("position", "is_past"),
    [
        (Position(0, 0), True),
        (Position(1, 1), True),
        (Position(1, 10), True),
        (Position(1, 11), False),
        (Position(2, 11), True),
        (Position(2, 25), True),
        (Position(2, 26), False),
        (Position(3, 20), False),
        (Position(4, 26), True),
        (Position(4, 40), True),
        (Position(4, 41), False),
        (Position(5, 30), False),
        (Position(9, 0), True),
    ],
)
def test_a_past_is_the_beginning_of_a_history_as_far_as_each_epoch_went(position: Position, *, is_past: bool) -> None:
    assert is_beginning_of(position, HISTORY, 40) is is_past


def test_a_server_that_was_never_master_or_slave_has_no_past_but_nothing() -> None:
    assert is_beginning_of(Position(0, 0), (), 0)
    assert not is_beginning_of(Position(1, 1), (), 0)


def test_an_epoch_without_a_change_is_the_past_of_the_next_one() -> None:
    history = (Epoch(1, 0), Epoch(2, 10), Epoch(3, 10))
    assert is_beginning_of(Position(2, 10), history, 10)
    assert not is_beginning_of(Position(2, 11), history, 11)
