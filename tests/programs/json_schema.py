"""As much of JSON Schema as pydantic writes; what it does not know it refuses, so that nothing passes unread."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

_NAMES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_WORDS: Final = frozenset(("title", "description", "default", "discriminator"))


def faults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str = "$") -> list[str]:
    """What of `value` is not as `schema` says; `root` is the document that references point into."""
    found: list[str] = []
    for keyword, rule in schema.items():
        if keyword not in _WORDS:
            found += _RULES[keyword](value, rule, schema, root, at)
    return found


def _reference(value: Any, rule: Any, _schema: Any, root: Any, at: str) -> list[str]:
    target = root
    for step in rule.removeprefix("#/").split("/"):
        target = target[step]
    return faults(value, target, root, at)


def _kind(value: Any, rule: Any, _schema: Any, _root: Any, at: str) -> list[str]:
    return [] if _NAMES[rule](value) else [f"{at} is no {rule}"]


def _properties(value: Any, rule: Any, _schema: Any, root: Any, at: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [
        fault for name, one in rule.items() if name in value for fault in faults(value[name], one, root, f"{at}.{name}")
    ]


def _nothing_else(value: Any, rule: Any, schema: Any, _root: Any, at: str) -> list[str]:
    assert rule is False
    more = set(value) - set(schema.get("properties", {})) if isinstance(value, dict) else set()
    return [f"{at}.{name} is not described" for name in sorted(more)]


def _one_of(value: Any, rule: Any, _schema: Any, root: Any, at: str) -> list[str]:
    tries = [faults(value, one, root, at) for one in rule]
    return [] if [] in tries else [f"{at} is none of {len(rule)}: {min(tries, key=len)}"]


_RULES: Final[Mapping[str, Callable[[Any, Any, Any, Any, str], list[str]]]] = {
    "$ref": _reference,
    "type": _kind,
    "properties": _properties,
    "additionalProperties": _nothing_else,
    "anyOf": _one_of,
    "oneOf": _one_of,
    "required": lambda value, rule, _s, _r, at: [f"{at}.{name} is missing" for name in rule if name not in value],
    "items": lambda value, rule, _s, root, at: [
        fault for index, one in enumerate(value) for fault in faults(one, rule, root, f"{at}[{index}]")
    ],
    "enum": lambda value, rule, _s, _r, at: [] if value in rule else [f"{at} is none of {rule}"],
    "const": lambda value, rule, _s, _r, at: [] if value == rule else [f"{at} is not {rule}"],
    "minimum": lambda value, rule, _s, _r, at: [] if value >= rule else [f"{at} is below {rule}"],
    "maximum": lambda value, rule, _s, _r, at: [] if value <= rule else [f"{at} is above {rule}"],
    "exclusiveMinimum": lambda value, rule, _s, _r, at: [] if value > rule else [f"{at} is not above {rule}"],
    "minLength": lambda value, rule, _s, _r, at: [] if len(value) >= rule else [f"{at} is too short"],
    "maxLength": lambda value, rule, _s, _r, at: [] if len(value) <= rule else [f"{at} is too long"],
    "pattern": lambda value, rule, _s, _r, at: [] if re.search(rule, value) else [f"{at} does not match"],
}
