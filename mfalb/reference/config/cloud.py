"""Settings of the cloud MFA Service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from mfalb.reference.config.values import Endpoint


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """The cloud MFA Service.

    `answer_delay_s` is how long a person takes to answer a phone call. With `activation_codes` it serves activated
    servers only; without any it serves everybody. `state` is the file that its groups are kept in; None for memory.
    """

    endpoint: Endpoint = Endpoint()  # noqa: RUF009 - a frozen value; ruff does not follow it into the other file
    answer_delay_s: float = 1.0
    activation_codes: tuple[str, ...] = field(default=(), repr=False)
    state: str | None = None

    @classmethod
    def read(cls, tables: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError and ValueError for tables that are not such settings."""
        return cls(
            endpoint=Endpoint(**tables["endpoint"]),
            answer_delay_s=float(tables["answer_delay_s"]),
            activation_codes=tuple(tables.get("activation_codes", ())),
            state=tables.get("state"),
        )
