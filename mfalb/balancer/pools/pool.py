"""Backends that can stand in for one another, and the order of last resort among them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.models import RadiusCheck
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.health_state import Health, HealthState, Thresholds
from mfalb.balancer.pools.rendezvous import highest_for
from mfalb.balancer.pools.round_robin import RoundRobin
from mfalb.balancer.pools.watchdog import Event, Moment, Orders, Pace, Phase, Watchdog

NOTHING_TRIED: frozenset[str] = frozenset()
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

    Order of last resort for new work: up and ready, then up and draining (better a late session on a leaving server
    than a refused user), then nobody. Pinned work asks `pinned` first.
    """

    __slots__ = ("_draining", "_ready", "backends", "changes", "config", "name")

    def __init__(self, name: str, config: PoolConfig) -> None:
        self.name = name
        self.config = config
        self.backends = {
            backend.name: Backend(name, backend, _health(config), _watchdog(config)) for backend in config.backends
        }
        self.changes: deque[Change] = deque(maxlen=CHANGES_KEPT)  # RFC 3539 section 3.4.2 asks for such a table
        self._ready = RoundRobin()
        self._draining = RoundRobin()
        self.refresh()

    def refresh(self) -> None:
        """Lay the turns anew. Call after a backend's health or admin state changed."""
        backends = self.backends.values()
        self._ready.set_backends([backend for backend in backends if backend.takes_new])
        self._draining.set_backends(
            [backend for backend in backends if backend.is_up and backend.admin_state is AdminState.DRAIN]
        )

    def pick(self, tried: frozenset[str] = NOTHING_TRIED) -> Backend | None:
        """The backend for an exchange that carries no pin; None when nobody may take it."""
        if tried:
            return self._ready.next_except(tried) or self._draining.next_except(tried)
        return self._ready.next() or self._draining.next()

    def agreed(self, key: bytes) -> Backend | None:
        """The backend for pinned work whose pin is not known here (expired, restarted, made by another node).

        Every node that sees the same backends up comes to the same answer; round robin would be wrong most times.
        """
        return highest_for(key, (backend for backend in self.backends.values() if backend.takes_pinned))

    def pinned(self, name: str) -> Backend | None:
        """The backend that a pin names, if it may go on with its own work; None when it is down, gone or in maint."""
        backend = self.backends.get(name)
        return backend if backend is not None and backend.takes_pinned else None

    def observe(self, name: str, *, is_good: bool, reason: str, now: float) -> bool:
        """Score a probe's result. True when the backend's health changed (and the turns were laid anew)."""
        backend = self.backends[name]
        return self._noted(backend, backend.health.observe(is_good=is_good, reason=reason, now=now))

    def observe_refusal(self, backend: Backend, reason: str, now: float) -> bool:
        """Score a refusal that traffic met. True when the backend's health changed."""
        backend.failures += 1
        if backend.watchdog is None:
            return self._noted(backend, backend.health.observe_refusal(reason, now))
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
            self._noted(backend, backend.health.decide(orders.verdict, text, moment.now))
        elif watchdog.phase is Phase.REOPEN:
            backend.health.reason = f"{watchdog.answers} of {watchdog.pace.rise} probes answered"
        elif watchdog.phase is Phase.DOWN and reason:
            backend.health.reason = reason
        return orders

    def _noted(self, backend: Backend, has_changed: bool) -> bool:
        if has_changed:
            health = backend.health
            self.changes.append(Change(health.changed_at, backend.name, health.health, health.reason))
            self.refresh()
        return has_changed

    def set_admin_state(self, name: str, state: AdminState) -> None:
        self.backends[name].admin_state = state
        self.refresh()


def _health(config: PoolConfig) -> HealthState:
    check = config.health_check
    if check is None:
        return HealthState(Thresholds(), is_probed=False)
    return HealthState(Thresholds(check.rise, check.fall), is_probed=True)


def _watchdog(config: PoolConfig) -> Watchdog | None:
    check = config.health_check
    return Watchdog(Pace(check.interval_s, check.rise, check.fall)) if isinstance(check, RadiusCheck) else None
