from __future__ import annotations

from time import monotonic

from mfalb.net.clock import Clock


def test_a_round_has_one_time_until_the_clock_is_read_again() -> None:
    clock = Clock()
    before = clock.now
    while monotonic() == before:
        pass
    assert clock.now == before
    read = clock.read()
    assert read == clock.now
    assert before < read <= monotonic()
