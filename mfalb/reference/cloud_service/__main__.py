"""`python -m mfalb.reference.cloud_service --settings FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from mfalb.reference.cloud_service.app import CloudService
from mfalb.reference.config.files import SettingsFile
from mfalb.reference.service import main, serve_http


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve the cloud MFA Service."""
    cloud = settings.cloud()
    return {"http": await serve_http(CloudService(cloud).application(), cloud.endpoint, stack)}


if __name__ == "__main__":
    main("The reference cloud MFA Service.", start)
