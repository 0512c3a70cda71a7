"""Settings of a Mobile App Web Service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Endpoint


@dataclass(frozen=True, slots=True)
class MobileAppSettings:
    """One Mobile App Web Service.

    `push_wait_s` is how long a confirmation stays open for the answer to its test push.
    """

    name: str
    endpoint: Endpoint
    sdk: SdkAccess
    push_wait_s: float = 60.0
    control: Endpoint | None = None

    @classmethod
    def read(cls, tables: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError and ValueError for tables that are not such settings."""
        control = tables.get("control")
        settings = cls(
            name=tables["name"],
            endpoint=Endpoint(**tables["endpoint"]),
            sdk=SdkAccess.read(tables["sdk"]),
            push_wait_s=float(tables.get("push_wait_s", 60.0)),
            control=None if control is None else Endpoint(**control),
        )
        if not 0 < settings.push_wait_s <= 120:  # noqa: PLR2004 - as long as an MFA Server holds a call
            raise ValueError("push_wait_s is more than 0 and at most 120")
        return settings
