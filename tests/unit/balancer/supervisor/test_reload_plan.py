"""What another configuration would change is told line by line, and what takes a restart is told by its key."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfalb.balancer.config.models import Config
from mfalb.balancer.config.values import Origin, Secret
from mfalb.balancer.supervisor.reload_plan import CannotReload, ReloadPlan, plan_reload

Words = dict[str, Any]
WORDS: Words = {
    "listeners": [
        {"name": "web", "protocol": "http", "bind": ["192.0.2.1:80"], "routes": [{"pool": "portal"}]},
        {
            "name": "radius",
            "protocol": "radius",
            "bind": ["192.0.2.1:1812"],
            "clients": [{"name": "vpn", "network": "10.1.0.0/16", "secret": Secret(b"shared-with-clients")}],
            "pool": "mfa",
        },
    ],
    "pools": {
        "portal": {"backends": [{"name": name, "address": f"10.0.0.{n}:80"} for n, name in enumerate("ab", 1)]},
        "mfa": {"backends": [{"name": "a", "address": "10.0.0.1:1812", "secret": Secret(b"towards-servers")}]},
    },
}


def read(words: Words) -> Config:
    return Config.model_validate(words, context=Origin(Path("/")), by_alias=True, by_name=True)


def plan(change: Callable[[Words], object]) -> ReloadPlan:
    """The plan for a change of the configuration above."""
    changed = copy.deepcopy(WORDS)
    change(changed)
    return plan_reload(read(WORDS), read(changed))


def backends(words: Words, pool: str = "portal") -> list[Words]:
    found: list[Words] = words["pools"][pool]["backends"]
    return found


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (lambda words: words["pools"].update({}), []),
        (lambda words: words["listeners"].reverse(), []),
        (lambda words: words["listeners"][0].update(name="www"), ["listener web: removed", "listener www: added"]),
        (lambda words: words["listeners"][0].update(bind=["192.0.2.2:80"]), ["listener web: bind"]),
        (
            lambda words: words["listeners"][0].update(protocol="tcp"),
            ["listener web: replaced by another kind"],
        ),
        (
            lambda words: words["listeners"][1]["clients"][0].update(secret=Secret(b"another-secret-of-theirs")),
            ["listener radius: clients"],
        ),
        (lambda words: words["pools"].update(new=words["pools"]["portal"]), ["pool new: added"]),
        (lambda words: words["pools"]["portal"].update(response_timeout="9s"), ["pool portal: response_timeout"]),
        (lambda words: backends(words).pop(), ["pool portal: backend b: removed"]),
        (lambda words: backends(words).reverse(), ["pool portal: backends in another order"]),
        (lambda words: backends(words)[1].update(weight=3), ["pool portal: backend b: weight"]),
        (
            lambda words: backends(words)[1].update(name="c"),
            ["pool portal: backend b: removed", "pool portal: backend c: added"],
        ),
    ],
)
def test_each_change_has_a_line(change: Callable[[Words], object], lines: list[str]) -> None:
    found = plan(change)
    assert list(found.changes) == lines
    assert found.is_empty is (not lines)
    found.refuse_what_is_fixed()
    assert "another-secret" not in str(found)


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ({"workers": 7}, "workers"),
        ({"admin": {"bind": "127.0.0.1:9"}, "log": {"format": "json"}}, "admin, log"),
        ({"pins": {"limit": 5000}}, "pins.limit"),
        ({"pins": {"store": {"type": "valkey", "addresses": ["192.0.2.9:6379"]}}}, "pins.store"),
    ],
)
def test_what_takes_a_restart_is_refused_with_all_its_keys(more: Words, keys: str) -> None:
    found = plan(lambda words: words.update(more))
    assert not found.is_empty
    with pytest.raises(CannotReload, match=f"nothing was changed: {keys}$"):
        found.refuse_what_is_fixed()


def test_backends_that_leave_are_those_of_removed_pools_as_well() -> None:
    def change(words: Words) -> None:
        words["listeners"].pop(0)
        del words["pools"]["portal"]

    assert plan(change).leaving == (("portal", "a"), ("portal", "b"))
    assert plan(lambda words: backends(words).pop(0)).leaving == (("portal", "a"),)
    assert plan(lambda words: backends(words)[0].update(address="10.0.0.9:80")).leaving == ()
