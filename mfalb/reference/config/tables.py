"""From a settings file's tables to frozen values: every fault with its place, what is accepted, and what was meant.

A value is read by the types of its dataclass's fields: texts, numbers, booleans, Enums by their values, other such
dataclasses, tuples of these, and None where a field may be None. `metadata={"defaults": {...}}` of a field holds what a
table under it need not say; `metadata={"unsaid": ...}` is its value in a table without it, though code has to give one.
What types cannot say, a dataclass says in `__post_init__` by a ValueError.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

_Value = TypeVar("_Value")

_NAMES: Final[dict[type, str]] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def read_table(kind: type[_Value], table: object, at: str = "") -> _Value:
    """A `kind` (a dataclass) of a table; `at` is the table's own place. Raises ValueError, which shows no value."""
    if not isinstance(table, dict):
        raise ValueError(f"{at or 'the settings of a service'}: a table is wanted")  # noqa: TRY004 - the file's fault
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]  # it is a dataclass
    for name in table:
        if name not in known:
            raise ValueError(f"{_place(at, _shown(name))}: there is no such setting{_meant(str(name), list(known))}")
    types = get_type_hints(kind)
    values = {}
    for name, field in known.items():
        if name in table:
            values[name] = _value(types[name], _with_defaults(field, table[name]), _place(at, name))
        elif "unsaid" in field.metadata:
            values[name] = field.metadata["unsaid"]
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{_place(at, name)}: is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{at}: {error}" if at else str(error)) from None


def _place(at: str, name: object) -> str:
    return f"{at}.{name}" if at else str(name)


def _shown(name: object) -> object:
    """Without a space behind its colon, a setting's value is part of its name to YAML: `{password:secret}`."""
    return name if re.fullmatch(r"[A-Za-z]\w{0,30}", str(name)) else "?"


def _meant(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


def _with_defaults(field: Field[Any], value: object) -> object:
    defaults: dict[str, object] = field.metadata.get("defaults", {})
    return {**defaults, **value} if isinstance(value, dict) else value


def _value(kind: Any, value: object, at: str) -> object:
    if isinstance(kind, UnionType):
        (inner,) = (one for one in get_args(kind) if one is not NoneType)
        return None if value is None else _value(inner, value, at)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{at}: a list is wanted")
        return tuple(_value(get_args(kind)[0], one, f"{at}[{number}]") for number, one in enumerate(value))
    if is_dataclass(kind):
        return read_table(kind, value, at)  # type: ignore[arg-type]  # a class, not an instance
    if issubclass(kind, Enum):
        return _choice(kind, value, at)
    return _plain(kind, value, at)


def _choice(kind: type[Enum], value: object, at: str) -> Enum:
    for choice in kind:
        if choice.value == value:
            return choice
    raise ValueError(f"{at}: {value!r} is none of {', '.join(str(choice.value) for choice in kind)}")


def _plain(kind: type, value: object, at: str) -> object:
    """A text, number or boolean; a whole number is a number, too, and a boolean is none."""
    is_boolean = isinstance(value, bool)
    if kind is float and isinstance(value, int | float) and not is_boolean:
        return float(value)
    if isinstance(value, kind) and is_boolean is (kind is bool):
        return value
    raise ValueError(f"{at}: {_NAMES[kind]} is wanted")
