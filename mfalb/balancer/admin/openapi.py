"""The admin API's routes as a table, and its OpenAPI 3.1 description, made from that table and the messages.

A route that is not in the table is not served, so that none can go undescribed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

import mfalb
from mfalb.balancer.admin import api_models as api

_SCHEMAS: Final = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query."""

    name: str
    text: str
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked. `name` is its operation id; `answer` None: the description itself."""

    method: str
    path: str
    name: str
    text: str
    answer: type[api.Message] | None
    body: Any = None
    parameters: tuple[Parameter, ...] = ()


_BACKEND: Final = Parameter("backend", "POOL/BACKEND, or BACKEND: that one in every pool that has it", is_required=True)
ROUTES: Final = (
    Route("GET", "/v1/status", "status", "All pools and backends as they are.", api.Status),
    Route(
        "POST",
        "/v1/admin-state",
        "set_admin_state",
        "Make a backend ready, drain it (nothing new, pinned work still served), or put it into maint (nothing).",
        api.Changed,
        body=api.AdminStateChange,
    ),
    Route(
        "GET",
        "/v1/leaving",
        "leaving",
        "What still ties work to a backend: pins, requests under way, and whether there is anything to wait for.",
        api.Leavings,
        parameters=(_BACKEND,),
    ),
    Route(
        "POST",
        "/v1/weight",
        "set_weight",
        "Give a backend another weight, or the one of the configuration.",
        api.Changed,
        body=api.WeightChange,
    ),
    Route(
        "GET",
        "/v1/pins",
        "pins",
        "The pin table, counted by backend.",
        api.Pins,
        parameters=(Parameter("pool", "Only the names that stand in this pool."),),
    ),
    Route(
        "POST",
        "/v1/why",
        "why",
        "Which backend would get this, and why. Changes nothing. It is a POST so that no log has what is asked.",
        api.Verdicts,
        body=api.Question,
    ),
    Route(
        "POST",
        "/v1/reload",
        "reload",
        "Take up what the configuration file says now, as a whole or not at all; or only tell what would change.",
        api.Reloaded,
        body=api.ReloadOrder,
    ),
    Route(
        "POST",
        "/v1/upgrade",
        "upgrade",
        "Let a new process with the code that is on the disk now take over; nobody is refused. Or nothing changes.",
        api.Upgraded,
        body=api.UpgradeOrder,
    ),
    Route("GET", "/v1/openapi.json", "openapi", "This description.", None),
)
FAILURES: Final = {
    "400": "The request cannot be read, or a value is not accepted.",
    "404": "There is no such pool or backend.",
    "405": "The path exists, but not for this method.",
    "409": "It makes sense, but cannot be done.",
    "413": "The request's body is too long.",
}


def description() -> dict[str, Any]:
    """The whole description."""
    inputs: list[tuple[Any, JsonSchemaMode, Any]] = []
    for route in ROUTES:
        if route.body is not None:
            inputs.append((route.name, "validation", TypeAdapter(route.body).core_schema))
        if route.answer is not None:
            inputs.append((route.name, "serialization", TypeAdapter(route.answer).core_schema))
    inputs.append(("failure", "serialization", TypeAdapter(api.Failure).core_schema))
    made, schemas = GenerateJsonSchema(ref_template=_SCHEMAS).generate_definitions(inputs)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, made)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mfalb admin API",
            "version": mfalb.__version__,
            "description": "Served on a Unix socket (admin.socket); whoever may write to that may do all of this.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(route: Route, made: dict[Any, Any]) -> dict[str, Any]:
    answer = {"type": "object"} if route.answer is None else made[route.name, "serialization"]
    responses = {"200": {"description": "Done.", "content": _json(answer)}}
    failure = made["failure", "serialization"]
    responses |= {status: {"description": text, "content": _json(failure)} for status, text in FAILURES.items()}
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.text, "responses": responses}
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(made[route.name, "validation"])}
    if route.parameters:
        operation["parameters"] = [
            {
                "name": one.name,
                "in": "query",
                "required": one.is_required,
                "description": one.text,
                "schema": {"type": "string"},
            }
            for one in route.parameters
        ]
    return operation


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
