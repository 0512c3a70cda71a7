"""One address in a pool that takes work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from mfalb.balancer.config.models import Backend as BackendConfig
from mfalb.balancer.pools.health_state import Health, HealthState
from mfalb.balancer.pools.watchdog import Watchdog

WARM_STEPS: Final = 20  # in so many equal steps a slow start gives a backend its whole share


class AdminState(Enum):
    """What an operator said: READY; DRAIN (nothing new, pinned work still served); MAINT (nothing at all)."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True, slots=True)
class LastCheck:
    """What the last probe of a backend found. `at` is monotonic seconds, `text` a few words: `status 200`."""

    at: float
    seconds: float
    is_good: bool
    text: str


class Backend:
    """A backend as it runs. Its identity is its name: a new weight or address keeps its history.

    The counters are plain integers, added to on the hot path and read when metrics are asked for. What the data path of
    RADIUS tells the watchdog is as cheap: `last_reply_at` is assigned when a sound answer was taken (whatever its code,
    and only then: forged and late datagrams prove nothing), `suspect` is called when a client's retransmit is passed
    on. Times are monotonic seconds; 0.0 is never.

    What the data path tells of failures is as cheap: `consecutive_failures` is set to 0 by each good answer, if it is
    not 0 already. `is_ejected` is health evidence beside `health`: it counts as down until `ejected_until`, a
    time that stays when it is over. `degraded` says what a backend lacks that is up and used ("" for nothing).

    `pull` is how much of the new work it draws, beside others: its weight in steps of a slow start, all of them when
    it is warm.
    """

    __slots__ = (
        "active",
        "address",
        "admin_state",
        "config",
        "connection_limit",
        "consecutive_failures",
        "degraded",
        "ejected_until",
        "ejections",
        "ejections_in_row",
        "failures",
        "health",
        "is_backup",
        "is_ejected",
        "last_check",
        "last_reply_at",
        "name",
        "on_suspicion",
        "pool",
        "probes_answered",
        "probes_lost",
        "probes_sent",
        "pull",
        "requests",
        "suspected_at",
        "warming_since",
        "watchdog",
        "weight",
    )

    def __init__(self, pool: str, config: BackendConfig, health: HealthState, watchdog: Watchdog | None = None) -> None:
        self.pool = pool
        self.name = config.name
        self.address = config.address
        self.config = config
        self.health = health
        self.watchdog = watchdog
        self.admin_state = AdminState.READY
        self.weight = config.weight
        self.is_backup = config.backup
        self.connection_limit = config.connections or 0  # 0: none
        self.pull = config.weight * WARM_STEPS
        self.warming_since: float | None = None
        self.active = 0
        self.requests = 0
        self.failures = 0
        self.consecutive_failures = 0
        self.is_ejected = False
        self.ejected_until = -inf
        self.ejections = 0
        self.ejections_in_row = 0
        self.degraded = ""
        self.last_check: LastCheck | None = None
        self.probes_sent = 0
        self.probes_answered = 0
        self.probes_lost = 0
        self.last_reply_at = 0.0
        self.suspected_at = 0.0
        self.on_suspicion: Callable[[], None] | None = None  # set by whoever watches this backend

    def reconfigure(self, config: BackendConfig) -> None:
        """Be what the configuration says now; its history stays.

        So does a weight that an operator set, until the configuration has another one.
        """
        if config.weight != self.config.weight:
            self.weight = config.weight
            self.pull = self.weight * WARM_STEPS
            self.warming_since = None
        if config.address != self.config.address:
            self.address = config.address
        self.config = config
        self.is_backup = config.backup
        self.connection_limit = config.connections or 0

    def __repr__(self) -> str:
        return f"Backend({self.pool}/{self.name})"

    @property
    def is_up(self) -> bool:
        """Whether probes and traffic have shown that it works."""
        return self.health.health is Health.UP and not self.is_ejected

    @property
    def is_full(self) -> bool:
        """Whether as many exchanges are under way there as may be."""
        return 0 < self.connection_limit <= self.active

    @property
    def is_asked_for_new(self) -> bool:
        """Whether configuration (weight 0 is for pinned work only) and operator want new work to come here."""
        return self.admin_state is AdminState.READY and self.weight > 0

    @property
    def takes_new(self) -> bool:
        """Whether an exchange that carries no pin may come here."""
        return self.is_up and self.is_asked_for_new

    @property
    def takes_pinned(self) -> bool:
        """Whether what began here may go on here."""
        return self.is_up and self.admin_state is not AdminState.MAINT

    @property
    def may_serve(self) -> bool:
        """Whether it may get new work in need: when it is up, though it may be leaving."""
        return self.may_serve_again and not self.is_ejected

    @property
    def may_serve_again(self) -> bool:
        """The same, once it is no longer ejected."""
        is_up = self.health.health is Health.UP
        return is_up and self.weight > 0 and self.admin_state is not AdminState.MAINT

    @property
    def share(self) -> float:
        """How much of its weight counts: all of it (1.0) but for a slow start."""
        return self.pull / (self.weight * WARM_STEPS) if self.weight else 1.0

    def set_weight(self, weight: int) -> None:
        """Another weight from now on; a slow start goes on from the step that it is at."""
        steps = max(self.pull // self.weight, 1) if self.weight and self.warming_since is not None else WARM_STEPS
        self.weight = weight
        self.pull = weight * steps

    def warm_up(self, now: float) -> None:
        """Begin a slow start: it has just come up or back into service, with empty caches and cold connections."""
        self.warming_since = now
        self.pull = self.weight

    def warm(self, now: float, slow_start_s: float) -> bool:
        """Go on with a slow start: the share grows linearly with time. True when it is another one now."""
        if self.warming_since is None:
            return False
        step = min(max(int((now - self.warming_since) * WARM_STEPS / slow_start_s), 1), WARM_STEPS)
        if step == WARM_STEPS:
            self.warming_since = None
        before, self.pull = self.pull, self.weight * step
        return self.pull != before

    def suspect(self, sent_at: float, now: float) -> None:
        """A client asks again what this backend was first sent at `sent_at` and has not answered.

        That alone says nothing: people are slow to answer their phones. Only when nothing at all came from here since
        then is the watchdog told, which asks by itself (RFC 3539 section 3.4: no verdict without a watchdog message).
        """
        if self.last_reply_at < sent_at:
            self.suspected_at = now
            if self.on_suspicion is not None:
                self.on_suspicion()
