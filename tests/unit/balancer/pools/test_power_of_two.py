from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import backends

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.least_connections import is_busier
from mfalb.balancer.pools.power_of_two import PowerOfTwo

GRID = 60  # draws a test makes of each kind: every place of every stretch when the weights sum up to a divisor of it
chances = st.floats(0, 1, exclude_max=True)


def drawn(found: list[Backend], *draws: float) -> Backend | None:
    given_draws = iter(draws)
    choice = PowerOfTwo(lambda: next(given_draws))
    choice.set_backends(found)
    return choice.next()


def pairs(found: list[Backend]) -> Iterator[Backend]:
    """Who is chosen for every pair of draws on an even grid."""
    for first in range(GRID):
        for second in range(GRID):
            chosen = drawn(found, first / GRID, second / GRID)
            assert chosen is not None
            yield chosen


@given(st.lists(st.integers(1, 12), min_size=2, max_size=6), chances, chances)
@settings(max_examples=300)
def test_two_are_drawn_and_the_others_load_does_not_matter(weights: list[int], first: float, second: float) -> None:
    """With any one of them made the busiest, it loses to whom it was drawn with; all others change nothing."""
    chosen = drawn(backends(weights), first, second)
    assert chosen is not None
    rivals = []
    for index in range(len(weights)):
        found = backends(weights)
        found[index].active = 1000
        beaten = drawn(found, first, second)
        assert beaten is not None
        if beaten.name != chosen.name:
            assert index == int(chosen.name[1:])
            rivals.append(beaten.name)
    assert len(rivals) == 1, "it was compared with exactly one other"


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=2, max_size=2), chances, chances)
@settings(max_examples=200)
def test_of_two_the_busier_one_is_never_chosen(servers: list[tuple[int, int]], first: float, second: float) -> None:
    found = backends([weight for weight, _ in servers])
    for backend, (_, active) in zip(found, servers, strict=True):
        backend.active = active
    chosen = drawn(found, first, second)
    assert chosen is not None
    assert not any(is_busier(chosen, other) for other in found)


@pytest.mark.parametrize("weights", [[1, 1], [1, 2], [1, 2, 3], [1, 1, 1, 1], [5, 1]])
def test_the_first_is_drawn_by_weight_and_wins_a_tie(weights: list[int]) -> None:
    counts = Counter(one.name for one in pairs(backends(weights)))
    assert counts == {f"b{n}": weight * GRID**2 // sum(weights) for n, weight in enumerate(weights)}


def test_the_second_is_drawn_by_weight_from_the_others() -> None:
    found = backends([1, 2, 3])
    found[0].active = 1000
    counts = Counter(drawn(found, 0.0, second / 50) for second in range(50))
    assert counts == {found[1]: 20, found[2]: 30}, "the first draw is b0, which is too busy"


def test_a_retry_draws_from_those_not_tried() -> None:
    choice = PowerOfTwo(lambda: 0.0)
    choice.set_backends(backends([1, 1, 1]))
    assert str(choice.next_except(frozenset(("b0",)))) == "Backend(web/b1)"
    assert str(choice.next_except(frozenset(("b0", "b1")))) == "Backend(web/b2)"
    assert choice.next_except(frozenset(("b0", "b1", "b2"))) is None


def test_nothing_is_drawn_where_there_is_no_choice() -> None:
    assert drawn([]) is None
    (only,) = backends([4])
    assert drawn([only]) is only
