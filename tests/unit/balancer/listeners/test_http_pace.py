from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mfalb.balancer.listeners.http_pace import GRACE_S, BodyPace


def test_a_body_that_stands_still_is_too_slow_when_its_grace_is_over() -> None:
    pace = BodyPace(100, 1000.0)
    assert not pace.is_too_slow(1000.0 + GRACE_S, is_paused=False)
    assert pace.is_too_slow(1000.5 + GRACE_S, is_paused=False)


def test_a_body_that_keeps_its_pace_may_take_hours() -> None:
    pace = BodyPace(100, 0.0)
    for second in range(1, 7200):
        pace.earn(100)
        assert not pace.is_too_slow(second, is_paused=False), second


def test_a_burst_pays_for_no_more_than_the_grace() -> None:
    pace = BodyPace(100, 0.0)
    pace.earn(1_000_000)
    assert not pace.is_too_slow(GRACE_S, is_paused=False)
    assert pace.is_too_slow(GRACE_S + 0.5, is_paused=False)


def test_time_in_which_we_do_not_read_does_not_count() -> None:
    pace = BodyPace(100, 0.0)
    assert not pace.is_too_slow(1000.0, is_paused=True)
    assert not pace.is_too_slow(1000.0 + GRACE_S, is_paused=False)
    assert pace.is_too_slow(1001.0 + GRACE_S, is_paused=False)


def test_without_a_floor_nothing_is_too_slow() -> None:
    pace = BodyPace(0, 0.0)
    pace.earn(5)
    assert not pace.is_too_slow(1_000_000.0, is_paused=False)


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0.1, 3.0)), max_size=50))
def test_a_body_is_never_cut_while_it_is_ahead_of_its_floor_and_always_when_it_is_past_its_grace(
    steps: list[tuple[int, float]],
) -> None:
    pace, now, came = BodyPace(100, 0.0), 0.0, 0
    for size, wait_s in steps:
        now += wait_s
        came += size
        pace.earn(size)
        is_too_slow = pace.is_too_slow(now, is_paused=False)
        if size / 100 >= wait_s and not is_too_slow:
            continue
        assert is_too_slow or came / 100 + GRACE_S + 1e-6 >= now
        if is_too_slow:
            return
