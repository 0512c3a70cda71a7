"""`python -m mfalb.reference.user_portal --settings FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.faults import Faults
from mfalb.reference.sdk_client.transport import open_sdk
from mfalb.reference.service import main, serve_sites
from mfalb.reference.user_portal.app import Portal
from mfalb.reference.user_portal.sessions import Sessions
from mfalb.reference.web.clients import Clients


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve one User Portal."""
    portal, faults = settings.portal(), Faults("slow_s", "hang", "down", "die_mid_challenge", "clock_skew_s")
    sdk = await open_sdk(portal.sdk, "User Portal", stack)
    site = Portal(portal.name, sdk, Sessions(faults.monotonic), portal.mobile_app_url, Clients(portal.trusted_proxies))
    return await serve_sites(
        stack,
        http=(site.application(faults), portal.endpoint),
        control=(faults.control_application(), portal.control),
    )


if __name__ == "__main__":
    main("A reference User Portal.", start)
