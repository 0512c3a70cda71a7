"""The estate on one machine: each service a process of its own, on loopback, in a run directory.

Processes, because an MFA Server's codes are in its memory only and a killed server must really be dead.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from mfalb.errors import MfalbError
from mfalb.reference.certificates import Authority
from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.files import Settings, write_settings
from mfalb.reference.config.mfa_server import GroupSettings, MfaServerSettings, RadiusSettings
from mfalb.reference.config.portal import PortalSettings
from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Account, Endpoint, StateKind, User

_READY_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 5.0
_LOG_TAIL_BYTES: Final = 2000
_LOOPBACK: Final = "127.0.0.1"
_GROUP: Final = "headquarters"
_GROUP_POLL_S: Final = 0.05
_CLOUD_POLL_S: Final = 2.0  # how soon a server learns of another one's promotion


class ServiceFailed(MfalbError):  # noqa: N818 - says what happened
    """A service did not come up; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class EstatePlan:
    """What to start.

    `sdk_url` is the balanced one, which portals call. With a `certificate` (chain, key) SDK and portals speak TLS.
    """

    users: tuple[User, ...]
    account: Account
    radius_secret: str = field(repr=False)
    sdk_url: str
    sdk_ca: Path | None = None
    certificate: tuple[Path, Path] | None = None
    mfa_servers: int = 2
    portals: int = 2
    state: StateKind = StateKind.UNIQUE
    answer_delay_s: float = 1.0


class Service:
    """One running service."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, ports: dict[str, int], log: Path) -> None:
        self.name = name
        self.ports = ports
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    def log_text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text("utf-8", errors="replace")

    async def kill(self) -> None:
        """SIGKILL: the server is gone, and every code in its memory with it."""
        if self.is_running:
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not listen."""
        if self.is_running:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            await self.kill()


class Cloud:
    """The cloud MFA Service, as seen by whoever holds the phones."""

    def __init__(self, service: Service, session: aiohttp.ClientSession) -> None:
        self.service = service
        # Where MFA Servers need certificates, the phones are at an address of their own
        self.url = f"http://{_LOOPBACK}:{service.ports.get('handsets', service.ports['http'])}"
        self._session = session

    async def codes(self, user: str) -> list[str]:
        """The codes that were texted to a user, newest first."""
        async with self._session.get(f"{self.url}/outbox.json") as response:
            return [text["otp"] for text in await response.json() if text["user"] == user]

    async def texts_sent(self) -> dict[str, int]:
        """How many texts each user got: the oracle "the phone rang exactly once"."""
        return (await self._counters())["texts"]

    async def calls_made(self) -> dict[str, int]:
        """How often each user's phone rang."""
        return (await self._counters())["calls"]

    async def _counters(self) -> dict[str, dict[str, int]]:
        async with self._session.get(f"{self.url}/counters.json") as response:
            counters: dict[str, dict[str, int]] = await response.json()
            return counters


class Estate:
    """All services of a plan, from entering the context to leaving it."""

    def __init__(self, plan: EstatePlan, run_directory: Path) -> None:
        self._plan = plan
        self._directory = run_directory.resolve()  # services run there
        self._activation_code = secrets.token_hex(8)
        self._stack = AsyncExitStack()
        self.cloud: Cloud
        self.mfa_servers: list[Service] = []
        self.portals: list[Service] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            self.cloud = Cloud(await self._start("cloud", "cloud_service", self._cloud(), stack), session)
            authority = Authority("replication group")
            for number in range(1, self._plan.mfa_servers + 1):
                settings = self._mfa_server(f"mfa{number}", authority)  # the first one that is activated is the master
                server = await self._start(settings.name, "mfa_server", settings, stack)
                await until_in_group(server, session)
                self.mfa_servers.append(server)
            for number in range(1, self._plan.portals + 1):
                portal = self._portal(f"portal{number}")
                self.portals.append(await self._start(portal.name, "user_portal", portal, stack))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _endpoint(self) -> Endpoint:
        if self._plan.certificate is None:
            return Endpoint(_LOOPBACK)
        chain, key = self._plan.certificate
        return Endpoint(_LOOPBACK, 0, str(chain), str(key))

    def _cloud(self) -> CloudSettings:
        codes = (self._activation_code,)
        return CloudSettings(answer_delay_s=self._plan.answer_delay_s, activation_codes=codes)

    def _mfa_server(self, name: str, authority: Authority) -> MfaServerSettings:
        plan = self._plan
        folder = self._directory / "group"
        ca, cert, key = folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key"
        authority.write_ca(ca)
        authority.issue(name, (_LOOPBACK,)).write(cert, key)
        return MfaServerSettings(
            name=name,
            cloud_url=self.cloud.url,
            sdk=self._endpoint(),
            radius=RadiusSettings(Endpoint(_LOOPBACK), "127.0.0.0/8", plan.radius_secret, plan.state),
            account=plan.account,
            users=plan.users,
            group=GroupSettings(
                name=_GROUP,
                activation_code=self._activation_code,
                data=str(self._directory / f"{name}-PhoneFactor.pfdata"),
                rpc=Endpoint(_LOOPBACK, 0, str(cert), str(key)),  # one machine: each has a port of its own
                ca=str(ca),
                poll_s=_CLOUD_POLL_S,
            ),
            control=Endpoint(_LOOPBACK),
        )

    def _portal(self, name: str) -> PortalSettings:
        plan = self._plan
        ca = None if plan.sdk_ca is None else str(plan.sdk_ca)
        return PortalSettings(name, self._endpoint(), SdkAccess(plan.sdk_url, ca, plan.account))

    async def _start(self, name: str, module: str, settings: Settings, stack: AsyncExitStack) -> Service:
        settings_file = self._directory / f"{name}.json"
        write_settings(settings_file, settings)
        command = ["-m", f"mfalb.reference.{module}", "--settings", str(settings_file)]
        return await start_service(name, command, self._directory, stack)


async def start_service(name: str, command: Sequence[str], directory: Path, stack: AsyncExitStack) -> Service:
    """Start a service, `python` with these arguments in its directory, and wait until it listens. Raises ServiceFailed.

    It ends with the stack, and when we end. Its log goes on in `NAME.log` there when it is started again.
    """
    log = directory / f"{name}.log"
    with log.open("ab") as log_file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=directory,
            stdin=asyncio.subprocess.PIPE,  # closes with us, and the service ends
            stdout=asyncio.subprocess.PIPE,
            stderr=log_file,
        )
    service = Service(name, process, {}, log)
    stack.push_async_callback(service.stop)
    service.ports.update(await _ready(service, process))
    return service


async def until_in_group(server: Service, session: aiohttp.ClientSession) -> None:
    """Wait until a server is activated and has the group's data. Raises ServiceFailed."""
    url = f"http://{_LOOPBACK}:{server.ports['control']}/status.json"
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while True:
                async with session.get(url) as response:
                    status = await response.json()
                if status["is_master_reached"] and (status["role"] == "master" or status["lag"]["seconds"] is not None):
                    return
                await asyncio.sleep(_GROUP_POLL_S)
    except (TimeoutError, aiohttp.ClientError):
        text = server.log_text()[-_LOG_TAIL_BYTES:]
        raise ServiceFailed(f"{server.name} did not get into its group:\n{text}") from None


async def _ready(service: Service, process: asyncio.subprocess.Process) -> dict[str, int]:
    """The ports that a service says it listens on. Raises ServiceFailed."""
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _READY_TIMEOUT_S)
    except TimeoutError:
        line = b""
    word, _, ports = line.partition(b" ")
    if word != b"ready" or not ports.endswith(b"\n"):  # a service that dies in the middle of its word is not ready
        raise ServiceFailed(f"{service.name} did not start:\n{service.log_text()[-_LOG_TAIL_BYTES:]}")
    found: dict[str, int] = json.loads(ports)
    return found
