"""Promise: MS-CHAPv2 passes the balancer, bare from a NAS or out of an EAP tunnel, and the MFA Servers take it.

The tunnel's end is FreeRADIUS, which knows no user and asks the balanced address. A one-way text cannot be answered in
such a tunnel (RADIUS has no challenge there), so its users sign in without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest_asyncio
from programs import radclient
from programs.balanced_estate import CALLED, RADIUS_SECRET, TEXTED, BalancedEstate, balanced_estate
from programs.certificates import Authority, CertificateFiles
from programs.eapol import EapResult, EapTarget, Method, mac_of, sign_in, write_supplicant_config
from programs.freeradius import FreeRadius, TestUser
from programs.freeradius_tunnel import tunnel_end
from programs.ms_chap import is_proof, mschapv2
from programs.ports import LOOPBACK
from programs.radclient import Answer, Target

from mfalb.reference.config.values import User

TUNNEL_SECRET: Final = "between-the-nas-and-the-tunnels-end"
TUNNELLED: Final = (Method.PEAP_MSCHAPV2, Method.TTLS_MSCHAPV2)


@dataclass
class Site:
    """The balanced estate, and a tunnel's end before it."""

    balanced: BalancedEstate
    tunnel: FreeRadius
    run_dir: Path
    certificate: CertificateFiles

    async def by_eap(self, method: Method, user: User, password: str, mac: int) -> EapResult:
        """A sign-in by eapol_test."""
        config = self.run_dir / f"{method.name}-{mac}.conf"
        write_supplicant_config(config, method, TestUser(user.name, password), self.certificate)
        target = EapTarget(LOOPBACK, self.tunnel.port, TUNNEL_SECRET)
        return await asyncio.to_thread(sign_in, target, config, mac_of(mac))

    async def by_nas(self, *requests: list[tuple[str, str]]) -> list[Answer]:
        """Requests by radclient, one after the other from a socket of their own."""
        target = Target(LOOPBACK, self.balanced.radius_port, RADIUS_SECRET, parallel=4, timeout_s=10.0)
        answers = await asyncio.to_thread(radclient.send, target, requests)
        assert None not in answers
        return [answer for answer in answers if answer is not None]

    def first_halves(self) -> list[int]:
        """How many each MFA Server has begun."""
        return [server.log_text().count("first half") for server in self.balanced.estate.mfa_servers]


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    certificate = Authority(tmp_path / "tls").issue("tunnel", "localhost", LOOPBACK)
    async with balanced_estate(tmp_path) as balanced:
        asked = (balanced.radius_port, RADIUS_SECRET)
        tunnel = tunnel_end("tunnel", tmp_path, TUNNEL_SECRET, certificate, asked)
        await asyncio.to_thread(tunnel.start)
        try:
            yield Site(balanced, tunnel, tmp_path, certificate)
        finally:
            await asyncio.to_thread(tunnel.stop)


async def test_eap_sign_ins_out_of_a_tunnel_ring_once_each_and_both_ends_have_the_same_keys(site: Site) -> None:
    signs_in = [site.by_eap(method, CALLED, CALLED.password, mac) for mac, method in enumerate(TUNNELLED * 2)]
    for result in await asyncio.gather(*signs_in):
        assert result.is_perfect, result.log_tail
    assert await site.balanced.estate.cloud.calls_made() == {CALLED.name: 4}
    assert sorted(site.first_halves()) == [2, 2], "the servers took turns"


async def test_a_wrong_password_in_a_tunnel_rings_nobody_and_a_text_cannot_be_answered_there(site: Site) -> None:
    wrong, texted = await asyncio.gather(
        site.by_eap(Method.PEAP_MSCHAPV2, CALLED, "wrong", 1),
        site.by_eap(Method.TTLS_MSCHAPV2, TEXTED[0], TEXTED[0].password, 2),
    )
    assert not wrong.is_success
    assert not texted.is_success
    assert await site.balanced.estate.cloud.calls_made() == {}
    assert await site.balanced.estate.cloud.texts_sent() == {TEXTED[0].name: 1}


async def test_mschapv2_of_a_nas_without_a_challenge(site: Site) -> None:
    right = mschapv2(CALLED.name, CALLED.password)
    answers = await site.by_nas(*([*right, ("NAS-Port", str(number))] for number in range(4)))
    assert [answer.code for answer in answers] == ["Access-Accept"] * 4
    assert all(is_proof(one.attributes["MS-CHAP2-Success"], CALLED.name, CALLED.password) for one in answers)
    assert all(len(one.attributes["MS-MPPE-Send-Key"]) == 34 for one in answers), "revealed with the NAS's own secret"
    (refused,) = await site.by_nas(mschapv2(CALLED.name, "wrong"))
    assert refused.code == "Access-Reject"
    assert "E=691" in refused.attributes["MS-CHAP-Error"]
    assert await site.balanced.estate.cloud.calls_made() == {CALLED.name: 4}


async def test_mschapv2_of_a_nas_with_a_challenge_whose_code_reaches_the_server_that_sent_it(site: Site) -> None:
    challenges = await site.by_nas(*(mschapv2(user.name, user.password) for user in TEXTED))
    assert [answer.code for answer in challenges] == ["Access-Challenge"] * len(TEXTED)
    assert site.first_halves() == [len(TEXTED) // 2] * 2
    codes = [(await site.balanced.estate.cloud.codes(user.name))[0] for user in TEXTED]
    halves = [
        [("User-Name", user.name), ("User-Password", code), ("State", challenge.attributes["State"])]
        for user, code, challenge in zip(TEXTED, codes, challenges, strict=True)
    ]
    assert [answer.code for answer in await site.by_nas(*halves)] == ["Access-Accept"] * len(TEXTED)
    assert await site.balanced.estate.cloud.texts_sent() == {user.name: 1 for user in TEXTED}
