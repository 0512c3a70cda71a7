"""`python -m mfalb.reference.mobile_app --settings FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.faults import Faults
from mfalb.reference.mobile_app.activations import Activations
from mfalb.reference.mobile_app.app import MobileApp
from mfalb.reference.sdk_client.transport import open_sdk
from mfalb.reference.service import main, serve_sites


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve one Mobile App Web Service."""
    app, faults = settings.mobile_app(), Faults("slow_s", "hang", "down", "die_mid_challenge", "clock_skew_s")
    sdk = await open_sdk(app.sdk, "Mobile App Web Service", stack)
    service = MobileApp(app.name, sdk, Activations(faults.monotonic), app.push_wait_s)
    return await serve_sites(
        stack,
        http=(service.application(faults), app.endpoint),
        control=(faults.control_application(), app.control),
    )


if __name__ == "__main__":
    main("A reference Mobile App Web Service.", start)
