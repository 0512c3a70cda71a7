"""The reference estate with the balancer in front of it, as the scenarios use it."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mfalb.reference.config.values import Account, Method, StateKind, User
from mfalb.reference.estate import Estate, EstatePlan
from programs.balancer import Balancer, write_secret
from programs.ports import LOOPBACK, free_tcp_port, free_udp_port

RADIUS_SECRET: Final = "between-the-nas-and-everybody"
ACCOUNT: Final = Account("CONTOSO\\svc-mfa", "a-service-password")
SDK_PATH: Final = "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
TEXTED: Final = tuple(User(f"texted{number}", f"password-{number}", f"+1 555 01{number:02}") for number in range(10))
CALLED: Final = User("called", "password-of-called", "+1 555 0200", Method.PHONE_CALL)

PINNED: Final[Mapping[str, Any]] = {
    "sdk": {"preset": "azure_mfa_sdk"},
    "radius": {"preset": "radius_challenge"},
    "portal": {"preset": "azure_mfa_portal"},
}
NOT_SHARED: Final[Mapping[str, Any]] = {}
UNPINNED: Final[Mapping[str, Any]] = {pool: {"type": "none"} for pool in PINNED}

_SECRETS: Final = (RADIUS_SECRET, ACCOUNT.password, *(user.password for user in (*TEXTED, CALLED)))


@dataclass(frozen=True, slots=True)
class BalancedEstate:
    """A running estate, the balancer before it, and the balancer's ports."""

    estate: Estate
    balancer: Balancer
    http_port: int
    radius_port: int

    @property
    def sdk_url(self) -> str:
        return f"http://{LOOPBACK}:{self.http_port}{SDK_PATH}"

    @property
    def portal_url(self) -> str:
        return f"http://{LOOPBACK}:{self.http_port}/MultiFactorAuth/"


@asynccontextmanager
async def balanced_estate(  # noqa: PLR0913 - a test says what it wants differently, by name
    run_dir: Path,
    *,
    affinity: Mapping[str, Any] = PINNED,
    state: StateKind = StateKind.UNIQUE,
    portals: int = 0,
    pins: Mapping[str, Any] = NOT_SHARED,
    admin_socket: Path | None = None,
) -> AsyncIterator[BalancedEstate]:
    """Two MFA Servers, as many portals as asked for, and the balancer; all gone when the context is left.

    `pins` is what its configuration says of pins besides the cookie key.
    """
    http_port, radius_port = free_tcp_port(), free_udp_port()
    plan = EstatePlan(
        users=(*TEXTED, CALLED),
        account=ACCOUNT,
        radius_secret=RADIUS_SECRET,
        sdk_url=f"http://{LOOPBACK}:{http_port}{SDK_PATH}",
        portals=portals,
        state=state,
        answer_delay_s=2.0,
    )
    async with Estate(plan, run_dir) as estate:
        config = _configuration(estate, (http_port, radius_port), affinity, run_dir)
        config["pins"] |= pins
        if admin_socket is not None:
            config["admin"] = {"socket": str(admin_socket)}
        balancer = Balancer(config, run_dir / "balancer", secrets=_SECRETS)
        await asyncio.to_thread(balancer.start)
        try:
            yield BalancedEstate(estate, balancer, http_port, radius_port)
            codes = {code for user in plan.users for code in await estate.cloud.codes(user.name)}
        finally:
            exit_code = await asyncio.to_thread(balancer.stop)
        balancer.assert_clean(exit_code)
        log = balancer.log()
        assert not [code for code in codes if f"={code}" in log or f'"{code}"' in log], "a code is in the log"


@asynccontextmanager
async def another_node(
    first: BalancedEstate, run_dir: Path, pins: Mapping[str, Any], *, workers: int = 1
) -> AsyncIterator[BalancedEstate]:
    """Another balancer before the same estate."""
    ports = free_tcp_port(), free_udp_port()
    config = _configuration(first.estate, ports, PINNED, run_dir) | {"workers": workers}
    config["pins"] |= pins
    balancer = Balancer(config, run_dir / "balancer", secrets=_SECRETS)
    await asyncio.to_thread(balancer.start)
    try:
        yield BalancedEstate(first.estate, balancer, *ports)
    finally:
        exit_code = await asyncio.to_thread(balancer.stop)
    balancer.assert_clean(exit_code)


def _configuration(
    estate: Estate, ports: tuple[int, int], affinity: Mapping[str, Any], run_dir: Path
) -> dict[str, Any]:
    secret = write_secret(run_dir, "radius.secret", RADIUS_SECRET)
    http_port, radius_port = ports
    watch = {"interval": "500ms", "timeout": "400ms", "rise": 1, "fall": 3}
    routes = [{"path": "/MultiFactorAuthWebServiceSdk", "pool": "sdk"}]
    pools: dict[str, Any] = {
        "sdk": {
            "backends": _backends(estate.mfa_servers, "sdk"),
            "health_check": {"type": "http", "path": SDK_PATH, "expect_status": [401], **watch},
            "affinity": affinity["sdk"],
        },
        "radius": {
            "backends": [
                {**one, "secret_file": secret, "require_message_authenticator": True}
                for one in _backends(estate.mfa_servers, "radius")
            ],
            "health_check": {"type": "radius", "interval": "500ms", "fast": True, "rise": 1, "fall": 3},
            "affinity": affinity["radius"],
        },
    }
    if estate.portals:
        routes.append({"path": "/MultiFactorAuth", "pool": "portal"})
        pools["portal"] = {
            "backends": _backends(estate.portals, "http"),
            "health_check": {"type": "http", "path": "/MultiFactorAuth/", **watch},
            "affinity": affinity["portal"],
        }
    return {
        "listeners": [
            {"name": "web", "protocol": "http", "bind": [f"{LOOPBACK}:{http_port}"], "routes": routes},
            {
                "name": "radius",
                "protocol": "radius",
                "bind": [f"{LOOPBACK}:{radius_port}"],
                "clients": [{"name": "nas", "network": "127.0.0.0/8", "secret_file": secret}],
                "pool": "radius",
            },
        ],
        "pools": pools,
        "pins": {"cookie_keys_file": write_secret(run_dir, "cookie.key", base64.b64encode(os.urandom(32)).decode())},
    }


def _backends(services: list[Any], port: str) -> list[dict[str, Any]]:
    return [{"name": service.name, "address": f"{LOOPBACK}:{service.ports[port]}"} for service in services]
