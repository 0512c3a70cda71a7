"""Backends that can stand in for one another, and the order of last resort among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

from mfalb.balancer.config.balancing_models import Algorithm
from mfalb.balancer.config.health_models import RadiusCheck
from mfalb.balancer.config.models import Backend as BackendConfig
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.pools.backend import WARM_STEPS, AdminState, Backend
from mfalb.balancer.pools.choice import NO_KEY, Choice
from mfalb.balancer.pools.ejection import LOCAL_SHORTAGE, Ejection, Shown, is_refusal
from mfalb.balancer.pools.health_state import Health, HealthState, Thresholds
from mfalb.balancer.pools.least_connections import LeastConnections
from mfalb.balancer.pools.power_of_two import Draw, PowerOfTwo
from mfalb.balancer.pools.rendezvous import RendezvousHash, highest_for
from mfalb.balancer.pools.retry_budget import RetryBudget
from mfalb.balancer.pools.round_robin import RoundRobin
from mfalb.balancer.pools.waiting_line import WaitingLine
from mfalb.balancer.pools.watchdog import Event, Moment, Orders, Pace, Phase, Watchdog

NOTHING_TRIED: Final[frozenset[str]] = frozenset()
_TIERS: Final = 5
CHANGES_KEPT: Final = 50  # of each pool: one that flaps does not push out what happened to another


@dataclass(frozen=True, slots=True)
class Change:
    """A backend's health changed. `at` is monotonic seconds."""

    at: float
    backend: str
    health: Health
    reason: str


class Pool:
    """A pool as it runs.

    Order of last resort for new work: up and ready; the same among the backups; up and draining (better a late session
    on a leaving server than a refused user), backups last; then, if the pool may panic, whoever is ready and down; then
    nobody. A pool in panic does not wait for the end: while any is left up, new work goes to all that are ready,
    whatever their health, since those few could not bear all of it. Pinned work asks `pinned` first.

    `draw` is the chance that PowerOfTwo needs. A pool that `follows` decides nothing about health by itself: another
    process does, and `backend_state.follow` says what. `on_change` is called when a backend's use has changed.
    """

    __slots__ = (
        "_choices",
        "_draw",
        "_ejection",
        "_first",
        "_follows",
        "_returned",
        "_warming",
        "backends",
        "changes",
        "config",
        "is_panicking",
        "line",
        "name",
        "on_change",
        "response_timeout_s",
        "retries",
    )

    def __init__(self, name: str, config: PoolConfig, draw: Draw | None = None, *, follows: bool = False) -> None:
        self.name = name
        self.on_change: Callable[[Pool], None] | None = None
        self._draw = draw
        self._follows = follows
        self.backends: dict[str, Backend] = {}
        self.changes: deque[Change] = deque(maxlen=CHANGES_KEPT)  # RFC 3539 section 3.4.2 asks for such a table
        self.is_panicking = False
        self.retries = RetryBudget(config.retries.budget, config.retries.reserve)
        self.line = WaitingLine(config.queue.limit)
        self._warming: list[Backend] = []
        self._returned: list[Backend] = []
        self.reconfigure(config)

    def reconfigure(self, config: PoolConfig) -> None:
        """Be what this configuration says. A backend's identity is its name: all that is known of it stays.

        Whoever has left is nobody's choice any more; what it is carrying goes on.
        """
        former = self.backends
        self.config = config
        self.response_timeout_s = config.response_timeout_s
        self.backends = {one.name: self._member(former.get(one.name), one) for one in config.backends}
        self._warming = [one for one in self._warming if self.backends.get(one.name) is one]
        self.retries = self.retries.resized(config.retries.budget, config.retries.reserve)
        self.line.limit = config.queue.limit
        passive = None if self._follows else config.passive_check
        self._ejection = Ejection(passive, self.backends.values()) if passive is not None else None
        self._choices = [_choice(config, self._draw) for _ in range(_TIERS)]
        self._first = self._choices[0]  # of those that have backends: what nearly every pick needs
        self.refresh()

    def _member(self, known: Backend | None, config: BackendConfig) -> Backend:
        check = self.config.health_check
        thresholds = Thresholds() if check is None else Thresholds(check.rise, check.fall)
        watchdog = None if self._follows else _watchdog(self.config)
        if known is None:
            return Backend(self.name, config, HealthState(thresholds, is_probed=check is not None), watchdog)
        known.reconfigure(config)
        known.health.reconfigure(thresholds, is_probed=check is not None)
        if known.watchdog is None or watchdog is None or known.watchdog.pace != watchdog.pace:
            known.watchdog = watchdog
        return known

    def refresh(self) -> None:
        """Lay the turns anew. Call after a backend's health, admin state or pull changed."""
        if self._ejection is not None:
            self._returned += self._ejection.needed()
        self.is_panicking = self._has_too_few()
        tiers = self._tiers()
        for choice, backends in zip(self._choices, tiers, strict=True):
            choice.set_backends(backends)
        self._first = next((one for one, tier in zip(self._choices, tiers, strict=True) if tier), self._choices[0])
        self._tell()

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change(self)

    def _tiers(self) -> tuple[list[Backend], ...]:
        """Those who may take new work, those in need last. There are _TIERS of them."""
        wanted = [backend for backend in self.backends.values() if backend.weight]
        up = [backend for backend in wanted if backend.takes_new]
        leaving = [backend for backend in wanted if backend.is_up and backend.admin_state is AdminState.DRAIN]
        # Not those that nothing is known of yet: a new server must not pass before it was seen to work
        known = [one for one in wanted if one.is_asked_for_new and one.health.health is not Health.UNKNOWN]
        everyone = [backend for backend in known if not backend.is_backup] if self.is_panicking else []
        main = [backend for backend in up if not backend.is_backup]
        return (
            everyone if main and everyone else main,
            [backend for backend in up if backend.is_backup],
            [backend for backend in leaving if not backend.is_backup],
            [backend for backend in leaving if backend.is_backup],
            everyone,
        )

    def _has_too_few(self) -> bool:
        """Whether so few are up that it may be the checks that fail, or the rest that would break down next.

        Backups do not count, nor those that an operator wants no new work for. One that is yet to be checked is not
        down.
        """
        threshold = self.config.panic_threshold
        counted = [one for one in self.backends.values() if one.is_asked_for_new and not one.is_backup]
        if threshold is None or not counted:
            return False
        out = sum(one.health.health is Health.DOWN or one.is_ejected for one in counted)
        return (len(counted) - out) / len(counted) < threshold

    @property
    def can_serve(self) -> bool:
        """Whether there is anybody to give any work to."""
        return self.is_panicking or any(backend.takes_pinned for backend in self.backends.values())

    def pick(self, tried: frozenset[str] = NOTHING_TRIED, key: bytes = NO_KEY) -> Backend | None:
        """The backend for an exchange that carries no pin; None when nobody may take it.

        `key` is what a hash is made of, where the pool has one (`config.hash`).
        """
        if not tried:
            return self._first.next(key)
        for choice in self._choices:
            backend = choice.next_except(tried, key)
            if backend is not None:
                return backend
        return None

    def peek(self, key: bytes = NO_KEY) -> Backend | None:
        """Whom `pick` would give now, while nobody's turn passes; None when chance will decide, or there is nobody."""
        return self._first.peek(key)

    @property
    def candidates(self) -> list[Backend]:
        """Those among whom `pick` chooses now."""
        return next((tier for tier in self._tiers() if tier), [])

    def tick(self, now: float) -> list[Backend]:
        """Go on with slow starts and ejections. Called a few times a second; returns who came back from one."""
        returning = self._ejection.returning(now) if self._ejection is not None else []
        for backend in returning:
            self._warm_up(backend, now)
        if returning:
            self.refresh()
        self._go_on_warming(now)
        returned, self._returned = self._returned + returning, []
        return returned

    def _go_on_warming(self, now: float) -> None:
        slow_start_s = self.config.slow_start_s
        if slow_start_s is None or not self._warming:
            return
        changed = [backend for backend in self._warming if backend.warm(now, slow_start_s)]
        self._warming = [backend for backend in self._warming if backend.warming_since is not None]
        if changed:
            self.refresh()

    @property
    def full(self) -> frozenset[str]:
        """The names of the backends that have as much work as they may."""
        return frozenset([name for name, backend in self.backends.items() if backend.is_full])

    def agreed(self, key: bytes, tried: frozenset[str] = NOTHING_TRIED) -> Backend | None:
        """The backend for pinned work whose pin is not known here (expired, restarted, made by another node).

        Every node that sees the same backends up comes to the same answer; round robin would be wrong most times. When
        those of `tried` have refused it is the next one.
        """
        able = (one for one in self.backends.values() if one.takes_pinned and one.name not in tried)
        return highest_for(key, able)

    def pinned(self, name: str) -> Backend | None:
        """The backend that a pin names, if it may go on with its own work; None when it is down, gone or in maint."""
        backend = self.backends.get(name)
        return backend if backend is not None and backend.takes_pinned else None

    def observe_degraded(self, backend: Backend, degraded: str) -> bool:
        """Note what a backend lacks that is up ("" for nothing). True when it lacked nothing before, or did.

        It serves like any other: half a server is better than none, and users are to be asked for nothing twice.
        """
        has_changed = bool(backend.degraded) is not bool(degraded)
        backend.degraded = degraded
        if has_changed:
            self._tell()
        return has_changed

    def observe(self, name: str, *, is_good: bool, reason: str, now: float) -> bool:
        """Score a probe's result. True when the backend's health changed (and the turns were laid anew)."""
        backend = self.backends[name]
        before = backend.health.health
        backend.health.observe(is_good=is_good, reason=reason, now=now)
        return self._noted(backend, before)

    def observe_failure(self, backend: Backend, reason: str, now: float) -> Shown:
        """Score an exchange that failed through the backend's fault, by what the data path calls it.

        A refusal also counts against rise and fall where there are probes: `observe_refusal`.
        """
        if reason == LOCAL_SHORTAGE:
            return Shown.NOTHING
        if not is_refusal(reason):
            backend.failures += 1
        elif self.observe_refusal(backend, reason, now):
            return Shown.DOWN
        ejection = self._ejection
        if ejection is None or not ejection.counts(reason):
            return Shown.NOTHING
        return self._failed(ejection, backend, reason, now)

    def observe_status(self, backend: Backend, status: int, now: float) -> Shown:
        """Score a complete answer of HTTP. Only what may be a failure (500 and more) need be told here.

        All others say as much by `backend.consecutive_failures = 0`.
        """
        ejection = self._ejection
        if ejection is None or not ejection.counts_status(status):
            backend.consecutive_failures = 0
            return Shown.NOTHING
        return self._failed(ejection, backend, f"status_{status}", now)

    def _failed(self, ejection: Ejection, backend: Backend, reason: str, now: float) -> Shown:
        if not ejection.failed(backend, now):
            return Shown.NOTHING
        self.changes.append(Change(now, backend.name, backend.health.health, f"ejected: {reason}"))
        self.refresh()
        return Shown.EJECTED

    def observe_refusal(self, backend: Backend, reason: str, now: float) -> bool:
        """Score a refusal that traffic met. True when the backend's health changed."""
        backend.failures += 1
        if backend.watchdog is None:
            before = backend.health.health
            backend.health.observe_refusal(reason, now)
            if backend.on_suspicion is not None:
                backend.on_suspicion()
            return self._noted(backend, before)
        orders = self.watch(backend, Event.REFUSED, Moment(now, backend.last_reply_at), reason)
        if backend.on_suspicion is not None:
            backend.on_suspicion()
        return orders.verdict is not None

    def watch(self, backend: Backend, event: Event, moment: Moment, reason: str) -> Orders:
        """Give an event to a backend's watchdog and let health follow its verdict. Probes are the caller's to send.

        `reason` is what to say if the event turns out to be bad news. Only for backends that have a watchdog.
        """
        watchdog = backend.watchdog
        if watchdog is None:
            raise ValueError(f"{backend} has no watchdog")
        orders = watchdog.handle(event, moment)
        if orders.verdict is not None:
            text = "ok" if orders.verdict is Health.UP else reason
            before = backend.health.health
            backend.health.decide(orders.verdict, text, moment.now)
            self._noted(backend, before)
        elif watchdog.phase is Phase.REOPEN:
            backend.health.reason = f"{watchdog.answers} of {watchdog.pace.rise} probes answered"
        elif watchdog.phase is Phase.DOWN and reason:
            backend.health.reason = reason
        return orders

    def _noted(self, backend: Backend, before: Health) -> bool:
        """Whether its health changed; then it is kept for the status page, and the turns are laid anew."""
        health = backend.health
        if health.health is before:
            return False
        self.changes.append(Change(health.changed_at, backend.name, health.health, health.reason))
        if health.health is Health.DOWN:
            backend.degraded = ""  # it lacks everything
        if before is Health.DOWN:  # and not UNKNOWN: when the balancer starts, its servers are warm
            self._warm_up(backend, health.changed_at)
        self.refresh()
        return True

    def set_admin_state(self, name: str, state: AdminState, now: float) -> None:
        backend = self.backends[name]
        is_back = state is AdminState.READY and backend.admin_state is not AdminState.READY
        backend.admin_state = state
        if is_back:
            self._warm_up(backend, now)
        self.refresh()

    def weigh(self, backend: Backend, weight: int, warming_since: float | None, now: float) -> None:
        """Give a backend its weight, and the slow start that it is in. Call `refresh` afterwards."""
        self._warming = [one for one in self._warming if one is not backend]
        backend.weight, backend.warming_since = weight, warming_since
        backend.pull = weight * WARM_STEPS
        slow_start_s = self.config.slow_start_s
        if warming_since is not None and slow_start_s is not None:
            backend.warm(now, slow_start_s)
            self._warming.append(backend)

    def set_weight(self, name: str, weight: int) -> None:
        """Give a backend another weight (0: pinned work only) until the next one is set."""
        self.backends[name].set_weight(weight)
        self.refresh()

    def _warm_up(self, backend: Backend, now: float) -> None:
        if self.config.slow_start_s is not None:
            backend.warm_up(now)
            self._warming = [*(one for one in self._warming if one is not backend), backend]


def _choice(config: PoolConfig, draw: Draw | None) -> Choice:
    match config.algorithm:
        case Algorithm.ROUND_ROBIN:
            return RoundRobin()
        case Algorithm.LEAST_CONNECTIONS:
            return LeastConnections()
        case Algorithm.POWER_OF_TWO:
            if draw is None:
                raise ValueError("power_of_two draws backends: give the pool its chance")
            return PowerOfTwo(draw)
        case Algorithm.HASH:
            if config.hash is None:
                raise ValueError("hash needs a key")  # `check` says so with a position
            return RendezvousHash(config.hash.load_factor)
    assert_never(config.algorithm)


def _watchdog(config: PoolConfig) -> Watchdog | None:
    check = config.health_check
    return Watchdog(Pace(check.interval_s, check.rise, check.fall)) if isinstance(check, RadiusCheck) else None
