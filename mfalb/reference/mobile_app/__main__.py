"""`python -m mfalb.reference.mobile_app --settings FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.faults import Faults
from mfalb.reference.mobile_app.activations import Activations
from mfalb.reference.mobile_app.app import MobileApp
from mfalb.reference.sdk_client.client import SdkClient
from mfalb.reference.sdk_client.transport import sdk_caller, sdk_session
from mfalb.reference.service import main, serve_http


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve one Mobile App Web Service."""
    app, faults = settings.mobile_app(), Faults("slow_s", "hang", "down", "clock_skew_s")
    session = await stack.enter_async_context(sdk_session(app.sdk))
    sdk = SdkClient(sdk_caller(app.sdk, session), "Mobile App Web Service")
    service = MobileApp(app.name, sdk, Activations(faults.monotonic), app.push_wait_s)
    ports = {"http": await serve_http(service.application(faults), app.endpoint, stack)}
    if app.control is not None:
        ports["control"] = await serve_http(faults.control_application(), app.control, stack)
    return ports


if __name__ == "__main__":
    main("A reference Mobile App Web Service.", start)
