import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.balancer.pools.health_state import Health, HealthState, Thresholds

UP, DOWN, UNKNOWN = Health.UP, Health.DOWN, Health.UNKNOWN
THRESHOLDS = Thresholds(rise=2, fall=3)

# (health, results against it so far, result) -> (health, results against it, has changed)
STEPS: list[tuple[Health, int, bool, Health, int, bool]] = [
    (UNKNOWN, 0, True, UP, 0, True),
    (UNKNOWN, 0, False, DOWN, 0, True),
    (UP, 0, True, UP, 0, False),
    (UP, 1, True, UP, 0, False),
    (UP, 2, True, UP, 0, False),
    (UP, 0, False, UP, 1, False),
    (UP, 1, False, UP, 2, False),
    (UP, 2, False, DOWN, 0, True),
    (DOWN, 0, False, DOWN, 0, False),
    (DOWN, 1, False, DOWN, 0, False),
    (DOWN, 0, True, DOWN, 1, False),
    (DOWN, 1, True, UP, 0, True),
]


def state(health: Health, streak: int = 0, thresholds: Thresholds = THRESHOLDS) -> HealthState:
    made = HealthState(thresholds, is_probed=True)
    made.health = health
    made.streak = streak
    return made


@pytest.mark.parametrize(("health", "streak", "is_good", "then", "then_streak", "has_changed"), STEPS)
def test_each_result_moves_the_score_as_the_table_says(  # noqa: PLR0913 - the columns of the table
    health: Health, streak: int, then: Health, then_streak: int, *, is_good: bool, has_changed: bool
) -> None:
    made = state(health, streak)
    assert made.observe(is_good=is_good, reason="seen", now=5.0) is has_changed
    assert (made.health, made.streak, made.reason) == (then, then_streak, "seen")
    assert made.changed_at == (5.0 if has_changed else 0.0)


@pytest.mark.parametrize(
    ("health", "streak", "results"), [(UNKNOWN, 0, 1), (UP, 0, 3), (UP, 2, 1), (DOWN, 0, 2), (DOWN, 1, 1)]
)
def test_the_results_to_flip_are_counted_down(health: Health, streak: int, results: int) -> None:
    assert state(health, streak).results_to_flip == results


@pytest.mark.parametrize(
    ("health", "streak", "is_flipping"),
    [(UNKNOWN, 0, True), (UP, 0, False), (UP, 1, True), (UP, 2, True), (DOWN, 0, False), (DOWN, 1, True)],
)
def test_it_is_flipping_while_results_contradict_it_or_there_are_none(
    health: Health, streak: int, *, is_flipping: bool
) -> None:
    assert state(health, streak).is_flipping is is_flipping


@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.booleans(), min_size=1, max_size=30))
@settings(max_examples=200)
def test_a_flip_takes_so_many_results_in_a_row_and_the_first_result_decides_alone(
    rise: int, fall: int, results: list[bool]
) -> None:
    made = state(UNKNOWN, thresholds=Thresholds(rise, fall))
    expected = results[0]
    for index, is_good in enumerate(results):
        made.observe(is_good=is_good, reason="", now=float(index))
        needed = rise if is_good else fall
        row = results[max(0, index + 1 - needed) : index + 1]
        if is_good is not expected and len(row) == needed and all(result is is_good for result in row):
            expected = is_good
        assert made.health is (UP if expected else DOWN)
        assert made.results_to_flip >= 1


def test_a_refusal_counts_as_a_bad_result_for_probed_backends_only() -> None:
    probed, unprobed = state(UP, 2), HealthState(THRESHOLDS, is_probed=False)
    assert probed.observe_refusal("refused", 1.0)
    assert probed.health is DOWN
    for _ in range(10):
        assert not unprobed.observe_refusal("refused", 1.0)
    assert unprobed.health is UP


def test_a_backend_is_unknown_until_it_was_seen_and_up_where_nobody_looks() -> None:
    assert HealthState(THRESHOLDS, is_probed=True).health is UNKNOWN
    assert HealthState(THRESHOLDS, is_probed=False).health is UP


@pytest.mark.parametrize("health", Health)
@pytest.mark.parametrize("verdict", [UP, DOWN])
def test_a_verdict_from_elsewhere_is_taken_as_it_is(health: Health, verdict: Health) -> None:
    made = state(health, streak=1)
    has_changed = health is not verdict
    assert made.decide(verdict, "said so", 5.0) is has_changed
    assert (made.health, made.reason) == (verdict, "said so")
    assert (made.changed_at, made.streak) == ((5.0, 0) if has_changed else (0.0, 1))
