"""Promise: two nodes with keepalived hold one address; when one can serve no more, the other does, and pins stay good.

The nodes, a client and the servers are network namespaces joined by a bridge; no port of the host is used.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs import vip_backend
from programs.balancer import Balancer, write_secret
from programs.process import Launch, Logged, Program, find_program, wait_until

CONF = Path(__file__).parents[2] / "conf" / "keepalived"
VIP = "10.77.0.100"
SERVERS = {"mfa1": "10.77.0.11", "mfa2": "10.77.0.12"}
NODES = {"a": "10.77.0.1", "b": "10.77.0.2"}
CLIENT = "10.77.0.50"
SECRET = "between-balancer-and-servers"
CLIENT_SECRET = "towards-the-client"
MOVE_S = 20.0


def ip(*words: str) -> str:
    command = [find_program("ip"), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Network:
    """Namespaces by their short names, on one bridge. Deleting them takes all their interfaces along."""

    def __init__(self) -> None:
        self._prefix = f"mfalb{os.getpid()}"
        self._names: list[str] = []

    def full(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def build(self) -> None:
        self._add("hub")
        ip("-n", self.full("hub"), "link", "add", "br0", "type", "bridge")
        ip("-n", self.full("hub"), "link", "set", "br0", "up")
        for address in SERVERS.values():
            ip("-n", self.full("hub"), "address", "add", f"{address}/24", "dev", "br0")
        for name, address in {**NODES, "client": CLIENT}.items():
            self._add(name)
            hub = self.full("hub")
            there = ("peer", "name", f"to-{name}", "netns", hub)
            ip("-n", self.full(name), "link", "add", "eth0", "type", "veth", *there)
            ip("-n", self.full(name), "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", self.full(name), "link", "set", "eth0", "up")
            ip("-n", hub, "link", "set", f"to-{name}", "master", "br0")
            ip("-n", hub, "link", "set", f"to-{name}", "up")

    def _add(self, name: str) -> None:
        ip("netns", "add", self.full(name))
        self._names.append(name)
        ip("-n", self.full(name), "link", "set", "lo", "up")

    def close(self) -> None:
        for name in self._names:
            ip("netns", "del", self.full(name))

    def inside(self, name: str) -> tuple[str, ...]:
        return (find_program("ip"), "netns", "exec", self.full(name))

    def holders(self) -> list[str]:
        """The nodes that have the VIP."""
        return [
            node for node in NODES if f" {VIP}/" in ip("-n", self.full(node), "-4", "address", "show", "dev", "eth0")
        ]


@dataclass
class Site:
    """Two nodes with a balancer and a keepalived each."""

    network: Network
    balancers: dict[str, Balancer]
    vrrp: dict[str, Program]

    def wait_for_holder(self, node: str) -> None:
        wait_until(lambda: self.network.holders() == [node], f"the address at {node} alone", deadline_s=MOVE_S)

    def get(self, cookie: str = "") -> tuple[str, str]:
        """The name of the server that answered, and the balancer's cookie."""
        command = [*self.network.inside("client"), "curl", "-si", "--max-time", "5"]
        command += ["-H", f"Cookie: {cookie}"] if cookie else []
        url = f"http://{VIP}:8080/MultiFactorAuth"
        text = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
        found = re.search(r"^set-cookie: ([^;\r\n]+)", text, re.IGNORECASE | re.MULTILINE)
        return text.splitlines()[-1], found[1] if found else ""

    def start_sign_in(self) -> subprocess.Popen[str]:
        """A RADIUS client that sends again each second, the same datagram, until it is answered."""
        command = [*self.network.inside("client"), "radclient", "-x", "-t", "1", "-r", "30", f"{VIP}:1812", "auth"]
        client = subprocess.Popen(
            [*command, CLIENT_SECRET],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert client.stdin is not None
        client.stdin.write('User-Name = "alice"\nUser-Password = "x"\nMessage-Authenticator = 0x00\n')
        client.stdin.close()
        client.stdin = None
        return client


def accepted(client: subprocess.Popen[str]) -> bool:
    said, _ = client.communicate(timeout=60)
    return "Received Access-Accept" in said


def config_of(secrets: Path) -> dict[str, Any]:
    """The same on both nodes, cookie key included."""

    def backends(port: int, **more: str) -> list[dict[str, str]]:
        return [{"name": name, "address": f"{address}:{port}", **more} for name, address in SERVERS.items()]

    to_client = {"name": "nas", "network": f"{CLIENT}/32", "secret_file": write_secret(secrets, "nas", CLIENT_SECRET)}
    of_servers = write_secret(secrets, "servers", SECRET)
    web = {"name": "web", "protocol": "http", "bind": ["0.0.0.0:8080"]}
    by_radius = {
        "name": "radius",
        "protocol": "radius",
        "bind": ["0.0.0.0:1812"],
        "clients": [to_client],
        "pool": "mfa",
    }
    return {
        "listeners": [web | {"routes": [{"path": "/MultiFactorAuth", "pool": "portal"}]}, by_radius],
        "pools": {
            "portal": {
                "backends": backends(vip_backend.HTTP_PORT),
                "affinity": {"preset": "azure_mfa_portal"},
            },
            "mfa": {"backends": backends(vip_backend.RADIUS_PORT, secret_file=of_servers)},
        },
        "pins": {"cookie_keys_file": write_secret(secrets, "keys", base64.b64encode(bytes(range(32))).decode())},
    }


def keepalived(network: Network, node: str, admin_port: int, run_dir: Path) -> Program:
    """With the example's instance `first`, with our names and addresses."""
    run_dir.mkdir(parents=True)
    text = (CONF / "keepalived.conf").read_text().partition("vrrp_instance second")[0]
    for old, new in (
        ("    enable_script_security\n", ""),  # the test's directory is not below root's alone
        ("script_user nobody", "script_user root"),
        ("/etc/keepalived/", f"{CONF}/"),
        ("127.0.0.1:9300", f"127.0.0.1:{admin_port}"),
        ("192.0.2.10/24", f"{VIP}/24"),
        ("priority 120 ", f"priority {120 if node == 'a' else 100} "),
    ):
        assert old in text
        text = text.replace(old, new)
    conf = run_dir / "keepalived.conf"
    conf.write_text(text)
    pids = [word for part in ("pid", "vrrp_pid", "checkers_pid") for word in (f"--{part}", str(run_dir / part))]
    command = ["keepalived", "--vrrp", "--dont-fork", "--log-console", "--log-detail", "-f", str(conf), *pids]
    launch = Launch(wrapper=network.inside(node))
    return Program("keepalived", command, run_dir, ready=Logged("BACKUP STATE"), launch=launch)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        network.build()
        for name, address in SERVERS.items():
            command = [sys.executable, vip_backend.__file__, name, address, SECRET]
            launch = Launch(wrapper=network.inside("hub"))
            stack.enter_context(Program(name, command, tmp_path / name, ready=Logged("serving"), launch=launch))
        site = Site(network, {}, {})
        for node in NODES:
            launch = Launch(wrapper=network.inside(node))
            config = config_of(tmp_path / "secrets")
            balancer = site.balancers[node] = Balancer(config, tmp_path / f"mfalb-{node}", launch=launch)
            balancer.start()
            stack.callback(balancer.stop)
            program = keepalived(network, node, balancer.admin_port, tmp_path / f"vrrp-{node}")
            site.vrrp[node] = stack.enter_context(program)
        site.wait_for_holder("a")
        yield site


def pinned_to_both(site: Site) -> dict[str, str]:
    """A cookie for each server."""
    cookies: dict[str, str] = {}
    while len(cookies) < len(SERVERS):
        name, cookie = site.get()
        assert cookie
        cookies[name] = cookie
    return cookies


def check_that_work_goes_on(site: Site, cookies: dict[str, str]) -> None:
    for _ in range(5):
        assert {name: site.get(cookie)[0] for name, cookie in cookies.items()} == {name: name for name in cookies}


def test_the_address_moves_when_the_balancer_dies_and_sessions_and_retransmissions_go_on(site: Site) -> None:
    cookies = pinned_to_both(site)
    assert accepted(site.start_sign_in())
    site.balancers["a"].kill()
    sign_in = site.start_sign_in()  # its first datagrams meet a node without a balancer
    site.wait_for_holder("b")
    check_that_work_goes_on(site, cookies)
    assert accepted(sign_in)


def test_the_address_moves_when_keepalived_ends_and_sessions_go_on(site: Site) -> None:
    cookies = pinned_to_both(site)
    site.vrrp["a"].stop()
    sign_in = site.start_sign_in()
    site.wait_for_holder("b")
    check_that_work_goes_on(site, cookies)
    assert accepted(sign_in)
