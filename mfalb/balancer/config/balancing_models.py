"""How a pool spreads what carries no pin: its algorithm, and what a hash is made of."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import quoted

_PART_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # a token of RFC 9110 section 5.6.2

Share = Annotated[float, Field(strict=True, gt=0, le=1)]
"""A part of a whole, 1 being all of it."""


class Algorithm(Enum):
    """How a pool spreads exchanges that carry no pin. All of them follow the backends' weights."""

    ROUND_ROBIN = "round_robin"
    LEAST_CONNECTIONS = "least_connections"
    POWER_OF_TWO = "power_of_two"
    HASH = "hash"


def check_part_name(value: str) -> str:
    """Returns the name of a part of a request; ValueError when it can be none."""
    if _PART_NAME.fullmatch(value) is None:
        raise ValueError(
            f"{quoted(value)} names no header, cookie or query parameter; use 1 to 64 letters, digits, '_' or '-'"
        )
    return value


LoadFactor = Annotated[float, Field(strict=True, ge=1.01, le=100)]
"""No backend gets more than so many times its even share at a time; what is above goes to the next in line."""


class HashOfRequest(Table):
    """By something that a request has one of: HTTP's first two, RADIUS's others (`client` is the NAS's name here)."""

    key: Literal["source", "path", "user_name", "calling_station_id", "client"]
    load_factor: LoadFactor = 1.25


class HashOfPart(Table):
    """By the part of an HTTP request that has this name."""

    key: Literal["header", "cookie", "query"]
    name: Annotated[str, AfterValidator(check_part_name)]
    load_factor: LoadFactor = 1.25


HashBy = Annotated[HashOfRequest | HashOfPart, Field(discriminator="key")]
HTTP_KEYS: Final = ("source", "header", "cookie", "path", "query")
TCP_KEYS: Final = ("source",)
RADIUS_KEYS: Final = ("user_name", "calling_station_id", "client")
