"""Each generation of workers writes into regions of its own, and a free one is found while there is one."""

from __future__ import annotations

import os

import pytest

from mfalb.balancer.supervisor.shared_memory import GENERATIONS, MemoryPlan, SharedMemory, free_generation


def test_no_two_workers_of_any_generation_share_a_region() -> None:
    regions = [MemoryPlan(3, 10, generation).region(seat) for generation in range(GENERATIONS) for seat in range(3)]
    assert sorted(regions) == list(range(MemoryPlan(3, 10).hub.regions))


def test_a_generation_is_free_until_all_are_taken() -> None:
    assert free_generation(()) == 0
    assert free_generation({0, 2}) == 1
    assert free_generation(set(range(GENERATIONS))) is None


def test_memory_that_is_smaller_than_its_plan_is_refused() -> None:
    small = os.memfd_create("small"), os.memfd_create("small")
    with pytest.raises(ValueError, match="smaller"):
        SharedMemory(MemoryPlan(1, 10), small)
    for one in small:
        os.close(one)
