"""`python -m mfalb.reference.user_portal --settings FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.faults import Faults
from mfalb.reference.sdk_client.client import SdkClient
from mfalb.reference.sdk_client.transport import sdk_caller, sdk_session
from mfalb.reference.service import main, serve_http
from mfalb.reference.user_portal.app import Portal
from mfalb.reference.user_portal.sessions import Sessions


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve one User Portal."""
    portal, faults = settings.portal(), Faults("slow_s", "hang", "down", "clock_skew_s")
    session = await stack.enter_async_context(sdk_session(portal.sdk))
    sdk = SdkClient(sdk_caller(portal.sdk, session), "User Portal")
    site = Portal(portal.name, sdk, Sessions(faults.monotonic), portal.mobile_app_url)
    ports = {"http": await serve_http(site.application(faults), portal.endpoint, stack)}
    if portal.control is not None:
        ports["control"] = await serve_http(faults.control_application(), portal.control, stack)
    return ports


if __name__ == "__main__":
    main("A reference User Portal.", start)
