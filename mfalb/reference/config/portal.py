"""Settings of a User Portal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Endpoint


@dataclass(frozen=True, slots=True)
class PortalSettings:
    """One User Portal. `sdk` is the balanced SDK; `mobile_app_url` is what users type into the app, if there is one.

    `trusted_proxies` are the networks of the balancers: they alone are believed, by X-Forwarded-For, about whose
    browser they forward for.
    """

    name: str
    endpoint: Endpoint
    sdk: SdkAccess
    mobile_app_url: str = ""
    control: Endpoint | None = None
    trusted_proxies: tuple[str, ...] = ()

    @classmethod
    def read(cls, tables: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError and ValueError for tables that are not such settings."""
        control = tables.get("control")
        return cls(
            name=tables["name"],
            endpoint=Endpoint(**tables["endpoint"]),
            sdk=SdkAccess.read(tables["sdk"]),
            mobile_app_url=tables.get("mobile_app_url", ""),
            control=None if control is None else Endpoint(**control),
            trusted_proxies=tuple(tables.get("trusted_proxies", ())),
        )
