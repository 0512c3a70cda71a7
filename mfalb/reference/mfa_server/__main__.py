"""`python -m mfalb.reference.mfa_server --settings FILE`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.config.mfa_server import MfaServerSettings
from mfalb.reference.directory import Directory
from mfalb.reference.faults import Faults
from mfalb.reference.ldap_directory import LdapDirectory
from mfalb.reference.mfa_server.cloud_session import cloud_session
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

FAULTS: Final = (
    "slow_s",
    "hang",
    "down",
    "die_mid_challenge",
    "cloud_unreachable",
    "master_lost",
    "clock_skew_s",
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a server stands: in a group, or alone."""

    ledger: Ledger
    writer: Writer
    gate: Gate


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve one MFA Server: its place in the group, the SDK and RADIUS over one second factor."""
    server, faults = settings.mfa_server(), Faults(*FAULTS)
    session = await stack.enter_async_context(cloud_session(server.cloud_tls))
    ports: dict[str, int] = {}
    if server.group is None:
        place = await _alone(server, faults, stack)
        control = faults.control_application()
    else:
        cluster = await open_cluster(server, server.group, session, faults, stack)
        ports["rpc"] = cluster.rpc_port
        place = _Place(cluster.ledger, cluster.member, Gate(cluster.standing, cluster.ledger, cluster.member))
        control = Control(server.name, server.account, cluster, faults).application()
    if server.control is not None:
        ports["control"] = await serve_http(control, server.control, stack)
    directory = Directory(server.users) if server.ldap is None else LdapDirectory(server.ldap)
    users = GroupUsers(directory, place.ledger.pfdata)
    second_factor = GatedFactor(server, session, place.gate, faults)
    operations = SdkOperations(users, second_factor, place.gate, place.writer)
    sdk = SdkFront(server, operations.by_name, faults)
    callers_ca = None if server.callers is None else server.callers.ca
    ports["sdk"] = await serve_http(sdk.application(), server.sdk, stack, callers_ca)
    ports["radius"] = await _serve_radius(server, users, second_factor, faults, stack)
    return ports


async def _alone(server: MfaServerSettings, faults: Faults, stack: AsyncExitStack) -> _Place:
    """A server without a group: its users are those of its settings, and its file is gone when it ends."""
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="mfalb-mfa-"))
    standing = lone_standing()
    pfdata = stack.enter_context(Pfdata(Path(directory) / "PhoneFactor.pfdata"))
    ledger = Ledger(pfdata, standing, faults.unix_time)
    await ledger.begin_epoch(standing.epoch)
    await ledger.import_users(server.users)
    writer = Lone(ledger)
    return _Place(ledger, writer, Gate(standing, ledger, writer))


async def _serve_radius(
    server: MfaServerSettings, users: GroupUsers, second_factor: GatedFactor, faults: Faults, stack: AsyncExitStack
) -> int:
    endpoint = server.radius.endpoint
    transport, front = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: RadiusFront(server.radius, users, second_factor, faults), local_addr=(endpoint.host, endpoint.port)
    )
    stack.push_async_callback(front.close)
    port: int = transport.get_extra_info("sockname")[1]
    return port


if __name__ == "__main__":
    main("A reference MFA Server.", start)
