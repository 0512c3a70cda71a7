"""What all algorithms have in common."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import backends

from mfalb.balancer.pools.choice import Choice
from mfalb.balancer.pools.least_connections import LeastConnections
from mfalb.balancer.pools.power_of_two import PowerOfTwo
from mfalb.balancer.pools.rendezvous import RendezvousHash
from mfalb.balancer.pools.round_robin import RoundRobin

MAKERS: list[Callable[[], Choice]] = [
    RoundRobin,
    LeastConnections,
    lambda: PowerOfTwo(lambda: 0.5),
    lambda: RendezvousHash(1.25),
]
NAMES = [f"b{index}" for index in range(5)]


@pytest.mark.parametrize("make", MAKERS)
@given(
    st.lists(st.integers(1, 5), max_size=5),
    st.frozensets(st.sampled_from(NAMES)),
    st.sampled_from([b"", b"alice"]),
    st.lists(st.integers(0, 9), min_size=5, max_size=5),
)
@settings(max_examples=60)
def test_somebody_is_chosen_whenever_there_is_somebody_and_nobody_who_was_tried(
    make: Callable[[], Choice], weights: list[int], tried: frozenset[str], key: bytes, active: list[int]
) -> None:
    found = backends(weights)
    for backend, count in zip(found, active, strict=False):
        backend.active = count
    choice = make()
    choice.set_backends(found)
    names = {backend.name for backend in found}
    first, again = choice.next(key), choice.next_except(tried, key)
    assert (first is None) == (not names)
    assert first is None or first.name in names
    assert (again is None) == (not names - tried)
    assert again is None or again.name in names - tried


@pytest.mark.parametrize("make", MAKERS[:2])
def test_a_backend_that_warms_up_draws_as_much_as_it_is_worth(make: Callable[[], Choice]) -> None:
    cold, warm = backends([2, 2])
    cold.warm_up(0.0)
    cold.warm(2.5, 10.0)
    choice = make()
    choice.set_backends([cold, warm])
    counts = Counter(chosen.name for chosen in (choice.next() for _ in range(250)) if chosen is not None)
    assert counts == {"b0": 50, "b1": 200}, "a quarter of its share"
