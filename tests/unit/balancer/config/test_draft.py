from pathlib import Path

from mfalb.balancer.config.document import read
from mfalb.balancer.config.draft import Draft, draft


def drafted(text: str) -> Draft:
    return draft(read(text), Path())


TEXT = """\
listeners:
  - {name: good, protocol: http, bind: ["127.0.0.1:80"], routes: [{pool: a}, {path: /x, pool: b}]}
  - {name: bad, protocol: http}
pools:
  a: {backends: [{name: a, address: "10.0.0.1:80"}]}
  b: {backends: []}
admin: {bind: nowhere}
"""


def test_what_is_right_by_itself_is_kept_and_the_rest_is_known_by_name() -> None:
    salvaged = drafted(TEXT)
    assert list(salvaged.listeners) == [0]
    assert list(salvaged.pools) == ["a"]
    assert salvaged.pool_names == {"a", "b"}
    assert salvaged.admin is None
    assert salvaged.pins is not None
    assert not salvaged.is_whole


def test_references_come_with_their_place() -> None:
    salvaged = drafted(TEXT)
    assert [(loc, route.pool) for loc, route in salvaged.routes()] == [
        (("listeners", 0, "routes", 0), "a"),
        (("listeners", 0, "routes", 1), "b"),
    ]
    assert salvaged.http_pools() == {"a", "b"}
    assert salvaged.radius_pools() == frozenset()


def test_a_file_of_another_shape_leaves_nothing_but_defaults() -> None:
    for text in ("", "- a", "listeners: 5\npools: 6\n", "listeners: {a: 1}\npools: [1]\n"):
        salvaged = drafted(text)
        assert (salvaged.listeners, salvaged.pools, salvaged.is_whole) == ({}, {}, False)
        assert salvaged.admin is not None
