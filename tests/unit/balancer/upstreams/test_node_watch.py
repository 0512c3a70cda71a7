"""Which other nodes are told of, and when."""

from __future__ import annotations

import pytest
from unit.balancer.affinity.test_node_settings import OURS, settings

from mfalb.balancer.upstreams.node_watch import NodeWatch


def test_a_node_that_differs_is_logged_once_until_that_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mfalb.pins")
    watch = NodeWatch("a", OURS)
    told = []
    for theirs in (
        OURS,
        settings(lifetime=60.0),
        settings(lifetime=60.0),
        settings(lifetime=60.0, keys=()),
        OURS,
        OURS,
    ):
        watch.compare({"b": theirs})
        told.append([(one.levelname, vars(one).get("differing")) for one in caplog.records])
        caplog.clear()
    assert told == [
        [],
        [("WARNING", "pools.sdk.affinity")],
        [],
        [("WARNING", "cookie_keys, pools.sdk.affinity")],
        [("INFO", None)],
        [],
    ]


def test_those_that_agree_and_those_that_differ_are_known_and_who_is_gone_is_forgotten() -> None:
    watch = NodeWatch("a", OURS)
    watch.compare({"b": OURS, "c": settings(names=("x",))})
    assert watch.differing == {"b": (), "c": ("pools.sdk.backends",)}
    watch.compare({"b": OURS})
    assert watch.differing == {"b": ()}


@pytest.mark.parametrize("name", ["", "a b", "a\n", "x" * 65, "-a", 'a"} 1', "ä"])
def test_a_name_that_could_be_none_of_ours_is_passed_over(name: str) -> None:
    watch = NodeWatch("a", OURS)
    watch.compare({name: b"forged"})
    assert watch.differing == {}


def test_of_many_differences_the_log_shows_some(caplog: pytest.LogCaptureFixture) -> None:
    watch = NodeWatch("a", OURS)
    watch._tell("b", tuple(f"pools.p{number}" for number in range(20)))
    assert vars(caplog.records[0])["differing"].endswith("pools.p7, ...")
