"""Two balancers before the same RADIUS servers, as two nodes that share their pins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from programs.balancer import Balancer
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Target
from programs.radius_pool import RadiusBackend, radius_pool


@dataclass(frozen=True, slots=True)
class Node:
    """One of them, and where its clients find it."""

    balancer: Balancer
    target: Target

    def operations(self, operation: str, result: str) -> int:
        """How often the pin store was asked for this with that result."""
        metrics = self.balancer.metrics()
        try:
            return int(metrics.total("mfalb_pin_store_operations_total", operation=operation, result=result))
        except KeyError:  # nothing was asked for yet
            return 0

    @property
    def store_failures(self) -> int:
        """How many calls to the pin store failed."""
        try:
            return int(self.balancer.metrics().total("mfalb_pin_store_failures_total"))
        except KeyError:  # none
            return 0

    def differs(self, node: str) -> float | None:
        """Whether another node is said to be set otherwise: 1 or 0; None when it was not seen."""
        for name, labels, value in self.balancer.metrics().samples:
            if name == "mfalb_node_settings_differ" and labels["node"] == node:
                return value
        return None

    @property
    def is_store_up(self) -> bool:
        return self.balancer.metrics().total("mfalb_pin_store_up") == 1

    def wait_for_store(self, *, up: bool = True) -> None:
        """Until it uses the pin store, or does without."""
        wait_until(lambda: self.is_store_up is up, f"mfalb_pin_store_up {int(up)}", deadline_s=20)


@contextmanager
def radius_node(
    name: str,
    servers: Sequence[RadiusBackend],
    run_dir: Path,
    shared: Mapping[str, Any],
    *,
    secrets: Sequence[str] = (),
) -> Iterator[Node]:
    """A node with the `store` of `shared`, which is not waited for, and as many `workers` as that says, or one.

    `shared` may have its admin socket under its name in `sockets`.
    """
    pool = radius_pool(servers, run_dir / name)
    pins = {"store": {**shared["store"], "node": name}}
    config = {**pool.config, "workers": shared.get("workers", 1), "pins": pins}
    if name in shared.get("sockets", {}):
        config["admin"] = {"socket": str(shared["sockets"][name])}
    with Balancer(config, run_dir / name, secrets=(*pool.secrets, *secrets)) as balancer:
        yield Node(balancer, Target(LOOPBACK, pool.port, pool.client_secret, parallel=8))


@contextmanager
def two_radius_nodes(
    servers: Sequence[RadiusBackend], run_dir: Path, shared: Mapping[str, Any], *, secrets: Sequence[str] = ()
) -> Iterator[tuple[Node, Node]]:
    """Both, using their pin store already."""
    with (
        radius_node("a", servers, run_dir, shared, secrets=secrets) as one,
        radius_node("b", servers, run_dir, shared, secrets=secrets) as two,
    ):
        one.wait_for_store()
        two.wait_for_store()
        yield one, two
