"""Free ports of this machine, for programs that want to be told theirs before they start."""

from __future__ import annotations

import random
import socket
from typing import Final

from mfalb.errors import MfalbError

LOOPBACK: Final = "127.0.0.1"
# Below Linux's ephemeral range (32768 and up): no client's socket takes one between our look and a program's bind
_FIRST: Final = 20_000
_LAST: Final = 32_000
_ATTEMPTS: Final = 2_000

_random = random.SystemRandom()  # two demonstrations that begin at once look for their ports in different places


class NoFreePort(MfalbError):  # noqa: N818 - says what happened
    """Nearly all ports that may be used are taken."""


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody has now, for TCP and for UDP; they differ. Raises NoFreePort."""
    found: list[int] = []
    for _ in range(_ATTEMPTS):
        if len(found) == count:
            return found
        port = _random.randint(_FIRST, _LAST)
        if port not in found and _is_free(port):
            found.append(port)
    raise NoFreePort(f"no {count} free ports between {_FIRST} and {_LAST}")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                return False
    return True
