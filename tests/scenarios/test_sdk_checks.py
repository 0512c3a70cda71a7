"""Promise: the sdk check tells a server that works from one that does not, and marks the one without its master."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from programs.balanced_estate import ACCOUNT, CALLED, SDK_PATH
from programs.balancer import Balancer, write_secret
from programs.certificates import CertificateFiles
from programs.http_pool import Front, new_front
from programs.ports import LOOPBACK
from programs.process import wait_until

from mfalb.reference.estate import Estate, EstatePlan

CHECK = {
    "type": "sdk",
    "host": LOOPBACK,
    "user": ACCOUNT.name,
    "interval": "200ms",
    "timeout": "3s",
    "rise": 1,
    "fall": 2,
}


@dataclass(frozen=True)
class Servers:
    """Two MFA Servers over TLS, the first the master of the second, behind a balancer."""

    estate: Estate
    balancer: Balancer
    front: Front

    def seen(self, name: str) -> dict[str, Any]:
        return self.balancer.backend("sdk", name)


@asynccontextmanager
async def servers(run_dir: Path, certificate: CertificateFiles, password: str) -> AsyncIterator[Servers]:
    """Runs them; the check signs in with this password."""
    plan = EstatePlan(
        users=(CALLED,),
        account=ACCOUNT,
        radius_secret="nobody-asks-by-radius",
        sdk_url=f"https://{LOOPBACK}:1{SDK_PATH}",
        certificate=(certificate.cert, certificate.key),
        mfa_servers=2,
        portals=0,
        answer_delay_s=0.1,
    )
    front = new_front()
    async with Estate(plan, run_dir) as estate:
        backends = [{"name": one.name, "address": f"{LOOPBACK}:{one.ports['sdk']}"} for one in estate.mfa_servers]
        pool = {
            "backends": backends,
            "upstream_tls": {"ca": str(certificate.ca)},
            "health_check": {**CHECK, "password_file": write_secret(run_dir, "password", password)},
        }
        config = {
            "listeners": [front.listener("web", [{"pool": "sdk"}])],
            "pools": {"sdk": pool},
            "log": {"level": "debug"},
        }
        authorization = ACCOUNT.authorization.removeprefix("Basic ")
        balancer = Balancer(config, run_dir / "balancer", secrets=[ACCOUNT.password, authorization])
        await asyncio.to_thread(balancer.start)
        try:
            yield Servers(estate, balancer, front)
        finally:
            balancer.assert_clean(await asyncio.to_thread(balancer.stop))


async def until(balancer: Servers, name: str, **wanted: object) -> None:
    """Wait for a backend to be seen so."""
    await asyncio.to_thread(
        wait_until, lambda: wanted.items() <= balancer.seen(name).items(), f"{name} to be {wanted}", deadline_s=20
    )


async def test_a_server_without_its_master_is_degraded_and_serves_on(
    tmp_path: Path, certificate: CertificateFiles
) -> None:
    async with servers(tmp_path, certificate, ACCOUNT.password) as site:
        for name in ("mfa1", "mfa2"):
            seen = site.seen(name)
            assert (seen["health"], seen["degraded"], seen["last_check"]["result"]) == ("up", None, "secure")
        await site.estate.mfa_servers[0].kill()
        await until(site, "mfa2", health="up", degraded="does not reach the master")
        await until(site, "mfa1", health="down", degraded=None)
        status, _ = await asyncio.to_thread(site.front.get, SDK_PATH, Authorization=ACCOUNT.authorization)
        assert status == 200, "whoever is degraded is used like any other"
        metrics = site.balancer.metrics()
        assert metrics.total("mfalb_backend_degraded", backend="mfa2") == 1
        assert metrics.total("mfalb_backend_degraded", backend="mfa1") == 0
        assert metrics.total("mfalb_backend_up", backend="mfa2") == 1
        log = site.balancer.log()
        assert log.count("backend degraded pool=sdk backend=mfa2") == 1, "told once, not with each check"
        calls = await site.estate.cloud.calls_made()
        assert (calls, await site.estate.cloud.texts_sent()) == ({}, {}), "a check rings nobody"


async def test_whoever_is_not_let_in_by_the_server_sees_it_down(tmp_path: Path, certificate: CertificateFiles) -> None:
    async with servers(tmp_path, certificate, "not-the-password") as site:
        seen = site.seen("mfa1")
        assert (seen["health"], seen["reason"]) == ("down", "status 401")
        assert "not-the-password" not in site.balancer.log()
