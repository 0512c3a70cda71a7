"""Promise: the estate behaves as the deployment it stands for, with no balancer in front of it.

A code is known to the server that asked for it and to no other; the cloud counts every text; a killed server is gone;
and when the estate is left, nothing of it stays behind.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import requests
from programs import radclient
from programs.balanced_estate import ACCOUNT, CALLED, RADIUS_SECRET, SDK_PATH, TEXTED
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Answer, Target
from zeep import Client
from zeep.transports import Transport

from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.files import write_settings
from mfalb.reference.config.values import StateKind, User
from mfalb.reference.estate import Estate, EstatePlan, Service, ServiceFailed

UNKNOWN = "unknown authreqid on this node"
PLAN = EstatePlan(
    users=(*TEXTED, CALLED),
    account=ACCOUNT,
    radius_secret=RADIUS_SECRET,
    sdk_url=f"http://{LOOPBACK}:1{SDK_PATH}",
    portals=0,
    answer_delay_s=0.2,
)


@pytest_asyncio.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    async with Estate(PLAN, tmp_path) as running:
        yield running
        passwords = [user.password for user in PLAN.users]
        is_cloud_there = running.cloud.service.is_running
        codes = [code for user in TEXTED for code in await running.cloud.codes(user.name)] if is_cloud_there else []
    logs = {service.name: service.log_text() for service in (running.cloud.service, *running.mfa_servers)}
    for name, log in logs.items():
        assert log, f"{name} logged nothing at all"
        assert "Traceback" not in log, f"{name}:\n{log}"
        assert not [secret for secret in (RADIUS_SECRET, ACCOUNT.password, *passwords) if secret in log], name
        assert not [code for code in codes if f"={code}" in log or f'"{code}"' in log], f"a code is in {name}"


def sdk_url(server: Service) -> str:
    return f"http://{LOOPBACK}:{server.ports['sdk']}{SDK_PATH}"


def _call(server: Service, operation: str, arguments: tuple[str, ...]) -> Any:
    with requests.Session() as session:
        session.auth = (ACCOUNT.name, ACCOUNT.password)
        client = Client(f"{sdk_url(server)}?wsdl", transport=Transport(session=session))  # type: ignore[no-untyped-call]  # zeep
        return client.service[operation](*arguments)


async def call(server: Service, operation: str, *arguments: str) -> Any:
    """One call by zeep, which knows of the SDK only what the server's WSDL says."""
    return await asyncio.to_thread(_call, server, operation, arguments)


async def verified(server: Service, user: User, authreqid: str, code: str) -> bool:
    return bool((await call(server, "VerifyOneWayOtp", user.name, authreqid, code)).VerifyOneWayOtpResult)


async def ask(server: Service, *attributes: tuple[str, str]) -> Answer:
    """One request by radclient."""
    target = Target(LOOPBACK, server.ports["radius"], RADIUS_SECRET)
    (answer,) = await asyncio.to_thread(radclient.send, target, [attributes])
    assert answer is not None, "no answer"
    return answer


def first_half(user: User) -> tuple[tuple[str, str], ...]:
    return ("User-Name", user.name), ("User-Password", user.password)


async def second_half(estate: Estate, server: Service, user: User, state: str) -> Answer:
    code = (await estate.cloud.codes(user.name))[0]
    return await ask(server, ("User-Name", user.name), ("User-Password", code), ("State", state))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ------------------------------------------------------------------------------------ sign-ins


async def test_over_the_sdk_a_code_is_accepted_by_the_server_that_began_and_unknown_to_the_other(
    estate: Estate,
) -> None:
    mfa1, mfa2 = estate.mfa_servers
    here, there = TEXTED[:2]
    begun = await call(mfa1, "PfAuthUser_4", here.name, "adfs")
    assert begun.PfAuthUser_4Result
    code = (await estate.cloud.codes(here.name))[0]
    assert await verified(mfa1, here, begun.authreqid, code)
    assert not await verified(mfa1, here, begun.authreqid, code), "a code is good once"
    begun = await call(mfa1, "PfAuthUser_4", there.name, "adfs")
    code = (await estate.cloud.codes(there.name))[0]
    assert UNKNOWN not in mfa2.log_text()
    assert not await verified(mfa2, there, begun.authreqid, code)
    assert UNKNOWN in mfa2.log_text()
    assert await verified(mfa1, there, begun.authreqid, code), "the wrong server has not used the code up"
    assert await estate.cloud.texts_sent() == {here.name: 1, there.name: 1}
    assert await estate.cloud.calls_made() == {}


async def test_over_radius_a_code_is_accepted_by_the_server_that_began_and_unknown_to_the_other(
    estate: Estate,
) -> None:
    mfa1, mfa2 = estate.mfa_servers
    for begins, ends, code in ((mfa1, mfa1, "Access-Accept"), (mfa2, mfa1, "Access-Reject")):
        user = TEXTED[0]
        challenge = await ask(begins, *first_half(user))
        assert challenge.code == "Access-Challenge"
        answer = await second_half(estate, ends, user, challenge.attributes["State"])
        assert answer.code == code
    assert mfa1.log_text().count(UNKNOWN) == 1
    assert UNKNOWN not in mfa2.log_text()
    assert await estate.cloud.texts_sent() == {TEXTED[0].name: 2}


async def test_with_a_constant_state_the_user_tells_the_sign_ins_apart(tmp_path: Path) -> None:
    async with Estate(replace(PLAN, state=StateKind.CONSTANT, mfa_servers=1), tmp_path) as estate:
        (server,) = estate.mfa_servers
        states = [(await ask(server, *first_half(user))).attributes["State"] for user in TEXTED[:3]]
        assert set(states) == {"0x" + b"SMS".hex()}
        answers = [await second_half(estate, server, user, states[0]) for user in TEXTED[:3]]
        assert [answer.code for answer in answers] == ["Access-Accept"] * 3


async def test_a_called_user_is_signed_in_by_one_call_on_either_front(estate: Estate) -> None:
    mfa1, mfa2 = estate.mfa_servers
    assert (await ask(mfa1, *first_half(CALLED))).code == "Access-Accept"
    assert (await call(mfa2, "PfAuthUser_4", CALLED.name, "adfs")).PfAuthUser_4Result
    assert await estate.cloud.calls_made() == {CALLED.name: 2}
    assert await estate.cloud.texts_sent() == {}


async def test_without_the_password_no_phone_rings(estate: Estate) -> None:
    server = estate.mfa_servers[0]
    for name in (TEXTED[0].name, "nobody"):
        answer = await ask(server, ("User-Name", name), ("User-Password", "not-the-password"))
        assert answer.code == "Access-Reject"
    assert not (await call(server, "PfAuthUser_4", "nobody", "adfs")).PfAuthUser_4Result
    assert await estate.cloud.texts_sent() == {}


# ------------------------------------------------------------------------------------ callers who err


@pytest.mark.parametrize("account", [None, (ACCOUNT.name, "wrong"), (ACCOUNT.name, "")])
async def test_without_the_account_the_sdk_serves_nothing(estate: Estate, account: tuple[str, str] | None) -> None:
    url = sdk_url(estate.mfa_servers[0])
    for method, address in (("GET", url), ("GET", f"{url}?wsdl"), ("POST", url)):
        response = await asyncio.to_thread(requests.request, method, address, auth=account, timeout=5)
        assert response.status_code == 401


async def test_malformed_soap_gets_a_fault_and_an_endless_body_is_refused(estate: Estate) -> None:
    server = estate.mfa_servers[0]
    bomb = b'<!DOCTYPE a [<!ENTITY x "' + b"x" * 1000 + b'"><!ENTITY y "' + b"&x;" * 1000 + b'">]><a>&y;</a>'

    async def post(url: str, body: bytes) -> requests.Response:
        account = (ACCOUNT.name, ACCOUNT.password)
        return await asyncio.to_thread(requests.post, url, data=body, auth=account, timeout=5)

    for body in (b"", b"<Envelope>", b"\xff\0", b"<Envelope><Body/></Envelope>", b"<a>" * 10_000, bomb):
        response = await post(sdk_url(server), body)
        assert response.status_code == 500
        assert "<faultcode>soap:Client</faultcode>" in response.text
    assert (await post(sdk_url(server), b"x" * 100_000)).status_code == 413
    assert (await post(f"{estate.cloud.url}/pfd/pfd.pl", bomb)).status_code == 400
    assert await call(server, "TestSecurity") == "secure", "it serves on"


# ------------------------------------------------------------------------------------ beginnings and ends


async def test_a_killed_server_is_gone_with_its_codes_and_the_others_live(estate: Estate) -> None:
    killed, living = estate.mfa_servers
    begun = await call(killed, "PfAuthUser_4", TEXTED[0].name, "adfs")
    await killed.kill()
    assert not killed.is_running
    assert not is_alive(killed.pid)
    with pytest.raises(requests.ConnectionError):
        await call(killed, "TestSecurity")
    assert living.is_running
    assert await call(living, "TestSecurity") == "secure"
    code = (await estate.cloud.codes(TEXTED[0].name))[0]
    assert not await verified(living, TEXTED[0], begun.authreqid, code)
    assert (await ask(living, *first_half(TEXTED[1]))).code == "Access-Challenge"


async def test_a_server_whose_cloud_is_gone_says_so_and_lives(estate: Estate) -> None:
    await estate.cloud.service.stop()
    server = estate.mfa_servers[0]
    told = await call(server, "PfAuthUser_4", TEXTED[0].name, "adfs")
    assert not told.PfAuthUser_4Result
    assert "not available" in told.error.Description
    assert (await ask(server, *first_half(TEXTED[1]))).code == "Access-Reject"
    assert "cloud unavailable" in server.log_text()


async def test_when_the_estate_is_left_every_process_is_gone_a_stopped_one_by_its_own_will(tmp_path: Path) -> None:
    async with Estate(replace(PLAN, portals=1), tmp_path) as estate:
        services = [estate.cloud.service, *estate.mfa_servers, *estate.portals]
        assert len(services) == 4
        assert all(is_alive(service.pid) for service in services)
        await estate.mfa_servers[0].kill()
    assert not [service.name for service in services if is_alive(service.pid)]
    assert [service.name for service in services if "stopping" not in service.log_text()] == ["mfa1"]


async def test_an_estate_that_fails_inside_leaves_no_process_behind(tmp_path: Path) -> None:
    estate = Estate(replace(PLAN, mfa_servers=1), tmp_path)

    async def fail_inside() -> None:
        async with estate:
            raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        await fail_inside()
    assert not is_alive(estate.cloud.service.pid)
    assert not is_alive(estate.mfa_servers[0].pid)


def test_a_service_whose_starter_is_gone_ends_by_itself(tmp_path: Path) -> None:
    settings = tmp_path / "cloud.json"
    write_settings(settings, CloudSettings())
    argv = [sys.executable, "-m", "mfalb.reference.cloud_service", "--settings", str(settings)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as service:
        try:
            assert service.stdout is not None
            assert service.stdin is not None
            assert service.stdout.readline().startswith(b"ready ")
            assert service.poll() is None
            service.stdin.close()
            wait_until(lambda: service.poll() is not None, "the service to end with its starter")
        finally:
            service.kill()  # does nothing to one that has ended
    assert service.returncode == 0


async def test_a_service_that_cannot_start_raises_its_log_and_the_services_before_it_end(tmp_path: Path) -> None:
    broken = tmp_path / "no-certificate.pem"
    estate = Estate(replace(PLAN, certificate=(broken, broken)), tmp_path)
    with pytest.raises(ServiceFailed) as failure:
        await estate.__aenter__()
    assert "mfa1 did not start" in str(failure.value)
    assert f"{broken} with {broken}: No such file" in str(failure.value), "the end of its log"
    assert not is_alive(estate.cloud.service.pid)
