"""Which programs stand beside mfalb in a benchmark, and how is each set up for the same work?

One file a program. `radius` and `https` take a task and give a contender that is configured but not started; all of
them balance (or, where they cannot, forward) to the same backends and write an access log. Debian's defaults stand
unless a comment says why not.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from programs.process import Launch, Program, find_program

READY_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class RadiusTask:
    """Forward PAP requests from clients on loopback to backends; both sides may know the same secret or not."""

    run_dir: Path
    backend_ports: tuple[int, ...]
    client_secret: str
    backend_secret: str
    cores: frozenset[int]
    workers: int = 1  # of mfalb

    @property
    def launch(self) -> Launch:
        return Launch(pinned_to_cores=self.cores, ready_deadline_s=READY_LIMIT_S)


@dataclass(frozen=True, slots=True)
class HttpsTask:
    """Balance HTTP/1.1 to plain HTTP backends, plain at one port and with TLS at another."""

    run_dir: Path
    backend_ports: tuple[int, ...]
    cert: Path
    key: Path
    cores: frozenset[int]
    workers: int = 1  # of mfalb

    @property
    def launch(self) -> Launch:
        return Launch(pinned_to_cores=self.cores, ready_deadline_s=READY_LIMIT_S)


@dataclass(frozen=True, slots=True)
class RadiusContender:
    """A program not yet started, and the UDP port where it will take requests."""

    name: str
    version: str
    program: Program
    port: int


@dataclass(frozen=True, slots=True)
class HttpsContender:
    """A program not yet started, and its TCP ports for plain HTTP and for TLS."""

    name: str
    version: str
    program: Program
    plain_port: int
    tls_port: int


def version_of(*command: str) -> str:
    """The first version number in what a program says of itself."""
    said = subprocess.run([find_program(command[0]), *command[1:]], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(?:\.\d+)*", said.stdout + said.stderr)
    return found[0] if found else "unknown"
