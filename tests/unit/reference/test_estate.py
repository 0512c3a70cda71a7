from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from mfalb.reference.certificates import Authority
from mfalb.reference.config.mfa_server import MfaServerSettings
from mfalb.reference.config.portal import PortalSettings
from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Account, Endpoint, StateKind, User
from mfalb.reference.estate import Cloud, Estate, EstatePlan, Service, ServiceFailed, _ready

USERS = (User("alice", "password-a", "+1 555 0101"),)
PLAN = EstatePlan(USERS, Account("svc", "service-password"), "radius-secret", "http://127.0.0.1:1/sdk")


@dataclass
class FakeProcess:
    """A process of which only its standard output is looked at."""

    stdout: asyncio.StreamReader
    pid: int = 4711
    returncode: int | None = None


def started(log: Path, said: bytes, ports: dict[str, int] | None = None) -> tuple[Service, Any]:
    """A service that has said this and closed its standard output."""
    output = asyncio.StreamReader()
    output.feed_data(said)
    output.feed_eof()
    process = cast("asyncio.subprocess.Process", FakeProcess(output))
    return Service("mfa1", process, ports or {}, log), process


async def settings_of(plan: EstatePlan, tmp_path: Path) -> tuple[MfaServerSettings, PortalSettings]:
    estate = Estate(plan, tmp_path)
    estate.cloud = Cloud(started(tmp_path / "cloud.log", b"", {"http": 2})[0], cast("Any", None))
    return estate._mfa_server("mfa1", Authority("group")), estate._portal("portal1")


async def test_a_plan_becomes_the_settings_of_servers_and_portals(tmp_path: Path) -> None:
    server, portal = await settings_of(PLAN, tmp_path)
    assert (server.name, server.cloud_url, server.sdk) == ("mfa1", "http://127.0.0.1:2", Endpoint("127.0.0.1"))
    assert (server.account, server.users) == (PLAN.account, USERS)
    assert (server.radius.secret, server.radius.state) == ("radius-secret", StateKind.UNIQUE)
    assert server.radius.requires_message_authenticator
    assert (portal.name, portal.sdk) == ("portal1", SdkAccess(PLAN.sdk_url, None, PLAN.account))


async def test_servers_are_of_one_group_which_the_cloud_can_activate_and_each_has_its_own_file(
    tmp_path: Path,
) -> None:
    estate = Estate(PLAN, tmp_path)
    estate.cloud = Cloud(started(tmp_path / "cloud.log", b"", {"http": 2})[0], cast("Any", None))
    authority = Authority("group")
    one, two = (estate._mfa_server(name, authority).group for name in ("mfa1", "mfa2"))
    assert one is not None
    assert two is not None
    assert one.name == two.name
    assert one.data != two.data
    assert (one.activation_code,) == (two.activation_code,) == estate._cloud().activation_codes
    assert one.activation_code not in repr((one, estate._cloud()))


async def test_with_a_certificate_sdk_and_portals_speak_tls_and_portals_verify_it(tmp_path: Path) -> None:
    chain, key, ca = Path("chain.pem"), Path("key.pem"), Path("ca.pem")
    plan = replace(PLAN, certificate=(chain, key), sdk_ca=ca, state=StateKind.CONSTANT)
    server, portal = await settings_of(plan, tmp_path)
    tls = Endpoint("127.0.0.1", 0, "chain.pem", "key.pem")
    assert (server.sdk, portal.endpoint) == (tls, tls)
    assert (portal.sdk.ca, server.radius.state) == ("ca.pem", StateKind.CONSTANT)


async def test_a_service_that_is_ready_names_its_ports(tmp_path: Path) -> None:
    service, process = started(tmp_path / "mfa1.log", b'ready {"sdk": 1, "radius": 2}\n')
    assert await _ready(service, process) == {"sdk": 1, "radius": 2}


@pytest.mark.parametrize("said", [b"", b"starting\n", b"already {}\n", b"ready", b'ready {"sdk": '])
async def test_a_service_that_says_anything_else_has_failed_and_the_end_of_its_log_tells_why(
    tmp_path: Path, said: bytes
) -> None:
    log = tmp_path / "mfa1.log"
    log.write_bytes(b"the beginning\n" + b"x" * 5000 + b"\nOSError: address in use \xff\n")
    service, process = started(log, said)
    with pytest.raises(ServiceFailed, match="mfa1 did not start") as failure:
        await _ready(service, process)
    assert "OSError: address in use" in str(failure.value)
    assert "the beginning" not in str(failure.value)


async def test_a_plan_shows_no_secret(tmp_path: Path) -> None:
    shown = repr(PLAN) + repr(await settings_of(PLAN, tmp_path))
    assert not [secret for secret in ("radius-secret", "service-password", "password-a") if secret in shown]
