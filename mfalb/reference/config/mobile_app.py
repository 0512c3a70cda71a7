"""Settings of a Mobile App Web Service."""

from __future__ import annotations

from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        """Raises ValueError for a wait that nobody has."""
        if not 0 < self.push_wait_s <= 120:  # noqa: PLR2004 - as long as an MFA Server holds a call
            raise ValueError("push_wait_s is more than 0 and at most 120")
