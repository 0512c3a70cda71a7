"""Configurations with more than one RADIUS service: listeners on loopback, and pools of servers and NASes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from programs.balancer import write_secret
from programs.ports import LOOPBACK, free_udp_port
from programs.radius_pool import QUICK_HEALTH

CLIENT_SECRET = "towards-the-clients-0"


@dataclass(slots=True)
class Services:
    """A configuration that grows service by service; `ports` are those of its listeners, by name."""

    run_dir: Path
    config: dict[str, Any] = field(default_factory=lambda: {"listeners": [], "pools": {}})
    ports: dict[str, int] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=lambda: [CLIENT_SECRET])

    def add(
        self, service: str, backends: Sequence[Mapping[str, Any]], pool: Mapping[str, Any], client: str = "vpn"
    ) -> None:
        """A listener and a pool, both named as the service is; its one client is all of loopback.

        `backends` have a `secret`, which is written to a file; `pool` are the pool's other keys.
        """
        self.ports[service] = free_udp_port()
        secret_file = write_secret(self.run_dir / "secrets", "clients", CLIENT_SECRET)
        listener = {
            "name": service,
            "protocol": "radius",
            "service": service,
            "bind": [f"{LOOPBACK}:{self.ports[service]}"],
            "clients": [{"name": client, "network": "127.0.0.0/8", "secret_file": secret_file}],
            "pool": service,
            "add_proxy_state": "never",  # on loopback every server could be a client
        }
        self.config["listeners"].append(listener)
        self.config["pools"][service] = {"backends": [self._backend(one) for one in backends], **pool}

    def listener(self, service: str) -> dict[str, Any]:
        (found,) = (one for one in self.config["listeners"] if one["name"] == service)
        assert isinstance(found, dict)
        return found

    def _backend(self, backend: Mapping[str, Any]) -> dict[str, Any]:
        secret = str(backend["secret"])
        self.secrets.append(secret)
        secret_file = write_secret(self.run_dir / "secrets", str(backend["name"]), secret)
        return {key: value for key, value in backend.items() if key != "secret"} | {"secret_file": secret_file}


WATCHED: Mapping[str, Any] = {"health_check": dict(QUICK_HEALTH)}
