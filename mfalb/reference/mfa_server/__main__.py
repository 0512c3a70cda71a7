"""`python -m mfalb.reference.mfa_server --settings FILE`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

import aiohttp

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.directory import Directory
from mfalb.reference.mfa_server.radius import RadiusFront
from mfalb.reference.mfa_server.sdk import SdkFront
from mfalb.reference.mfa_server.second_factor import SecondFactor
from mfalb.reference.service import main, serve_http


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve one MFA Server: the SDK and RADIUS over one second factor."""
    server = settings.mfa_server()
    session = await stack.enter_async_context(aiohttp.ClientSession())
    directory = Directory(server.users)
    second_factor = SecondFactor(server.name, server.cloud_url, session)
    sdk = SdkFront(server, directory, second_factor)
    sdk_port = await serve_http(sdk.application(), server.sdk, stack)
    endpoint = server.radius.endpoint
    transport, front = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: RadiusFront(server.radius, directory, second_factor), local_addr=(endpoint.host, endpoint.port)
    )
    stack.push_async_callback(front.close)
    radius_port: int = transport.get_extra_info("sockname")[1]
    return {"sdk": sdk_port, "radius": radius_port}


if __name__ == "__main__":
    main("A reference MFA Server.", start)
