"""`python -m mfalb.reference.cloud_service --settings FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from mfalb.reference.cloud_service.app import CloudService
from mfalb.reference.config.files import SettingsFile
from mfalb.reference.service import main, serve_sites


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve the cloud MFA Service, its phones, and (if asked for) its fault switches."""
    cloud = settings.cloud()
    service = CloudService(cloud)
    return await serve_sites(
        stack,
        http=(service.application(), cloud.endpoint),
        handsets=(service.pages_application(), cloud.handsets),
        control=(service.faults.control_application(), cloud.control),
    )


if __name__ == "__main__":
    main("The reference cloud MFA Service.", start)
