"""MFA Servers, their cloud, a pin store and balancers on a network of namespaces, and a client that signs in there.

The client's halves are radclient's, and calls of the Web Service SDK on a connection each, as AD FS makes them.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.files import Settings, write_settings
from mfalb.reference.config.mfa_server import MfaServerSettings, RadiusSettings
from mfalb.reference.config.values import Account, Endpoint, User
from programs import post_all, radclient
from programs.balancer import write_secret
from programs.namespaces import HUB, BalancerInside, Network
from programs.process import Launch, Logged, Program, find_program
from programs.radclient import Target
from programs.sms_site import Half, halves_in
from programs.two_nodes import Node

NODES: Final = {"a": "10.77.0.1", "b": "10.77.0.2"}
SERVERS: Final = {"mfa1": "10.77.0.11", "mfa2": "10.77.0.12"}
STORE: Final = "10.77.0.30"
CLIENT: Final = "10.77.0.50"
_CLOUD: Final = "10.77.0.20"
_SUBNET: Final = "10.77.0.0/24"
_HTTP_PORT: Final = 8080
_RADIUS_PORT: Final = 1812
_SDK_PATH: Final = "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
_ACCOUNT: Final = Account("CONTOSO\\svc-mfa", "a-service-password")
_SECRET: Final = "between-balancer-and-servers"
_CLIENT_SECRET: Final = "towards-the-client"
_ENVELOPE: Final = '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>{}</Body></Envelope>'
_HALF_ONE: Final = _ENVELOPE.format("<PfAuthUser_4><username>{user}</username><appName>adfs</appName></PfAuthUser_4>")
_HALF_TWO: Final = _ENVELOPE.format(
    "<VerifyOneWayOtp><username>{user}</username><authreqid>{tie}</authreqid><otp>{code}</otp></VerifyOneWayOtp>"
)


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in between its halves. `tie` is the State, or the request's id; `code` is what the phone got."""

    user: User
    tie: str
    code: str = field(repr=False)


class Store(Program):
    """A redis-server on the host `store`."""

    def __init__(self, network: Network, run_dir: Path) -> None:
        self._cli = [*network.inside("store"), find_program("redis-cli"), "-h", STORE]
        command = ["redis-server", "--bind", STORE, "--save", "", "--protected-mode", "no"]
        launch = Launch(wrapper=network.inside("store"), grace_s=3)
        super().__init__("redis", command, run_dir, ready=Logged("Ready to accept connections"), launch=launch)

    def command(self, *words: str) -> str:
        return subprocess.run([*self._cli, *words], capture_output=True, text=True, timeout=10, check=True).stdout

    def pins(self) -> set[str]:
        """The keys of the pins that it holds."""
        return set(self.command("--scan", "--pattern", "mfalb:pin:*").split())


class SmsNetwork:
    """All of it. `nodes` are added by `start_node`."""

    def __init__(self, network: Network, store: Store, servers: Sequence[Program], users: Sequence[User]) -> None:
        self.network = network
        self.store = store
        self.nodes: dict[str, Node] = {}
        self.users = users
        self._servers = servers

    def halves(self) -> list[Half]:
        """What all servers did; in order for each server."""
        return [half for server in self._servers for half in halves_in(server.log())]

    def target(self, address: str) -> Target:
        """A balancer's address, for RADIUS from the client; after a VIP has moved the first tries may be lost."""
        client = self.network.inside("client")
        return Target(address, _RADIUS_PORT, _CLIENT_SECRET, parallel=20, timeout_s=2.0, tries=10, wrapper=client)

    # ------------------------------------------------------------------------------ halves

    def begin_by_radius(self, address: str, users: Sequence[User]) -> list[Begun]:
        asked = [[("User-Name", user.name), ("User-Password", user.password)] for user in users]
        answers = radclient.send(self.target(address), asked)
        codes = [None if answer is None else answer.code for answer in answers]
        assert codes == ["Access-Challenge"] * len(users), f"{Counter(codes)}"
        return self._begun(users, [answer.attributes["State"] for answer in answers if answer is not None])

    def end_by_radius(self, address: str, begun: Sequence[Begun]) -> int:
        """How many were accepted."""
        asked = [
            [("User-Name", one.user.name), ("User-Password", one.code), ("State", one.tie)] for one in mixed(begun)
        ]
        answers = radclient.send(self.target(address), asked)
        return sum(answer is not None and answer.code == "Access-Accept" for answer in answers)

    def begin_by_sdk(self, address: str, users: Sequence[User]) -> list[Begun]:
        texts = self._called(address, [_HALF_ONE.format(user=user.name) for user in users])
        ids = [text.partition("authreqid>")[2].partition("<")[0] for text in texts]
        assert all(ids), texts
        return self._begun(users, ids)

    def end_by_sdk(self, address: str, begun: Sequence[Begun]) -> int:
        """How many were accepted."""
        bodies = [_HALF_TWO.format(user=one.user.name, tie=one.tie, code=one.code) for one in mixed(begun)]
        return sum("VerifyOneWayOtpResult>true" in text for text in self._called(address, bodies))

    def _called(self, address: str, bodies: Sequence[str]) -> list[str]:
        url = f"http://{address}:{_HTTP_PORT}{_SDK_PATH}"
        command = [*self.network.inside("client"), sys.executable, post_all.__file__, url]
        command += [_ACCOUNT.name, _ACCOUNT.password]
        done = subprocess.run(
            command, input=json.dumps(bodies), capture_output=True, text=True, check=True, timeout=120
        )
        answers: list[str] = json.loads(done.stdout)
        return answers

    def _begun(self, users: Sequence[User], ties: Sequence[str]) -> list[Begun]:
        """With the newest code that each was sent."""
        command = [
            *self.network.inside("client"),
            "curl",
            "-sS",
            "--max-time",
            "10",
            f"http://{_CLOUD}:8000/outbox.json",
        ]
        texts = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        newest = {text["user"]: text["otp"] for text in reversed(texts)}
        return [Begun(user, tie, newest[user.name]) for user, tie in zip(users, ties, strict=True)]


def mixed(begun: Sequence[Begun]) -> list[Begun]:
    """In another order than they began in: in the same one, turns could meet by chance."""
    return random.Random(len(begun)).sample(begun, len(begun))  # noqa: S311 - an order, not a secret


@contextmanager
def sms_network(run_dir: Path, users: Sequence[User]) -> Iterator[SmsNetwork]:
    """All but the balancers, running."""
    with ExitStack() as stack:
        hosts = {**NODES, "client": CLIENT, "store": STORE}
        network = Network(hosts, [*SERVERS.values(), _CLOUD])
        stack.callback(network.close)
        network.build()
        store = stack.enter_context(Store(network, run_dir / "redis"))
        stack.enter_context(_service(network, run_dir, "cloud_service", CloudSettings(Endpoint(_CLOUD, 8000))))
        servers = [
            MfaServerSettings(
                name=name,
                cloud_url=f"http://{_CLOUD}:8000",
                sdk=Endpoint(address, _HTTP_PORT),
                radius=RadiusSettings(Endpoint(address, _RADIUS_PORT), _SUBNET, _SECRET),
                account=_ACCOUNT,
                users=tuple(users),
            )
            for name, address in SERVERS.items()
        ]
        running = [stack.enter_context(_service(network, run_dir, "mfa_server", one)) for one in servers]
        yield SmsNetwork(network, store, running, users)


def _service(network: Network, run_dir: Path, module: str, settings: Settings) -> Program:
    name = settings.name if isinstance(settings, MfaServerSettings) else "cloud"
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / f"{name}.json"
    write_settings(path, settings)
    command = [sys.executable, "-m", f"mfalb.reference.{module}", "--settings", str(path)]
    launch = Launch(wrapper=network.inside(HUB), ready_deadline_s=40)  # many users are many passwords to hash
    return Program(name, command, run_dir, ready=Logged("ready "), launch=launch)


@contextmanager
def node_of(site: SmsNetwork, name: str, run_dir: Path, *, timeout: str) -> Iterator[Node]:
    """A balancer before the servers, with their pins in the store; `nodes` of the site has it then."""
    config = _config(run_dir / "secrets", name, timeout)
    passwords = [user.password for user in site.users]
    secrets = [_SECRET, _CLIENT_SECRET, _ACCOUNT.password, *passwords]
    balancer = BalancerInside(site.network, name, config, run_dir / f"mfalb-{name}", secrets=secrets)
    balancer.start()
    try:
        site.nodes[name] = node = Node(balancer, site.target(NODES[name]))
        node.wait_for_store()
        yield node
    finally:
        code = balancer.stop()
    balancer.assert_clean(0 if code == -signal.SIGKILL else code)  # a test may have killed it


def _config(secrets: Path, node: str, timeout: str) -> dict[str, Any]:
    def backends(port: int, **more: str) -> list[dict[str, str]]:
        return [{"name": name, "address": f"{address}:{port}", **more} for name, address in SERVERS.items()]

    client = {
        "name": "nas",
        "network": f"{CLIENT}/32",
        "secret_file": write_secret(secrets, "nas", _CLIENT_SECRET),
    }
    by_radius = {
        "name": "radius",
        "protocol": "radius",
        "bind": [f"0.0.0.0:{_RADIUS_PORT}"],
        "clients": [client],
        "pool": "mfa",
    }
    web = {"name": "web", "protocol": "http", "bind": [f"0.0.0.0:{_HTTP_PORT}"], "routes": [{"pool": "sdk"}]}
    of_servers = write_secret(secrets, "servers", _SECRET)
    return {
        "listeners": [by_radius, web],
        "pools": {
            "mfa": {
                "backends": backends(_RADIUS_PORT, secret_file=of_servers),
                "affinity": {"preset": "radius_challenge"},
            },
            "sdk": {"backends": backends(_HTTP_PORT), "affinity": {"preset": "azure_mfa_sdk"}},
        },
        "pins": {"store": {"type": "valkey", "addresses": [f"{STORE}:6379"], "timeout": timeout, "node": node}},
    }
