"""All that makes a server a member of its group, put together and taken apart."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from mfalb.reference.config.mfa_server import GroupSettings, MfaServerSettings
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.group.activation import Applicant, CloudRegistry
from mfalb.reference.mfa_server.group.door import Door, Refusals, door_context
from mfalb.reference.mfa_server.group.follower import Follower, PeerTls
from mfalb.reference.mfa_server.group.ledger import Ledger
from mfalb.reference.mfa_server.group.member import Member, Plan
from mfalb.reference.mfa_server.group.replication_server import Identity, ReplicationServer
from mfalb.reference.mfa_server.group.standing import Role, Standing


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running member of a group."""

    settings: GroupSettings
    standing: Standing
    ledger: Ledger
    member: Member
    follower: Follower
    server: ReplicationServer
    registry: CloudRegistry
    refusals: Refusals
    rpc_port: int

    @property
    def is_master(self) -> bool:
        return self.standing.role is Role.MASTER


async def open_cluster(
    settings: MfaServerSettings,
    group: GroupSettings,
    session: aiohttp.ClientSession,
    faults: Faults,
    stack: AsyncExitStack,
) -> Cluster:
    """Join the group, until the stack closes. Raises OSError, ValueError and DataError."""
    rpc = group.rpc
    assert rpc.cert is not None  # noqa: S101 - settings without one are refused when they are read
    assert rpc.key is not None  # noqa: S101
    standing, refusals = Standing(), Refusals()
    pfdata = stack.enter_context(Pfdata(Path(group.data), group.kept_changes))
    ledger = Ledger(pfdata, standing, faults.unix_time)
    identity = Identity(settings.name, group.name, group.kind.value)
    door = Door(door_context(rpc.cert, rpc.key, group.ca), refusals)
    server = ReplicationServer(identity, ledger, standing, door, refusals)
    inner_port = await server.open()
    stack.push_async_callback(server.close)
    rpc_port = await door.open(rpc.host, rpc.port, inner_port)
    stack.push_async_callback(door.close)
    follower = Follower(identity, ledger, standing, PeerTls.read(rpc.cert, rpc.key, group.ca), faults)
    applicant = Applicant(settings.name, group.name, group.kind, group.activation_code)
    registry = CloudRegistry(settings.cloud_url, applicant, session, faults)
    plan = Plan(settings.name, group.rpc_address or f"{rpc.host}:{rpc_port}", settings.users, group.poll_s)
    member = Member(plan, ledger, standing, registry, follower)
    server.ask_cloud = member.look_soon
    await member.start()
    stack.push_async_callback(member.close)
    return Cluster(group, standing, ledger, member, follower, server, registry, refusals, rpc_port)
