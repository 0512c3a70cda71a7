"""The JSON schema of a configuration file, for editors: completion, and red ink while typing.

The models' own schema, bent to what stands in YAML: secrets by their source, defaults with units, presets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mfalb.balancer.config.models import Config
from mfalb.balancer.config.outline import secret_keys
from mfalb.balancer.config.presets import PRESETS
from mfalb.balancer.config.tables import Table

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema as plain values, ready for json.dumps."""
    schema = Config.model_json_schema(by_alias=True)
    definitions: dict[str, dict[str, Any]] = schema["$defs"]
    for table in _all_tables(Table):
        definition = schema if table is Config else definitions.get(table.__name__)
        if definition is not None:
            _write_defaults(table, definition)
            _name_secret_sources(table, definition)
    pool = definitions["Pool"]["properties"]
    pool["affinity"] = _with_presets(pool["affinity"])
    return {"$schema": _DIALECT, **schema, "title": "mfalb configuration"}


def _all_tables(base: type[Table]) -> Iterator[type[Table]]:
    for table in base.__subclasses__():
        yield table
        yield from _all_tables(table)


def _write_defaults(table: type[Table], definition: dict[str, Any]) -> None:
    """Defaults as they would be written: "5s", not 5.0. A table's default is told by its own keys."""
    # Without its required values a table is no table; only its defaults are asked for.
    defaults = table.model_construct().model_dump(mode="json", by_alias=True, warnings=False)
    for key, written in definition["properties"].items():
        if "$ref" in written:
            written.pop("default", None)
        elif "default" in written:
            written["default"] = defaults[key]


def _name_secret_sources(table: type[Table], definition: dict[str, Any]) -> None:
    for key in secret_keys(table):
        del definition["properties"][key]
        file, variable = f"{key}_file", f"{key}_env"
        definition["properties"][file] = {"type": "string", "description": "Path of the file that holds it."}
        definition["properties"][variable] = {"type": "string", "description": "Environment variable that holds it."}
        required: list[str] = definition.get("required", [])
        if key in required:
            required.remove(key)
            definition["oneOf"] = [{"required": [file]}, {"required": [variable]}]
        else:
            definition["not"] = {"required": [file, variable]}


def _with_presets(affinity: dict[str, Any]) -> dict[str, Any]:
    preset: dict[str, Any] = {
        "type": "object",
        "properties": {"preset": {"enum": list(PRESETS)}},
        "required": ["preset"],
    }
    described: dict[str, Any] = {key: affinity.pop(key) for key in ("default", "description") if key in affinity}
    return {"anyOf": [affinity, preset], **described}
