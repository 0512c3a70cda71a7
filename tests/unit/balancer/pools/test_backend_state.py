"""A pool that follows is in every way what the one that decides is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from unit.balancer.pools.pool_builder import State, pool_of, states

from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.backend_state import BackendState, follow
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool

UP: State = (Health.UP, AdminState.READY)


def told(pool: Pool) -> list[BackendState]:
    """All states of a pool, by way of what JSON carries."""
    words = json.loads(json.dumps([BackendState.of(one).words() for one in pool.backends.values()]))
    return [BackendState.from_words(one) for one in words]


@given(states, states)
def test_a_follower_takes_over_health_and_orders(one: State, other: State) -> None:
    decides, follows = pool_of({"b1": one, "b2": other}), pool_of({"b1": UP, "b2": UP})
    follow(follows, told(decides), 1.0)
    assert told(follows) == told(decides)
    assert follows.can_serve == decides.can_serve


def test_ejection_and_weight_are_followed_and_its_end_forgives() -> None:
    decides, follows = pool_of({"b1": UP, "b2": UP}), pool_of({"b1": UP, "b2": UP})
    source, backend = decides.backends["b1"], follows.backends["b1"]
    source.is_ejected, source.ejected_until, source.weight = True, 50.0, 7
    backend.consecutive_failures = 5
    follow(follows, told(decides), 1.0)
    assert (backend.is_ejected, backend.ejected_until, backend.weight) == (True, 50.0, 7)
    assert backend.consecutive_failures == 5
    assert {pick.name for _ in range(6) if (pick := follows.pick())} == {"b2"}
    source.is_ejected = False
    follow(follows, told(decides), 2.0)
    assert (backend.is_ejected, backend.consecutive_failures) == (False, 0)


def test_a_backend_that_a_follower_does_not_have_is_passed_over() -> None:
    follows = pool_of({"b1": UP})
    follow(follows, told(pool_of({"b1": UP, "b9": (Health.DOWN, AdminState.READY)})), 1.0)
    assert list(follows.backends) == ["b1"]


def test_words_with_other_fields_are_no_state() -> None:
    (words,) = (BackendState.of(one).words() for one in pool_of({"b1": UP}).backends.values())
    for other in ({**words, "more": 1}, {}):
        with pytest.raises(TypeError):
            BackendState.from_words(other)
