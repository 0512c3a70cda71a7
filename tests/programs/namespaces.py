"""Machines that are network namespaces, joined by a bridge: nothing there uses a port of the host, and links can fail.

    network = Network(hosts={"a": "10.77.0.1", "client": "10.77.0.50"}, servers=["10.77.0.11"])

`hosts` have a namespace each; `servers` are addresses of the bridge's own namespace, `HUB`. It takes root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from programs.balancer import Balancer
from programs.ports import LOOPBACK
from programs.process import Launch, find_program

HUB: Final = "hub"


def ip(*words: str) -> str:
    """What ip(8) prints."""
    command = [find_program("ip"), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Network:
    """Namespaces by their short names, on one bridge. Deleting them takes all their interfaces along."""

    def __init__(self, hosts: Mapping[str, str], servers: Iterable[str]) -> None:
        self.hosts: Final = dict(hosts)
        self._servers = list(servers)
        self._prefix = f"mfalb{os.getpid()}"
        self._names: list[str] = []

    def full(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def build(self) -> None:
        self._add(HUB)
        ip("-n", self.full(HUB), "link", "add", "br0", "type", "bridge")
        ip("-n", self.full(HUB), "link", "set", "br0", "up")
        for address in self._servers:
            ip("-n", self.full(HUB), "address", "add", f"{address}/24", "dev", "br0")
        for name, address in self.hosts.items():
            self._add(name)
            there = ("peer", "name", f"to-{name}", "netns", self.full(HUB))
            ip("-n", self.full(name), "link", "add", "eth0", "type", "veth", *there)
            ip("-n", self.full(name), "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", self.full(name), "link", "set", "eth0", "up")
            ip("-n", self.full(HUB), "link", "set", f"to-{name}", "master", "br0")
            ip("-n", self.full(HUB), "link", "set", f"to-{name}", "up")

    def _add(self, name: str) -> None:
        ip("netns", "add", self.full(name))
        self._names.append(name)
        ip("-n", self.full(name), "link", "set", "lo", "up")

    def close(self) -> None:
        for name in self._names:
            ip("netns", "del", self.full(name))

    def inside(self, name: str) -> tuple[str, ...]:
        """The words before a command that has it run there."""
        return (find_program("ip"), "netns", "exec", self.full(name))

    def holders(self, address: str, among: Sequence[str]) -> list[str]:
        """Those that have this address now."""
        return [
            one for one in among if f" {address}/" in ip("-n", self.full(one), "-4", "address", "show", "dev", "eth0")
        ]

    # ------------------------------------------------------------------------------ links that fail

    def pull_the_plug(self, name: str) -> None:
        """The link of a host loses its carrier, and the host sees that."""
        ip("-n", self.full(HUB), "link", "set", f"to-{name}", "down")

    def part(self, *names: str) -> None:
        """What any of these hosts sends to another of them vanishes, and no link goes down. All else passes."""
        self._isolate(names, "on")

    def join(self, *names: str) -> None:
        """Packets between these hosts pass again."""
        self._isolate(names, "off")

    def _isolate(self, names: Sequence[str], state: str) -> None:
        for name in names:
            ip("-n", self.full(HUB), "link", "set", f"to-{name}", "type", "bridge_slave", "isolated", state)


class BalancerInside(Balancer):
    """A balancer on one of the hosts, whose admin pages are read there."""

    def __init__(
        self, network: Network, host: str, config: Mapping[str, Any], run_dir: Path, *, secrets: Sequence[str] = ()
    ) -> None:
        super().__init__(config, run_dir, secrets=secrets, launch=Launch(wrapper=network.inside(host)))
        self._reader = [*network.inside(host), "curl", "-sS", "--fail", "--max-time", "5"]

    def get(self, path: str) -> bytes:
        """The body of an admin page. Raises ConnectionError when there is none."""
        command = [*self._reader, f"http://{LOOPBACK}:{self.admin_port}{path}"]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise ConnectionError(f"GET {path}: {done.stderr.decode()}")
        return done.stdout
