"""Settings of the cloud MFA Service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from mfalb.reference.config.values import Endpoint


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """The cloud MFA Service. `answer_delay_s` is how long a person takes to answer a phone call."""

    endpoint: Endpoint = Endpoint()  # noqa: RUF009 - a frozen value; ruff does not follow it into the other file
    answer_delay_s: float = 1.0

    @classmethod
    def read(cls, tables: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError and ValueError for tables that are not such settings."""
        return cls(Endpoint(**tables["endpoint"]), float(tables["answer_delay_s"]))
