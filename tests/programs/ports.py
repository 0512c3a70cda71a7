"""Free loopback ports for programs that want to be told their port before they start."""

from __future__ import annotations

import random
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"

# Below Linux's ephemeral range (32768 and up): no client socket can take a port between our look and a program's bind.
_FIRST: Final = 20_000
_LAST: Final = 32_000
_ATTEMPTS: Final = 200

_random = random.SystemRandom()
_given: set[int] = set()


def _is_free(kind: socket.SocketKind, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _free_port(*kinds: socket.SocketKind) -> int:
    for _ in range(_ATTEMPTS):
        port = _random.randint(_FIRST, _LAST)
        if port not in _given and all(_is_free(kind, port) for kind in kinds):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port on {LOOPBACK} in {_ATTEMPTS} attempts")


def free_udp_port() -> int:
    """A UDP port that is free now and was not given before by this process."""
    return _free_port(socket.SOCK_DGRAM)


def free_tcp_port() -> int:
    """A TCP port that is free now and was not given before by this process."""
    return _free_port(socket.SOCK_STREAM)
