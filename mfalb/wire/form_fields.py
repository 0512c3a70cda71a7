"""Fields of queries and of application/x-www-form-urlencoded bodies (WHATWG URL standard, section 5.1)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import unquote_to_bytes

_FIELDS_LIMIT: Final = 256  # what stands behind them is not looked at: no form of a sign-in has as many


def form_fields(data: bytes, wanted: Collection[bytes]) -> dict[bytes, bytes]:
    """The decoded values of the fields that are `wanted`, by decoded name. The first field of a name counts.

    Any bytes are a form: `%` that begins no encoding stands for itself, as browsers and servers read it.
    """
    found: dict[bytes, bytes] = {}
    for pair in data.split(b"&", _FIELDS_LIMIT)[:_FIELDS_LIMIT]:
        name, _, value = pair.partition(b"=")
        name = _decoded(name)
        if name in wanted and name not in found:
            found[name] = _decoded(value)
    return found


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
