"""Promise: the two halves of a one-way SMS sign-in over the Web Service SDK meet on one server.

The caller is zeep, a SOAP client nobody here wrote, with a new connection for each half and no cookies, as AD FS has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
import requests
from programs.balanced_estate import ACCOUNT, TEXTED, UNPINNED, BalancedEstate, balanced_estate
from zeep import Client
from zeep.transports import Transport

from mfalb.reference.config.values import User


@pytest_asyncio.fixture
async def balanced(tmp_path: Path) -> AsyncIterator[BalancedEstate]:
    async with balanced_estate(tmp_path) as running:
        yield running


class AdfsNode:
    """Calls the SDK as an AD FS node does: a connection of its own for each call, and no cookie jar."""

    def __init__(self, balanced: BalancedEstate) -> None:
        self._url = balanced.sdk_url
        self._client: Client | None = None

    def call(self, operation: str, *arguments: str) -> Any:
        with requests.Session() as session:
            session.auth = (ACCOUNT.name, ACCOUNT.password)
            client = Client(f"{self._url}?wsdl", transport=Transport(session=session))  # type: ignore[no-untyped-call]  # zeep
        with requests.Session() as session:
            session.auth = (ACCOUNT.name, ACCOUNT.password)
            client.transport.session = session
            return client.service[operation](*arguments)


async def sign_in(balanced: BalancedEstate, user: User) -> bool:
    """Half one from one AD FS node, half two from another."""
    one, two = AdfsNode(balanced), AdfsNode(balanced)
    begun = await asyncio.to_thread(one.call, "PfAuthUser_4", user.name, "adfs")
    assert begun.PfAuthUser_4Result
    (code, *_) = await balanced.estate.cloud.codes(user.name)
    ended = await asyncio.to_thread(two.call, "VerifyOneWayOtp", user.name, begun.authreqid, code)
    return bool(ended.VerifyOneWayOtpResult)


async def test_a_code_is_accepted_though_half_two_comes_on_another_connection_without_cookies(
    balanced: BalancedEstate,
) -> None:
    assert [await sign_in(balanced, user) for user in TEXTED] == [True] * len(TEXTED)
    took = [server.log_text().count("second half") for server in balanced.estate.mfa_servers]
    assert sum(took) == len(TEXTED)
    assert all(took), f"one server took every sign-in: {took}"
    assert await balanced.estate.cloud.texts_sent() == {user.name: 1 for user in TEXTED}
    metrics = balanced.balancer.metrics()
    assert metrics.total("mfalb_pins_made_total") == len(TEXTED)
    assert metrics.total("mfalb_pins_hit_total") == len(TEXTED)


async def test_without_pins_about_half_of_the_codes_reach_a_server_that_does_not_know_them(tmp_path: Path) -> None:
    async with balanced_estate(tmp_path, affinity=UNPINNED) as unpinned:
        # A sign-in is an even number of requests (each half fetches the WSDL), which alone would look pinned; one more
        # between the halves of every other sign-in takes that accident away.
        accepted = []
        for number, user in enumerate(TEXTED):
            one, two = AdfsNode(unpinned), AdfsNode(unpinned)
            begun = await asyncio.to_thread(one.call, "PfAuthUser_4", user.name, "adfs")
            for _ in range(number % 2):
                await asyncio.to_thread(requests.get, unpinned.sdk_url, timeout=5)
            (code, *_) = await unpinned.estate.cloud.codes(user.name)
            ended = await asyncio.to_thread(two.call, "VerifyOneWayOtp", user.name, begun.authreqid, code)
            accepted.append(bool(ended.VerifyOneWayOtpResult))
        logs = "".join(server.log_text() for server in unpinned.estate.mfa_servers)
        assert 0 < sum(accepted) < len(TEXTED), f"{sum(accepted)} of {len(TEXTED)} accepted"
        assert logs.count("unknown authreqid on this node") == len(TEXTED) - sum(accepted)


async def test_when_the_server_that_sent_the_code_is_dead_half_two_is_refused_at_once_and_clearly(
    balanced: BalancedEstate,
) -> None:
    user = TEXTED[0]
    begun = await asyncio.to_thread(AdfsNode(balanced).call, "PfAuthUser_4", user.name, "adfs")
    (code, *_) = await balanced.estate.cloud.codes(user.name)
    sender = next(server for server in balanced.estate.mfa_servers if "first half" in server.log_text())
    await sender.kill()
    body = (
        '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><VerifyOneWayOtp>'
        f"<username>{user.name}</username><authreqid>{begun.authreqid}</authreqid><otp>{code}</otp>"
        "</VerifyOneWayOtp></Body></Envelope>"
    )
    began = time.monotonic()
    answer = await asyncio.to_thread(
        requests.post,
        balanced.sdk_url,
        data=body,
        headers={"Content-Type": "text/xml"},
        auth=(ACCOUNT.name, ACCOUNT.password),
        timeout=10,
    )
    assert answer.status_code == 503
    assert "Please sign in again" in answer.text
    assert time.monotonic() - began < 2
    survivor = next(server for server in balanced.estate.mfa_servers if server is not sender)
    assert "second half" not in survivor.log_text(), "the code was shown to a server that did not send it"
    assert await sign_in(balanced, TEXTED[1]), "a new sign-in must go to the server that lives"


async def test_test_security_says_secure_and_a_caller_without_the_account_is_turned_away(
    balanced: BalancedEstate,
) -> None:
    assert await asyncio.to_thread(AdfsNode(balanced).call, "TestSecurity") == "secure"
    answer = await asyncio.to_thread(requests.get, balanced.sdk_url, timeout=5)
    assert answer.status_code == 401


async def test_a_body_too_large_to_look_into_passes_and_is_counted(balanced: BalancedEstate) -> None:
    answer = await asyncio.to_thread(
        requests.post,
        balanced.sdk_url,
        data=b"<Envelope>" + b" " * 100_000,
        headers={"Content-Type": "text/xml"},
        auth=(ACCOUNT.name, ACCOUNT.password),
        timeout=10,
    )
    assert answer.headers["X-Served-By"] in {"mfa1", "mfa2"}, "the server itself judges it"
    assert balanced.balancer.metrics().total("mfalb_listener_drops_total", reason="pin_not_looked_for") == 1
