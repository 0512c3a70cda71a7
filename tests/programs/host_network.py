"""Hosts as network namespaces, each behind one router: what a firewall drops nobody gets round, in one network neither.

    with HostNetwork({"web": ("10.0.3.10",), "browser": ("198.51.100.7",)}, run_dir) as network:
        network.load(rules)
        network.at("browser", fetch, "http://10.0.3.10/")

Every host has addresses of its own (/32) and one line, to the router. Nothing of this machine's network is used.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from programs.process import find_program

ROUTER: Final = "router"
_GATEWAY: Final = "169.254.0.1"  # the router's address on each line
_NET: Final = 0x40000000  # CLONE_NEWNET
_WITH_FILES: Final = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'
_NOBODY_TO_ASK: Final = "nameserver 127.0.0.1\n"  # where nothing listens: names come from the hosts file

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Counted:
    """A rule's comment and how many packets it was for."""

    comment: str
    packets: int


class HostNetwork:
    """Hosts with their addresses, the one they call from first; a context manager. `hosts` is their /etc/hosts."""

    def __init__(self, addresses: Mapping[str, Sequence[str]], run_dir: Path, hosts: str) -> None:
        self._addresses = addresses
        self._run_dir = run_dir
        self._files = {"hosts": hosts, "resolv.conf": _NOBODY_TO_ASK}
        self._prefix = f"mfalb{os.getpid()}"
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._stack = ExitStack()

    # ------------------------------------------------------------------------------ life

    def __enter__(self) -> Self:
        self._run_dir.mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            (self._run_dir / name).write_text(content, "utf-8")
        with ExitStack() as stack:
            for name in (ROUTER, *self._addresses):
                _run("ip", "netns", "add", self._full(name))
                stack.callback(_run, "ip", "netns", "del", self._full(name))
                _run("ip", "-n", self._full(name), "link", "set", "lo", "up")
            for number, (name, addresses) in enumerate(self._addresses.items()):
                self._connect(name, addresses, f"line{number}")
            self._in_router("sysctl", "-qw", "net.ipv4.ip_forward=1")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._threads.values():
            thread.shutdown()
        self._stack.close()

    def _full(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _connect(self, name: str, addresses: Sequence[str], line: str) -> None:
        host, router = self._full(name), self._full(ROUTER)
        _batch(
            host,
            f"link add eth0 type veth peer name {line} netns {router}",
            *(f"address add {address}/32 dev eth0" for address in addresses),
            "link set eth0 up",
            f"route add {_GATEWAY} dev eth0 scope link",
            f"route add default via {_GATEWAY} src {addresses[0]}",
        )
        _batch(
            router,
            f"address add {_GATEWAY}/32 dev {line}",
            f"link set {line} up",
            *(f"route add {address}/32 dev {line}" for address in addresses),
        )

    # ------------------------------------------------------------------------------ hosts

    def wrapper(self, host: str) -> tuple[str, ...]:
        """What runs a program at a host, for `Launch`."""
        files = (str(self._run_dir / name) for name in self._files)
        return (find_program("ip"), "netns", "exec", self._full(host), "sh", "-c", _WITH_FILES, "sh", *files)

    def at(
        self, host: str, action: Callable[_Arguments, _Result], *args: _Arguments.args, **more: _Arguments.kwargs
    ) -> _Result:
        """What `action` returns when it runs at a host: its sockets are there, and programs that it starts."""
        if host not in self._threads:
            path = f"/run/netns/{self._full(host)}"
            self._threads[host] = ThreadPoolExecutor(1, initializer=_enter, initargs=(Path(path),))
        return self._threads[host].submit(action, *args, **more).result()

    # ------------------------------------------------------------------------------ the router

    def load(self, rules: str) -> None:
        """Rules for nft take the place of those before, at once; counters begin anew."""
        self._in_router("nft", "-f", "-", text=rules)

    def counted(self) -> list[Counted]:
        """Each rule with a counter, in its order."""
        listed = json.loads(self._in_router("nft", "-j", "list", "ruleset"))["nftables"]
        rules = [one["rule"] for one in listed if "rule" in one]
        return [
            Counted(rule.get("comment", ""), part["counter"]["packets"])
            for rule in rules
            for part in rule["expr"]
            if "counter" in part
        ]

    def forget(self, destination: str, transport: str, port: int) -> None:
        """The router knows no more of any connection to a port: the next packet of each is for the rules."""
        words = ["-D", "-p", transport, "-d", destination, "--dport", str(port)]
        self._in_router("conntrack", *words, may_fail=True)  # it fails when there were none

    def _in_router(self, *words: str, text: str = "", may_fail: bool = False) -> str:
        command = [find_program("ip"), "netns", "exec", self._full(ROUTER), find_program(words[0]), *words[1:]]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert may_fail or done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout


@contextmanager
def entered(path: Path) -> Iterator[None]:
    """This thread is in another network namespace meanwhile, and so are threads and programs that it starts."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(path)
        yield
    finally:
        _enter(Path(f"/proc/self/fd/{before}"))
        os.close(before)


def _enter(path: Path) -> None:
    """Moves this thread into a network namespace (Python has os.setns since 3.12)."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(descriptor, _NET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {path}")
    finally:
        os.close(descriptor)


def _run(*words: str) -> None:
    subprocess.run([find_program(words[0]), *words[1:]], check=True, capture_output=True)


def _batch(namespace: str, *lines: str) -> None:
    command = [find_program("ip"), "-n", namespace, "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def addresses_in(hosts: str) -> dict[str, tuple[str, ...]]:
    """The hosts of a hosts file (the first name of each line) with all their addresses."""
    found: dict[str, tuple[str, ...]] = {}
    for address, name, *_ in _lines(hosts.splitlines()):
        found[name] = (*found.get(name, ()), address)
    return found


def address_of(hosts: str, wanted: str) -> str:
    """The address that a hosts file gives a name."""
    return next(address for address, *names in _lines(hosts.splitlines()) if wanted in names)


def _lines(lines: Iterable[str]) -> list[list[str]]:
    return [words for line in lines if (words := line.partition("#")[0].split())]
