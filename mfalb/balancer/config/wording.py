"""Pydantic's findings in the operator's words: what is wrong, what is accepted, what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from mfalb.balancer.config.document import Document, Loc, Position
from mfalb.balancer.config.models import CookieAffinity
from mfalb.balancer.config.outline import Place, accepted_keys, did_you_mean, discriminator, secret_keys, tags
from mfalb.balancer.config.presets import PRESETS
from mfalb.balancer.config.values import quoted

_QUOTED_WORD = re.compile(r"'([^']*)'")
_A_LIST = "must be a list: [one, two], or one entry a line after '- '"
_A_TABLE = "must be a table: one 'key: value' a line"
_WORDS = {
    "string_type": "must be text; put it in quotes",
    "string_too_short": "may not be empty",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "path_type": "must be the path of a file",
    "tuple_type": _A_LIST,
    "dict_type": _A_TABLE,
    "model_type": _A_TABLE,
    "model_attributes_type": _A_TABLE,
    "dict_attributes_type": _A_TABLE,
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


@dataclass(frozen=True, slots=True)
class Translator:
    """Turns errors about `places` of a document into positions and sentences."""

    document: Document
    places: dict[Loc, Place]

    def file_loc(self, loc: Loc) -> Loc:
        """A pydantic location without the tags that unions put into it."""
        found: Loc = ()
        is_tag_next = self._is_choice(found)
        for part in loc:
            if is_tag_next:
                is_tag_next = False
                continue
            found = (*found, part)
            is_tag_next = self._is_choice(found)
        return found

    def translate(self, error: ErrorDetails) -> tuple[Position, str]:
        """Where to look, and what to read there."""
        speak = _SPEAKERS.get(error["type"])
        loc = self.file_loc(error["loc"])
        if loc and loc[-1] == "[key]":
            return self.document.at_key(loc[:-1]), _sentence(error)
        if speak is not None:
            return speak(self, loc, error)
        label = next((f"{part}: " for part in reversed(loc) if isinstance(part, str)), "")
        return self.document.at_value(loc), label + _sentence(error)

    def _is_choice(self, loc: Loc) -> bool:
        return loc in self.places and self.places[loc].is_choice

    def _accepted(self, table_loc: Loc) -> list[str]:
        place = self.places[table_loc]
        keys = accepted_keys(place.table) if place.table is not None else []
        return ["preset", *keys] if CookieAffinity in place.choices else keys

    def unknown_key(self, loc: Loc, _error: ErrorDetails) -> tuple[Position, str]:
        accepted = self._accepted(loc[:-1])
        hint = did_you_mean(str(loc[-1]), accepted)
        return self.document.at_key(loc), f"unknown key {quoted(loc[-1])}; accepted: {', '.join(accepted)}{hint}"

    def missing_key(self, loc: Loc, _error: ErrorDetails) -> tuple[Position, str]:
        table_loc, key = loc[:-1], str(loc[-1])
        place = self.places.get(table_loc)
        is_secret = place is not None and place.table is not None and key in secret_keys(place.table)
        wanted = f"'{key}_file' or '{key}_env'" if is_secret else f"'{key}'"
        message = f"{wanted} is missing; accepted: {', '.join(self._accepted(table_loc))}"
        return self.document.at_key(table_loc), message

    def unknown_tag(self, loc: Loc, error: ErrorDetails) -> tuple[Position, str]:
        choices = self.places[loc].choices
        key, accepted = discriminator(choices[0]), tags(choices)
        written = error["input"].get(key)
        if not isinstance(written, str):
            return self.document.at_value((*loc, key)), f"{key}: must be one of {', '.join(accepted)}"
        hint = did_you_mean(written, accepted)
        message = f"{key}: {quoted(written)} is not one of {', '.join(accepted)}{hint}"
        return self.document.at_value((*loc, key)), message

    def missing_tag(self, loc: Loc, _error: ErrorDetails) -> tuple[Position, str]:
        choices = self.places[loc].choices
        message = f"'{discriminator(choices[0])}' is missing; write one of {', '.join(tags(choices))}"
        if CookieAffinity in choices:
            message += f", or preset: one of {', '.join(PRESETS)}"
        return self.document.at_key(loc), message


_Speaker = Callable[[Translator, Loc, ErrorDetails], tuple[Position, str]]
_SPEAKERS: dict[str, _Speaker] = {
    "extra_forbidden": Translator.unknown_key,
    "missing": Translator.missing_key,
    "union_tag_invalid": Translator.unknown_tag,
    "union_tag_not_found": Translator.missing_tag,
}


def _sentence(error: ErrorDetails) -> str:
    kind: str = error["type"]
    context: dict[str, Any] = error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in {"literal_error", "enum"}:
        accepted = _QUOTED_WORD.findall(context["expected"])
        hint = did_you_mean(str(error["input"]), accepted)
        written = quoted(error["input"]) if isinstance(error["input"], str) else "this"
        return f"{written} is not one of {', '.join(accepted)}{hint}"
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"must be {words} {context[name]}, not {error['input']}"
    if kind == "too_short":
        return "must have at least one entry"
    sentence = _WORDS.get(kind, error["msg"][:1].lower() + error["msg"][1:])
    return f"is empty; {sentence}" if error["input"] is None else sentence
