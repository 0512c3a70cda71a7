from collections import Counter
from collections.abc import Sequence
from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import backends

from mfalb.balancer.pools.round_robin import RoundRobin, WeightedTurn

weights = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def robin(*given_weights: int) -> RoundRobin:
    turns = RoundRobin()
    turns.set_backends(backends(given_weights))
    return turns


def served(turns: RoundRobin, count: int) -> list[str]:
    return [backend.name for backend in (turns.next() for _ in range(count)) if backend is not None]


@pytest.mark.parametrize(
    ("given_weights", "turn"),
    [
        ([], ""),
        ([1], "0"),
        ([7], "0"),
        ([1, 1, 1], "012"),
        ([2, 2], "01"),
        ([3, 1, 1], "01020"),
        ([5, 1, 1], "0010200"),
        ([4, 2], "010"),
    ],
)
def test_a_turn_is_as_short_as_the_weights_allow_and_spread(given_weights: list[int], turn: str) -> None:
    laid = WeightedTurn(backends(given_weights)).laid
    assert "".join(backend.name[1:] for backend in laid) == turn


@given(weights, st.integers(0, 100))
@settings(max_examples=150)
def test_over_any_full_turn_each_is_served_by_its_weight(given_weights: list[int], earlier: int) -> None:
    turns = robin(*given_weights)
    served(turns, earlier)
    divisor = gcd(*given_weights)
    counts = Counter(served(turns, sum(given_weights) // divisor))
    assert counts == {f"b{index}": weight // divisor for index, weight in enumerate(given_weights)}


@given(weights, st.integers(0, 30), st.data())
@settings(max_examples=150)
def test_the_share_of_one_that_leaves_goes_to_the_rest_by_weight(
    given_weights: list[int], earlier: int, data: st.DataObject
) -> None:
    turns = robin(*given_weights)
    served(turns, earlier)
    gone = data.draw(st.integers(0, len(given_weights) - 1))
    rest = [backend for index, backend in enumerate(backends(given_weights)) if index != gone]
    turns.set_backends(rest)
    counts = Counter(served(turns, 2 * sum(backend.config.weight for backend in rest)))
    assert all(counts[backend.name] == 2 * backend.config.weight for backend in rest)
    assert counts.total() == 2 * sum(backend.config.weight for backend in rest)


def test_a_turn_of_many_unlike_weights_is_laid_bit_by_bit_and_whole_in_the_end() -> None:
    given_weights = [*range(157, 257), 1]
    turns = robin(*given_weights)
    counts = Counter(served(turns, sum(given_weights)))
    assert counts == {f"b{index}": weight for index, weight in enumerate(given_weights)}
    first = WeightedTurn(backends(given_weights)).laid
    assert served(turns, len(first)) == [backend.name for backend in first], "the next turn is as the first"
    assert len(first) < 100 < sum(given_weights)


def test_a_retry_finds_the_one_whose_turn_is_not_laid_yet() -> None:
    given_weights = [256] * 20 + [1]
    chosen = robin(*given_weights).next_except(frozenset(f"b{index}" for index in range(20)))
    assert chosen is not None
    assert chosen.name == "b20"


@given(weights, st.lists(st.sets(st.integers(0, 5)), max_size=10))
@settings(max_examples=100)
def test_retries_take_nobodys_turn(given_weights: list[int], retries: list[set[int]]) -> None:
    undisturbed, disturbed = robin(*given_weights), robin(*given_weights)
    for tried in retries:
        names = frozenset(f"b{index}" for index in tried)
        chosen = disturbed.next_except(names)
        left = [backend for backend in backends(given_weights) if backend.name not in names]
        assert (chosen is None) == (not left)
        assert chosen is None or chosen.name not in names
        assert served(disturbed, 3) == served(undisturbed, 3)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.integers(0, 4))
@settings(max_examples=150)
def test_the_share_of_one_that_refuses_is_spread_over_the_rest_and_not_given_to_its_neighbour(
    given_weights: list[int], refusing: int
) -> None:
    name = f"b{refusing % len(given_weights)}"
    turns = robin(*given_weights)
    rest = [backend for backend in backends(given_weights) if backend.name != name]
    total = sum(backend.config.weight for backend in rest)
    retried = [turns.next_except(frozenset((name,))) for _ in range(3 * total)]
    counts = Counter(backend.name for backend in retried if backend is not None)
    assert counts == {backend.name: 3 * backend.config.weight for backend in rest}


def test_nobody_is_served_when_nobody_is_there() -> None:
    turns = RoundRobin()
    assert turns.next() is None
    assert turns.next_except(frozenset()) is None
    turns.set_backends(backends([1, 1]))
    served(turns, 1)
    turns.set_backends([])
    assert turns.next() is None
    assert turns.next_except(frozenset(("b0",))) is None


def credits_of_nginx(weights: Sequence[int], picks: int) -> list[int]:
    """Smooth weighted round robin as nginx has it (ngx_http_upstream_get_peer), pick by pick."""
    current = [0] * len(weights)
    chosen = []
    for _ in range(picks):
        current = [credit + weight for credit, weight in zip(current, weights, strict=True)]
        best = current.index(max(current))
        current[best] -= sum(weights)
        chosen.append(best)
    return chosen


@given(weights)
@settings(max_examples=100)
def test_turns_come_in_the_very_order_of_smooth_weighted_round_robin(given_weights: list[int]) -> None:
    count = 2 * sum(given_weights)
    assert served(robin(*given_weights), count) == [f"b{one}" for one in credits_of_nginx(given_weights, count)]


@given(st.lists(st.integers(1, 256), min_size=2, max_size=12), st.integers(1, 19))
@settings(max_examples=40)
def test_while_one_warms_up_each_prefix_of_the_turn_keeps_the_shares(weights: list[int], step: int) -> None:
    found = backends(weights)
    found[0].warm_up(0.0)
    found[0].warm(step + 0.5, 20.0)
    turns = RoundRobin()
    turns.set_backends(found)
    total = sum(backend.pull for backend in found)
    for picks in (100, 1000):
        counts = Counter(served(turns, picks))
        for backend in found:
            assert counts[backend.name] == pytest.approx(picks * backend.pull / total, abs=len(weights)), picks
