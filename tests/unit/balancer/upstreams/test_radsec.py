"""How long a backend is left alone that could not be connected to."""

from __future__ import annotations

import pytest

from mfalb.balancer.upstreams.radsec import LAST_PAUSE_S, pause_s


@pytest.mark.parametrize(
    ("failures", "longest_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (8, 30.0), (10_000, 30.0)]
)
def test_each_failure_in_a_row_doubles_the_pause_up_to_the_last(failures: int, longest_s: float) -> None:
    assert pause_s(failures, 0.0) == longest_s


@pytest.mark.parametrize("failures", [1, 4, 50])
def test_by_chance_a_pause_is_up_to_half_as_long(failures: int) -> None:
    whole_s = pause_s(failures, 0.0)
    assert pause_s(failures, 0.5) == whole_s * 0.75
    assert whole_s / 2 <= pause_s(failures, 0.999_999) < whole_s <= LAST_PAUSE_S
