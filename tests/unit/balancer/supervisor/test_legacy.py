"""What was known and ordered of backends is so in the next process, too."""

from __future__ import annotations

from typing import Any

import pytest
from unit.balancer.pools.pool_builder import watched_pool

from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.supervisor.hand_over import CannotUpgrade
from mfalb.balancer.supervisor.legacy import follow_standing, standing_of


def test_health_admin_states_and_weights_that_were_set_are_taken_over() -> None:
    before, after = watched_pool("b1", "b2"), watched_pool("b1", "b2", "b3")
    before.set_admin_state("b1", AdminState.DRAIN, 1.0)
    before.set_weight("b2", 7)
    before.backends["b2"].health.decide(Health.DOWN, "silent", 5.0)
    follow_standing({after.name: after}, standing_of([before]))
    one, two, three = after.backends.values()
    assert (one.admin_state, one.weight) == (AdminState.DRAIN, one.config.weight)
    assert (two.admin_state, two.weight) == (AdminState.READY, 7)
    assert (two.health.health, two.health.reason) == (Health.DOWN, "silent")
    assert three.admin_state is AdminState.READY


def test_a_weight_that_nobody_set_is_the_new_configurations() -> None:
    before, after = watched_pool("b1"), watched_pool("b1")
    (backend,) = after.backends.values()
    backend.config = backend.config.model_copy(update={"weight": 5})
    follow_standing({after.name: after}, standing_of([before]))
    assert backend.weight == 5


def test_pools_and_backends_that_are_not_here_are_passed_over() -> None:
    before, after = watched_pool("b1"), watched_pool("b2")
    follow_standing({after.name: after}, standing_of([before]))
    follow_standing({"another": after}, standing_of([before]))


@pytest.mark.parametrize(
    "change", [{"health": "unwell"}, {"weight": None, "more": 1}, {"admin_state": "gone"}], ids=str
)
def test_what_cannot_be_read_is_refused(change: dict[str, Any]) -> None:
    pool = watched_pool("b1")
    (words,) = standing_of([pool])
    with pytest.raises(CannotUpgrade):
        follow_standing({pool.name: pool}, [words | change])
    with pytest.raises(CannotUpgrade):
        follow_standing({pool.name: pool}, [{}])
