"""A deployment's services as processes on this machine, each in its host's folder, as an operator starts it there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp

from mfalb.cli.demo_balancer import start_balancer
from mfalb.cli.demo_failures import DemoFailed
from mfalb.cli.deployment import BALANCER, Deployment, ServiceFile
from mfalb.cli.free_ports import LOOPBACK
from mfalb.cli.loopback import Moved
from mfalb.reference.estate import Cloud, Service, start_service, until_in_group

_POLL_S: Final = 0.1
_UP_TIMEOUT_S: Final = 60.0
_COMMAND_TIMEOUT_S: Final = 60.0
MFA_SERVER: Final = "mfa-server"
# The order of a start: the cloud activates servers, the first of which is the master; the rest finds them working
_ORDER: Final = ("cloud", MFA_SERVER, BALANCER, "user-portal", "mobile-app", "adfs", "relying-party")


class RunningDeployment:
    """What was started; it ends with the stack. `session` is for questions to the services."""

    def __init__(
        self, folder: Path, deployment: Deployment, moved: Moved, stack: AsyncExitStack, session: aiohttp.ClientSession
    ) -> None:
        self.folder: Final = folder
        self.deployment: Final = deployment
        self.moved: Final = moved
        self.session: Final = session
        self.services: Final[dict[str, Service]] = {}
        self._stack = stack

    async def start(self) -> None:
        """Start everything, and wait until the balancers find all of it up. Raises ServiceFailed and DemoFailed."""
        for kind in _ORDER:
            services = self.deployment.of_kind(kind)
            if kind == MFA_SERVER:
                for service in services:
                    await self.start_one(service)
            else:
                await asyncio.gather(*(self.start_one(service) for service in services))
        self._stack.push_async_callback(self._stop_services)
        await self.until("all servers to be up", self._is_all_up)

    async def _stop_services(self) -> None:
        """All at once; one after the other they take ten seconds."""
        await asyncio.gather(*(service.stop() for service in self.services.values()))

    async def start_one(self, service: ServiceFile) -> None:
        """Start a service, or start it again."""
        path = self.folder / service.place
        if service.kind == BALANCER:
            await start_balancer(path, self._stack)
            return
        command = ["-m", "mfalb", "reference", service.kind, "-c", path.name]
        started = await start_service(service.kind, command, path.parent, self._stack)
        self.services[service.title] = started
        if service.kind == MFA_SERVER:
            await until_in_group(started, self.session)

    def server(self, host: str) -> Service:
        """The MFA Server on a host."""
        return self.services[f"{host}/{MFA_SERVER}"]

    @property
    def mfa_servers(self) -> dict[str, Service]:
        return {service.host: self.server(service.host) for service in self.deployment.of_kind(MFA_SERVER)}

    @property
    def cloud(self) -> Cloud:
        """The phones."""
        return Cloud(self.services["cloud/cloud"], self.session)

    # ------------------------------------------------------------------------------ questions

    async def pools(self) -> dict[str, list[dict[str, Any]]]:
        """All pools of all balancers, as their status has them."""
        found: dict[str, list[dict[str, Any]]] = {}
        for port in self.moved.admin_ports.values():
            async with self.session.get(f"http://{LOOPBACK}:{port}/status") as response:
                found |= (await response.json())["pools"]
        return found

    async def role(self, host: str) -> str:
        """What an MFA Server is in its group."""
        url = f"http://{LOOPBACK}:{self.server(host).ports['control']}/status.json"
        async with self.session.get(url) as response:
            role: str = (await response.json())["role"]
            return role

    async def _is_all_up(self) -> bool:
        return all(one["health"] == "up" for pool in (await self.pools()).values() for one in pool)

    async def until(self, what: str, is_true: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something that is asked for again and again. Raises DemoFailed."""
        try:
            async with asyncio.timeout(_UP_TIMEOUT_S):
                while True:
                    if await is_true():
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise DemoFailed(f"after {_UP_TIMEOUT_S:.0f} s still waiting for {what}") from None

    async def command(self, *arguments: str) -> str:
        """Run `mfalb` with these arguments; what it printed. Raises DemoFailed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mfalb", *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        printed, _ = await asyncio.wait_for(process.communicate(), _COMMAND_TIMEOUT_S)
        if process.returncode:
            raise DemoFailed(f"mfalb {' '.join(arguments)}: {printed.decode('utf-8', 'replace')}")
        return printed.decode("utf-8", "replace").strip()
