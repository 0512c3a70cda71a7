"""Which model each table of a file is meant to be: the bridge between what was written and what is accepted.

Pydantic answers "is it right?"; this answers "what should have stood here?", for messages, secrets and presets.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mfalb.balancer.config.document import Loc
from mfalb.balancer.config.models import Config
from mfalb.balancer.config.tables import Table, yaml_name
from mfalb.balancer.config.values import Secret


@dataclass(frozen=True, slots=True)
class Place:
    """A table of the file. `choices` are the models it may be; `table` is the one its discriminator names, if any."""

    loc: Loc
    choices: tuple[type[Table], ...]
    table: type[Table] | None
    data: dict[str, Any]

    @property
    def is_choice(self) -> bool:
        """Whether pydantic puts the chosen tag into an error's location behind this place."""
        return len(self.choices) > 1


def places(data: object, annotation: object = Config, loc: Loc = ()) -> Iterator[Place]:
    """Every table of `data`, outermost first; what has no place in the models is passed over."""
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield from places(item, _item_type(annotation), (*loc, index))
        return
    if not isinstance(data, dict):
        return
    choices = tuple(_tables(annotation))
    if not choices:
        for key, value in data.items():
            yield from places(value, _value_type(annotation), (*loc, key))
        return
    table = _chosen(choices, data)
    yield Place(loc, choices, table, data)
    for attribute, info in table.model_fields.items() if table is not None else ():
        key = yaml_name(attribute)
        if key in data:
            yield from places(data[key], info.annotation, (*loc, key))


def discriminator(choice: type[Table]) -> str:
    """The key that tells the choices of a place apart: the one that has literal values only."""
    return next(name for name, info in choice.model_fields.items() if get_origin(info.annotation) is Literal)


def tags(choices: Iterable[type[Table]]) -> list[str]:
    """The values a discriminator may have, in the order of the models."""
    return [tag for choice in choices for tag in get_args(choice.model_fields[discriminator(choice)].annotation)]


def secret_keys(table: type[Table]) -> dict[str, str]:
    """YAML key → attribute of the secrets of a table, one or a tuple of them: {"secret": "secret"}."""
    return {yaml_name(name): name for name, info in table.model_fields.items() if _holds_secret(info.annotation)}


def accepted_keys(table: type[Table]) -> list[str]:
    """What may be written in a table: its name, its own keys, then those that it shares with others of its kind.

    A secret stands there by the two ways to name its source.
    """
    secrets = secret_keys(table)
    keys: list[str] = []
    own = [name for kind in table.__mro__ for name in vars(kind).get("__annotations__", ()) if issubclass(kind, Table)]
    own.sort(key=lambda name: name != "name")
    for attribute in (name for name in dict.fromkeys(own) if name in table.model_fields):
        key = yaml_name(attribute)
        keys += [f"{key}_file", f"{key}_env"] if key in secrets else [key]
    return keys


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """What a message ends with when one accepted word is near `word`; else nothing."""
    near = difflib.get_close_matches(word, list(accepted), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def _chosen(choices: tuple[type[Table], ...], data: dict[str, Any]) -> type[Table] | None:
    if len(choices) == 1:
        return choices[0]
    key = discriminator(choices[0])
    return next((choice for choice in choices if data.get(key) in tags([choice])), None)


def _plain(annotation: object) -> object:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _members(annotation: object) -> tuple[object, ...]:
    plain = _plain(annotation)
    return get_args(plain) if get_origin(plain) in {Union, types.UnionType} else (plain,)


def _tables(annotation: object) -> Iterator[type[Table]]:
    for member in map(_plain, _members(annotation)):
        if isinstance(member, type) and issubclass(member, Table):
            yield member
        elif get_origin(member) in {Union, types.UnionType}:
            yield from _tables(member)


def _item_type(annotation: object) -> object:
    return next((get_args(member)[0] for member in _members(annotation) if get_origin(member) is tuple), None)


def _value_type(annotation: object) -> object:
    return next((get_args(member)[1] for member in _members(annotation) if get_origin(member) is dict), None)


def _holds_secret(annotation: object) -> bool:
    return any(member is Secret or _item_type(member) is Secret for member in _members(annotation))
