"""One address in a pool that takes work."""

from __future__ import annotations

from enum import Enum

from mfalb.balancer.config.models import Backend as BackendConfig
from mfalb.balancer.pools.health_state import Health, HealthState


class AdminState(Enum):
    """What an operator said: READY; DRAIN (nothing new, pinned work still served); MAINT (nothing at all)."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


class Backend:
    """A backend as it runs. Its identity is its name: a new weight or address keeps its history.

    The counters are plain integers, added to on the hot path and read when metrics are asked for.
    """

    __slots__ = ("active", "address", "admin_state", "config", "failures", "health", "name", "pool", "requests")

    def __init__(self, pool: str, config: BackendConfig, health: HealthState) -> None:
        self.pool = pool
        self.name = config.name
        self.address = config.address
        self.config = config
        self.health = health
        self.admin_state = AdminState.READY
        self.active = 0
        self.requests = 0
        self.failures = 0

    def __repr__(self) -> str:
        return f"Backend({self.pool}/{self.name})"

    @property
    def is_up(self) -> bool:
        return self.health.health is Health.UP

    @property
    def takes_new(self) -> bool:
        """Whether an exchange that carries no pin may come here."""
        return self.is_up and self.admin_state is AdminState.READY

    @property
    def takes_pinned(self) -> bool:
        """Whether what began here may go on here."""
        return self.is_up and self.admin_state is not AdminState.MAINT
