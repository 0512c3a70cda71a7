from __future__ import annotations

import json
from typing import Any

from mfalb.balancer.admin.openapi import ROUTES, description
from mfalb.balancer.admin.operations import Operations


def references(found: Any) -> set[str]:
    """Every $ref in a document."""
    if isinstance(found, list):
        return {one for entry in found for one in references(entry)}
    if not isinstance(found, dict):
        return set()
    own = {found["$ref"]} if isinstance(found.get("$ref"), str) else set()
    return own | {one for entry in found.values() for one in references(entry)}


def test_every_route_asks_for_an_operation_that_there_is_and_every_operation_has_a_route() -> None:
    operations = {name for name in vars(Operations) if not name.startswith("_")}
    assert {route.name for route in ROUTES if route.answer is not None} == operations
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_the_description_is_json_and_whatever_it_refers_to_is_in_it() -> None:
    described = json.loads(json.dumps(description()))
    found = references(described)
    assert found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in described["components"]["schemas"], reference


def test_every_operation_says_what_it_answers_when_it_fails() -> None:
    for methods in description()["paths"].values():
        for operation in methods.values():
            for status in ("400", "404", "405", "409", "413"):
                content = operation["responses"][status]["content"]["application/json"]
                assert content["schema"]["$ref"] == "#/components/schemas/Failure"
