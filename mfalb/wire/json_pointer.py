"""JSON pointers (RFC 6901), with `*` for every element of an array: "/detail/multi_challenge/*/transaction_id".

They tell where in a document a text stands that somebody wants to know, and find it without trust in the document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mfalb.errors import MalformedMessage

_TEXT: Final = re.compile(r"(?:/(?:[^~/\x00-\x1f]|~[01])*)+")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_DEPTH_LIMIT: Final = 16
_VALUES_LIMIT: Final = 16  # of one document: more places than that hold no ids of one sign-in
_ALL: Final = "*"


@dataclass(frozen=True, slots=True)
class JsonPointer:
    """The steps into a document. A member that is itself called "*" cannot be pointed at."""

    steps: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> JsonPointer:
        """Raises ValueError for what is no pointer below a document's root."""
        if _TEXT.fullmatch(text) is None:
            raise ValueError("a JSON pointer begins with '/', and writes '~' as ~0")
        steps = text[1:].split("/")
        if len(steps) > _DEPTH_LIMIT:
            raise ValueError(f"a JSON pointer has {_DEPTH_LIMIT} steps at most")
        return cls(tuple(step.replace("~1", "/").replace("~0", "~") for step in steps))


def texts_untrusted(document: bytes, pointers: Iterable[JsonPointer]) -> list[str]:
    """The texts that stand at these pointers, in their order, each once and 16 at most; whole numbers as text.

    Members that are empty or something else do not count. Raises MalformedMessage("json") for what is no JSON.
    """
    try:
        root = json.loads(document)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError, as is a number of thousands of digits
        raise MalformedMessage("json") from None
    found: list[str] = []
    for pointer in pointers:
        for value in _walk(root, pointer.steps):
            text = _text_of(value)
            if text and text not in found:
                found.append(text)
                if len(found) == _VALUES_LIMIT:
                    return found
    return found


def _walk(root: Any, steps: tuple[str, ...]) -> Iterator[Any]:
    values = [root]
    for step in steps:
        values = [inner for value in values for inner in _step(value, step)]
    return iter(values)


def _step(value: Any, step: str) -> list[Any]:
    if isinstance(value, dict):
        return [value[step]] if step in value else []
    if not isinstance(value, list):
        return []
    if step == _ALL:
        return value
    if _INDEX.fullmatch(step) is None or int(step) >= len(value):
        return []
    return [value[int(step)]]


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
