"""Settings of a User Portal."""

from __future__ import annotations

from dataclasses import dataclass

from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Endpoint, check_networks


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

    def __post_init__(self) -> None:
        """Raises ValueError for proxies that are no networks."""
        check_networks("trusted_proxies", self.trusted_proxies)
