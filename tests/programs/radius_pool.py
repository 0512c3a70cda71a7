"""The plainest configuration for RADIUS: one listener on loopback, one pool of servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from programs.balancer import write_secret
from programs.ports import LOOPBACK, free_udp_port

STATE_PINS: Final[Mapping[str, Any]] = {"type": "radius_state"}
NO_PINS: Final[Mapping[str, Any]] = {"type": "none"}
QUICK_HEALTH: Final[Mapping[str, Any]] = {"type": "radius", "interval": "500ms", "fast": True, "rise": 1, "fall": 3}


class RadiusBackend(Protocol):
    """A server as the balancer must know it."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def secret(self) -> str: ...


@dataclass(frozen=True, slots=True)
class RadiusPool:
    """A configuration, the port its listener will have, and the secrets in it."""

    config: dict[str, Any]
    port: int
    client_secret: str
    secrets: tuple[str, ...]


def radius_pool(
    servers: Sequence[RadiusBackend],
    run_dir: Path,
    *,
    affinity: Mapping[str, Any] = STATE_PINS,
    health: Mapping[str, Any] = QUICK_HEALTH,
    client_secret: str = "towards-the-clients-0",
) -> RadiusPool:
    """A balancer in front of `servers`, probing them with Status-Server.

    The client's secret is none of theirs unless it is given. On loopback every server could be a client, and so gets a
    Proxy-State: see `without_proxy_state`.
    """
    port = free_udp_port()
    secret_dir = run_dir / "secrets"
    backends = [
        {
            "name": server.name,
            "address": server.address,
            "secret_file": write_secret(secret_dir, server.name, server.secret),
        }
        for server in servers
    ]
    listener = {
        "name": "radius",
        "protocol": "radius",
        "bind": [f"{LOOPBACK}:{port}"],
        "clients": [
            {
                "name": "loopback",
                "network": "127.0.0.0/8",
                "secret_file": write_secret(secret_dir, "clients", client_secret),
            }
        ],
        "pool": "mfa",
    }
    pool = {
        "backends": backends,
        "affinity": dict(affinity),
        "health_check": dict(health),
    }
    return RadiusPool(
        {"listeners": [listener], "pools": {"mfa": pool}},
        port,
        client_secret,
        (client_secret, *(server.secret for server in servers)),
    )


def without_proxy_state(pool: RadiusPool) -> RadiusPool:
    """The same for servers that no client could be: they get what the client sent, and nothing more."""
    for listener in pool.config["listeners"]:
        listener["add_proxy_state"] = "never"
    return pool
