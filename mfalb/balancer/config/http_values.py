"""Scalar values of HTTP: names and values of header fields."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator

from mfalb.balancer.config.values import quoted

_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # a token of RFC 9110 section 5.6.2
_FIELD_VALUE: Final = re.compile(r"[!-~](?:[ -~]{0,998}[!-~])?")  # RFC 9110 section 5.5, in ASCII


def _check_field_name(value: str) -> str:
    if _FIELD_NAME.fullmatch(value) is None:
        raise ValueError(f"{quoted(value)} names no header; use 1 to 64 letters, digits, '_' or '-'")
    return value


def _check_field_value(value: str) -> str:
    if _FIELD_VALUE.fullmatch(value) is None:
        raise ValueError(f"{quoted(value)} is no header's value; use printable ASCII without blanks at its ends")
    return value


FieldName = Annotated[str, AfterValidator(_check_field_name)]
FieldValue = Annotated[str, AfterValidator(_check_field_value)]
