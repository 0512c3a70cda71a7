"""Affinity by an id that a server hands out in JSON, as an operator writes it."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import Seconds, SizeBytes, quoted
from mfalb.wire.json_pointer import JsonPointer

_PARAMETER: Final = re.compile(r"[!-~]{1,64}")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()+,;=:@-]+)+/\*")


def _check_pointer(value: str) -> str:
    try:
        JsonPointer.parse(value)
    except ValueError as error:
        raise ValueError(f"{quoted(value)}: {error}; for example /detail/transaction_id, or /ids/* for each") from None
    return value


def _check_parameter(value: str) -> str:
    if _PARAMETER.fullmatch(value) is None:
        raise ValueError(f"{quoted(value)} names no parameter; use 1 to 64 visible ASCII characters")
    return value


def _check_path(value: str) -> str:
    if _PATH.fullmatch(value) is None:
        raise ValueError(
            f"{quoted(value)} names no place in a path; write whole segments and end with /*, as in /poll/*"
        )
    return value


Pointer = Annotated[str, AfterValidator(_check_pointer), WithJsonSchema({"type": "string", "pattern": "^/"})]
"""A JSON pointer (RFC 6901); `*` is every element of an array."""

Parameter = Annotated[str, AfterValidator(_check_parameter)]
"""The decoded name of a field of a query or a form."""

PathEnd = Annotated[str, AfterValidator(_check_path), WithJsonSchema({"type": "string", "pattern": r"^/.+/\*$"})]
"""How a path ends that has an id as its last segment, which `*` stands for."""


class TransactionIdAffinity(Table):
    """What brings an id goes to the server that handed it out; the id must be one that no two servers ever give.

    Ids are learned from JSON answers (`answer_json`). A request is looked through in this order, and the first id
    counts: its path, a JSON body, its query, a form.
    """

    type: Literal["transaction_id"]
    answer_json: tuple[Pointer, ...] = Field(min_length=1)
    request_path: tuple[PathEnd, ...] = ()
    request_json: tuple[Pointer, ...] = ()
    request_query: tuple[Parameter, ...] = ()
    request_form: tuple[Parameter, ...] = ()
    body_limit: SizeBytes = 64 * 1024
    lifetime_s: Seconds = 300.0

    @model_validator(mode="after")
    def _is_looked_for(self) -> Self:
        if not (self.request_path or self.request_json or self.request_query or self.request_form):
            raise ValueError(
                "ids are learned, but no request is looked through for them; write where they stand: request_path, "
                "request_json, request_query or request_form"
            )
        return self
