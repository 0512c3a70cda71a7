from collections import Counter
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import backends

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.least_connections import LeastConnections, is_busier

servers = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 9)), min_size=1, max_size=6)


def busy(given_servers: list[tuple[int, int]]) -> list[Backend]:
    """Backends with these weights and exchanges under way."""
    found = backends([weight for weight, _ in given_servers])
    for backend, (_, active) in zip(found, given_servers, strict=True):
        backend.active = active
    return found


def least_of(found: list[Backend]) -> LeastConnections:
    choice = LeastConnections()
    choice.set_backends(found)
    return choice


@given(servers, st.integers(1, 20))
@settings(max_examples=200)
def test_nobody_is_less_busy_for_its_weight_than_the_one_chosen(
    given_servers: list[tuple[int, int]], picks: int
) -> None:
    found = busy(given_servers)
    choice = least_of(found)
    for _ in range(picks):
        chosen = choice.next()
        assert chosen is not None
        load = Fraction(chosen.active, chosen.weight)
        assert all(load <= Fraction(one.active, one.weight) for one in found)
        chosen.active += 1


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6))
@settings(max_examples=100)
def test_a_quiet_pool_takes_smooth_weighted_turns(weights: list[int]) -> None:
    choice = least_of(backends(weights))
    chosen = [choice.next() for _ in range(2 * sum(weights))]
    counts = Counter(one.name for one in chosen if one is not None)
    assert counts == {f"b{index}": 2 * weight for index, weight in enumerate(weights)}


def test_turns_among_those_alike_come_as_round_robin_has_them() -> None:
    choice = least_of(backends([3, 1, 1]))
    assert "".join(one.name[1:] for one in (choice.next() for _ in range(5)) if one is not None) == "01020"


@given(servers, st.frozensets(st.sampled_from([f"b{n}" for n in range(6)])))
@settings(max_examples=200)
def test_a_retry_goes_to_the_least_busy_of_those_not_tried(
    given_servers: list[tuple[int, int]], tried: frozenset[str]
) -> None:
    found = busy(given_servers)
    chosen = least_of(found).next_except(tried)
    rest = [one for one in found if one.name not in tried]
    if not rest:
        assert chosen is None
    else:
        assert chosen in rest
        assert not any(is_busier(chosen, one) for one in rest if chosen is not None)


def test_one_that_warms_up_counts_as_small_as_it_is() -> None:
    cold, warm = backends([1, 1])
    cold.warm_up(0.0)
    choice = least_of([cold, warm])
    cold.active = 1
    warm.active = 19
    assert choice.next() is warm, "19 of a whole share are less than 1 of a twentieth"
    warm.active = 21
    assert choice.next() is cold


def test_without_backends_nobody_is_chosen() -> None:
    assert LeastConnections().next() is None
    assert LeastConnections().next_except(frozenset()) is None
