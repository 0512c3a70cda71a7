"""`python -m mfalb.reference.mfa_server --settings FILE`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from time import time

import aiohttp

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.config.mfa_server import MfaServerSettings
from mfalb.reference.mfa_server.control import Control
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.gated_factor import Gate, GatedFactor
from mfalb.reference.mfa_server.group.cluster import open_cluster
from mfalb.reference.mfa_server.group.ledger import Ledger
from mfalb.reference.mfa_server.group.lone import Lone, Writer, lone_standing
from mfalb.reference.mfa_server.radius import RadiusFront
from mfalb.reference.mfa_server.sdk import SdkFront
from mfalb.reference.mfa_server.sdk_operations import SdkOperations
from mfalb.reference.mfa_server.users import GroupUsers
from mfalb.reference.service import main, serve_http


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve one MFA Server: its place in the group, the SDK and RADIUS over one second factor."""
    server = settings.mfa_server()
    session = await stack.enter_async_context(aiohttp.ClientSession())
    ports: dict[str, int] = {}
    if server.group is None:
        ledger, writer, gate = await _alone(server, stack)
    else:
        cluster = await open_cluster(server, server.group, session, time, stack)
        ports["rpc"] = cluster.rpc_port
        ledger, writer = cluster.ledger, cluster.member
        gate = Gate(cluster.standing, ledger, writer)
        if server.control is not None:
            control = Control(server.name, server.account, cluster).application()
            ports["control"] = await serve_http(control, server.control, stack)
    users = GroupUsers(server.users, ledger.pfdata)
    second_factor = GatedFactor(server.name, server.cloud_url, session, gate)
    operations = SdkOperations(users, second_factor, gate, writer)
    ports["sdk"] = await serve_http(SdkFront(server, operations.by_name).application(), server.sdk, stack)
    ports["radius"] = await _serve_radius(server, users, second_factor, stack)
    return ports


async def _alone(server: MfaServerSettings, stack: AsyncExitStack) -> tuple[Ledger, Writer, Gate]:
    """A server without a group: its users are those of its settings, and its file is gone when it ends."""
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="mfalb-mfa-"))
    standing = lone_standing()
    pfdata = stack.enter_context(Pfdata(Path(directory) / "PhoneFactor.pfdata"))
    ledger = Ledger(pfdata, standing, time)
    await ledger.begin_epoch(standing.epoch)
    await ledger.import_users(server.users)
    writer = Lone(ledger)
    return ledger, writer, Gate(standing, ledger, writer)


async def _serve_radius(
    server: MfaServerSettings, users: GroupUsers, second_factor: GatedFactor, stack: AsyncExitStack
) -> int:
    endpoint = server.radius.endpoint
    transport, front = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: RadiusFront(server.radius, users, second_factor), local_addr=(endpoint.host, endpoint.port)
    )
    stack.push_async_callback(front.close)
    port: int = transport.get_extra_info("sockname")[1]
    return port


if __name__ == "__main__":
    main("A reference MFA Server.", start)
