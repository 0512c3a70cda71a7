"""Debian's redis-server as the store of shared pins: one server, a master with a replica and Sentinels, a cluster."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Program, find_program, wait_until

PASSWORD: Final = "a-password-of-the-pin-störe"
_QUIET: Final = ("save ''", "appendonly no", "repl-diskless-sync-delay 0", "repl-ping-replica-period 1")


def _is_listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False


class Redis(Program):
    """A redis-server on a port of its own, which it has again after `start`; it keeps nothing on disk."""

    def __init__(
        self,
        run_dir: Path,
        *,
        name: str = "redis",
        port: int = 0,
        settings: Sequence[str] = (),
        cli: Sequence[str] = (),
    ) -> None:
        self.port: Final = port or free_tcp_port()
        self._cli = cli
        is_sentinel = any(line.startswith("sentinel ") for line in settings)
        directory = run_dir / name
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "redis.conf"
        lines = [f"bind {LOOPBACK}", f"dir {directory}", *settings]
        if not any(line.startswith("port ") for line in lines):
            lines.append(f"port {self.port}")
        config.write_text("\n".join([*lines, *(() if is_sentinel else _QUIET)]) + "\n", "utf-8")
        arguments = ["redis-server", str(config), *(["--sentinel"] if is_sentinel else [])]
        super().__init__(name, arguments, directory, ready=lambda _: _is_listening(self.port), launch=Launch(grace_s=3))

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def command(self, *words: str) -> str:
        """What redis-cli prints for a command, without the newline at its end."""
        finished = subprocess.run(
            [find_program("redis-cli"), "-h", LOOPBACK, "-p", str(self.port), *self._cli, *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return finished.stdout.rstrip("\n")

    @property
    def is_master(self) -> bool:
        """Whether it takes writes now. A Sentinel that promotes it closes its connections: then it is asked again."""
        with suppress(subprocess.CalledProcessError):
            return "role:master" in self.command("INFO", "replication")
        return False

    def pins(self) -> dict[str, str]:
        """The pins that it holds, by key."""
        keys = [key for key in self.command("--scan", "--pattern", "mfalb:pin:*").splitlines() if key]
        return {key: self.command("GET", key) for key in keys}

    def wait_for_nodes(self, count: int) -> None:
        """Until so many balancers have announced themselves."""
        wait_until(lambda: self.command("SCARD", "mfalb:nodes") == str(count), f"{count} nodes in the pin store")


def store_config(redis: Redis, **more: Any) -> dict[str, Any]:
    """The `pins` of a configuration whose nodes share their pins in this server.

    A sign-in may wait for long: tests run beside others, and what they prove is no matter of milliseconds.
    """
    return {"store": {"type": "valkey", "addresses": [redis.address], "timeout": "1s", **more}}


def authenticated(run_dir: Path) -> Redis:
    """One that wants a password."""
    return Redis(run_dir, settings=[f"requirepass {PASSWORD}"], cli=["-a", PASSWORD, "--no-auth-warning"])


def over_tls(run_dir: Path, files: CertificateFiles) -> Redis:
    """One that speaks TLS only, and wants a certificate of its clients."""
    port = free_tcp_port()
    settings = [
        "port 0",
        f"tls-port {port}",
        f"tls-cert-file {files.cert}",
        f"tls-key-file {files.key}",
        f"tls-ca-cert-file {files.ca}",
    ]
    cli = ["--tls", "--cacert", str(files.ca), "--cert", str(files.cert), "--key", str(files.key)]
    return Redis(run_dir, port=port, settings=settings, cli=cli)


# ---------------------------------------------------------------------------------------- Sentinels, and a cluster


@dataclass(frozen=True, slots=True)
class Watched:
    """A master, its replica, and the Sentinels that make the replica master when the master is gone."""

    master: Redis
    replica: Redis
    sentinels: tuple[Redis, ...]

    @property
    def store(self) -> Mapping[str, Any]:
        """What a configuration says of it."""
        addresses = [sentinel.address for sentinel in self.sentinels]
        return {"store": {"type": "valkey", "addresses": addresses, "sentinel": "pins", "timeout": "1s"}}


@contextmanager
def watched_by_sentinels(run_dir: Path) -> Iterator[Watched]:
    """Three Sentinels, of which two must agree that a master is gone after half a second."""
    with ExitStack() as running:
        master = running.enter_context(Redis(run_dir, name="master"))
        follow = [f"replicaof {LOOPBACK} {master.port}"]
        replica = running.enter_context(Redis(run_dir, name="replica", settings=follow))
        wait_until(lambda: "master_link_status:up" in replica.command("INFO", "replication"), "the replica's link")
        watch = [
            f"sentinel monitor pins {LOOPBACK} {master.port} 2",
            "sentinel down-after-milliseconds pins 500",
            "sentinel failover-timeout pins 5000",
        ]
        sentinels = tuple(
            running.enter_context(Redis(run_dir, name=f"sentinel{number}", settings=watch)) for number in range(3)
        )
        for sentinel in sentinels:
            wait_until(lambda one=sentinel: _knows_all(one), "each Sentinel knows the replica and the others")  # type: ignore[misc]
        yield Watched(master, replica, sentinels)


def _knows_all(sentinel: Redis) -> bool:
    words = sentinel.command("SENTINEL", "MASTER", "pins").splitlines()
    told = dict(zip(words[::2], words[1::2], strict=False))
    return told.get("num-slaves") == "1" and told.get("num-other-sentinels") == "2"


@contextmanager
def cluster_of_three(run_dir: Path) -> Iterator[tuple[Redis, ...]]:
    """Three masters that share the slots."""
    with ExitStack() as running:
        nodes = []
        for number in range(3):
            port = free_tcp_port()
            settings = ["cluster-enabled yes", "cluster-node-timeout 2000", f"cluster-port {free_tcp_port()}"]
            nodes.append(running.enter_context(Redis(run_dir, name=f"node{number}", port=port, settings=settings)))
        create = ["--cluster", "create", *(node.address for node in nodes), "--cluster-yes"]
        subprocess.run([find_program("redis-cli"), *create], capture_output=True, timeout=60, check=True)
        for node in nodes:
            wait_until(lambda one=node: "cluster_state:ok" in one.command("CLUSTER", "INFO"), "the cluster is formed")  # type: ignore[misc]
        yield tuple(nodes)
