from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mfalb.balancer.pools.retry_budget import RetryBudget


def test_the_reserve_is_there_at_the_start_and_what_is_past_it_is_counted() -> None:
    budget = RetryBudget(0.2, 3)
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]
    assert budget.denied == 2


def test_each_exchange_earns_its_share() -> None:
    budget = RetryBudget(0.25, 1)
    assert budget.spend()
    for _ in range(3):
        budget.earn()
        assert not budget.spend()
    budget.earn()
    assert budget.spend()


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 20))
def test_retries_never_outnumber_the_reserve_and_the_share_of_exchanges(events: list[bool], reserve: int) -> None:
    budget = RetryBudget(0.2, reserve)
    exchanges = retries = 0
    for is_exchange in events:
        if is_exchange:
            budget.earn()
            exchanges += 1
        elif budget.spend():
            retries += 1
    assert retries <= reserve + exchanges * 0.2 + 1e-6
