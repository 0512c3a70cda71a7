"""`python -m mfalb.reference.user_portal --settings FILE`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.directory import Directory
from mfalb.reference.service import main, serve_http
from mfalb.reference.user_portal.app import Portal
from mfalb.reference.user_portal.sdk_client import SdkClient, sdk_session
from mfalb.reference.user_portal.sessions import Sessions


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve one User Portal."""
    portal = settings.portal()
    session = await stack.enter_async_context(sdk_session(portal))
    sdk = SdkClient(portal.sdk_url, session)
    site = Portal(portal.name, Directory(portal.users), sdk, Sessions(time.monotonic))
    return {"http": await serve_http(site.application(), portal.endpoint, stack)}


if __name__ == "__main__":
    main("A reference User Portal.", start)
