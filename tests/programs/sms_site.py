"""One-way-SMS sign-ins over RADIUS at full speed: the cloud, two MFA Servers and the balancer, and many users.

Unlike `balanced_estate` its servers are `Program`s on ports that stay theirs, so one can be killed and started again,
and the way between the balancer and its servers, or the NAS and the balancer, can be led over a `UdpRelay`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from mfalb.net.lifecycle import Tasks
from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.files import Settings, write_settings
from mfalb.reference.config.mfa_server import MfaServerSettings, RadiusSettings
from mfalb.reference.config.values import Account, Endpoint, User
from mfalb.reference.mfa_server.second_factor import short_id
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret
from programs.balancer import Balancer, write_secret
from programs.ports import LOOPBACK, free_tcp_port, free_udp_port
from programs.process import Program

NAS_SECRET: Final = SharedSecret(b"between-the-nas-and-the-balancer")
HEALTH: Final[Mapping[str, Any]] = {
    "type": "radius",
    "interval": "500ms",
    "fast": True,
    "rise": 1,
    "fall": 3,
}
_ACCOUNT: Final = Account("CONTOSO\\svc-mfa", "a-service-password")
_ASKED_EVERY_S: Final = 0.05
_EVENT: Final = re.compile(r' (first|second) half server=(\S+) user=(\S+) authreqid=(\S+) outcome=("[^"]*"|\S+)')


def users(count: int) -> tuple[User, ...]:
    """Users with one-way SMS. Each costs a server 10 ms at its start: directories hash passwords."""
    return tuple(User(f"user{number}", f"password-{number}", f"+1 555 {number:04}") for number in range(count))


@dataclass(frozen=True, slots=True)
class Half:
    """One half of a sign-in as a server logged it. `user` is a `short_id`.

    `request_id` is `shown_id` of the State, or an `authreqid`: below 10000, so that two users may have the same.
    """

    is_first: bool
    server: str
    user: str
    request_id: str
    outcome: str


def halves_in(log: str) -> list[Half]:
    """What a server's log tells, in order."""
    return [
        Half(kind == "first", server, user, request_id, outcome.strip('"'))
        for kind, server, user, request_id, outcome in _EVENT.findall(log)
    ]


def shown_id(state: bytes) -> str:
    """A State as the servers' logs show it."""
    return short_id("state:" + state.hex())


class MfaServer(Program):
    """A reference MFA Server with a RADIUS port of its own, which it has again after `start`."""

    def __init__(self, settings: MfaServerSettings, run_dir: Path) -> None:
        secret = SharedSecret(settings.radius.secret.encode())
        self.port: Final = settings.radius.endpoint.port
        super().__init__(
            settings.name,
            _command("mfa_server", settings, run_dir),
            run_dir,
            ready=lambda _: _answers_status(self.port, secret),
        )

    def halves(self) -> list[Half]:
        """What it did so far, in order, over all its lives."""
        return halves_in(self.log())


class Phones:
    """The phones of all users: what the cloud has texted, asked for once for everybody who waits."""

    def __init__(self, cloud_url: str, session: aiohttp.ClientSession) -> None:
        self._url = cloud_url
        self._session = session
        self._newest: dict[str, str] = {}
        self._asked = asyncio.Condition()
        self._round = 0

    async def code(self, user: str) -> str:
        """The newest code that this user was sent before now."""
        async with self._asked:
            begun_after_now = self._round + 2  # the round that runs may have read the outbox already
            await self._asked.wait_for(lambda: self._round >= begun_after_now)
            return self._newest[user]

    async def texts_sent(self) -> Counter[str]:
        """How many texts each user got: the oracle "the phone rang exactly once"."""
        async with self._session.get(f"{self._url}/counters.json") as response:
            return Counter((await response.json())["texts"])

    async def keep_asking(self) -> None:
        while True:
            async with self._session.get(f"{self._url}/outbox.json") as response:
                texts = await response.json()
            newest = {text["user"]: text["otp"] for text in reversed(texts)}
            async with self._asked:
                self._newest, self._round = newest, self._round + 1
                self._asked.notify_all()
            await asyncio.sleep(_ASKED_EVERY_S)


@dataclass(frozen=True, slots=True)
class SmsServers:
    """What stands behind the balancer: the cloud and the MFA Servers, all running."""

    cloud: Program
    cloud_url: str
    servers: tuple[MfaServer, ...]
    secret: str
    users: tuple[User, ...]

    def halves(self) -> list[Half]:
        """What all servers did; in order for each server."""
        return [half for server in self.servers for half in server.halves()]

    @asynccontextmanager
    async def phones(self) -> AsyncIterator[Phones]:
        """The users' phones, read until the context is left."""
        tasks = Tasks("phones")
        async with aiohttp.ClientSession() as session:
            phones = Phones(self.cloud_url, session)
            tasks.start("keep asking", phones.keep_asking())
            try:
                yield phones
            finally:
                await tasks.close()


@contextmanager
def sms_servers(run_dir: Path, known: tuple[User, ...], count: int = 2) -> Iterator[SmsServers]:
    """The cloud and `count` MFA Servers that know these users."""
    run_dir.mkdir(parents=True, exist_ok=True)
    secret, port = "between-the-balancer-and-servers", free_tcp_port()
    url = f"http://{LOOPBACK}:{port}"
    with ExitStack() as stack:
        cloud = Program(
            "cloud",
            _command("cloud_service", CloudSettings(Endpoint(LOOPBACK, port)), run_dir),
            run_dir,
            ready=lambda program: "ready " in program.log(),
        )
        stack.enter_context(cloud)
        servers = [
            MfaServer(
                MfaServerSettings(
                    name=f"mfa{number}",
                    cloud_url=url,
                    sdk=Endpoint(LOOPBACK, free_tcp_port()),
                    radius=RadiusSettings(Endpoint(LOOPBACK, free_udp_port()), "127.0.0.0/8", secret),
                    account=_ACCOUNT,
                    users=known,
                ),
                run_dir,
            )
            for number in range(1, count + 1)
        ]
        for server in servers:
            stack.enter_context(server)
        yield SmsServers(cloud, url, tuple(servers), secret, known)


def sms_balancer(
    site: SmsServers,
    run_dir: Path,
    port: int,
    *,
    addresses: Mapping[str, int] | None = None,
    health: Mapping[str, Any] = HEALTH,
) -> Balancer:
    """The balancer before these servers, not yet started, listening on `port`.

    `addresses` names other ports than the servers' own to reach them by: those of relays.
    """
    secrets = run_dir / "secrets"
    backend_secret = write_secret(secrets, "backends", site.secret)
    nas_secret = write_secret(secrets, "nas", NAS_SECRET.value.decode())
    ports = {server.name: server.port for server in site.servers} | dict(addresses or {})
    backends = [
        {
            "name": name,
            "address": f"{LOOPBACK}:{backend_port}",
            "secret_file": backend_secret,
            "require_message_authenticator": True,
        }
        for name, backend_port in ports.items()
    ]
    client = {"name": "nas", "network": "127.0.0.0/8", "secret_file": nas_secret}
    listener = {
        "name": "radius",
        "protocol": "radius",
        "bind": [f"{LOOPBACK}:{port}"],
        "clients": [client],
        "pool": "mfa",
    }
    pool = {"backends": backends, "affinity": {"preset": "radius_challenge"}, "health_check": dict(health)}
    passwords = [user.password for user in site.users]
    return Balancer(
        {"listeners": [listener], "pools": {"mfa": pool}},
        run_dir / "balancer",
        secrets=[NAS_SECRET.value.decode(), site.secret, *passwords],
    )


def _command(module: str, settings: Settings, run_dir: Path) -> list[str]:
    name = settings.name if isinstance(settings, MfaServerSettings) else "cloud"
    path = run_dir / f"{name}.json"
    write_settings(path, settings)
    return [sys.executable, "-m", f"mfalb.reference.{module}", "--settings", str(path)]


def _answers_status(port: int, secret: SharedSecret) -> bool:
    """Whether a Status-Server is answered; asked once."""
    question = radius.signed_request(radius.STATUS_SERVER, 0, bytes(16), b"", secret)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((LOOPBACK, port))
        client.settimeout(0.2)
        with suppress(OSError):
            client.send(question)
            return client.recv(4096)[0] == radius.ACCESS_ACCEPT
    return False
