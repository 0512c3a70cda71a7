"""Who is taken out by what traffic shows, and for how long.

A backend that fails so many exchanges in a row is ejected: it counts as if it were down until its time is over,
whatever probes say. That is health evidence, beside what probes show and never in place of an operator's word.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Final

from mfalb.balancer.config.health_models import Failure, PassiveCheck
from mfalb.balancer.pools.backend import Backend

LOCAL_SHORTAGE: Final = "local_shortage"  # nobody was asked: this host had no descriptor, port or memory left
# What the data path calls it. Everything else that a backend may do wrong is GARBAGE.
_KINDS = {
    "connect_refused": Failure.REFUSED,
    "connect_timeout": Failure.REFUSED,
    "tls_failed": Failure.REFUSED,
    "port_unreachable": Failure.REFUSED,
    "reset": Failure.RESET,
    "closed_early": Failure.RESET,
    "stale": Failure.RESET,
    "silent": Failure.TIMEOUT,
}
_DOUBLINGS_LIMIT = 30  # of an ejection's time; far past any max_ejection_time


class Shown(Enum):
    """What a failure led to. DOWN: rise and fall, or a watchdog, have decided. EJECTED: it is taken out for a time."""

    NOTHING = "nothing"
    DOWN = "down"
    EJECTED = "ejected"


def is_refusal(reason: str) -> bool:
    """Whether what the data path calls so means that nothing was sent: nobody was there, or let us in."""
    return _KINDS.get(reason) is Failure.REFUSED


class Ejection:
    """A pool's rule, and what became of it. Times are monotonic seconds.

    `backends` are all of the pool; whether one takes new work is theirs to say.
    """

    __slots__ = ("_backends", "_failures", "_most", "_rule", "_statuses")

    def __init__(self, rule: PassiveCheck, backends: Collection[Backend]) -> None:
        self._rule = rule
        self._backends = backends
        self._most = rule.most_ejected(len(backends))
        self._failures = frozenset(rule.failures)
        self._statuses = frozenset(rule.failure_status)

    def counts(self, reason: str) -> bool:
        """Whether what the data path calls so is one of the failures that count."""
        return _KINDS.get(reason, Failure.GARBAGE) in self._failures

    def counts_status(self, status: int) -> bool:
        """Whether an answer with this status is a failure, too."""
        return status in self._statuses

    def failed(self, backend: Backend, now: float) -> bool:
        """Count a failure. True when the backend is ejected by it.

        What was under way when it was ejected says nothing new.
        """
        if backend.is_ejected:
            return False
        backend.consecutive_failures += 1
        if backend.consecutive_failures < self._rule.consecutive_failures or not self._may_go(backend):
            return False
        self._eject(backend, now)
        return True

    def _may_go(self, backend: Backend) -> bool:
        """Not one that is out already, not one too many, and not the last one that takes new work."""
        if not backend.is_up or sum(one.is_ejected for one in self._backends) >= self._most:
            return False
        return any(one.takes_new for one in self._backends if one is not backend)

    def _eject(self, backend: Backend, now: float) -> None:
        rule = self._rule
        if now - backend.ejected_until > rule.max_ejection_time_s:  # it has served well for long: all is forgotten
            backend.ejections_in_row = 0
        doublings = min(backend.ejections_in_row, _DOUBLINGS_LIMIT)
        backend.ejections_in_row += 1
        backend.ejections += 1
        backend.ejected_until = now + min(rule.ejection_time_s * 2**doublings, rule.max_ejection_time_s)
        backend.is_ejected = True

    def returning(self, now: float) -> list[Backend]:
        """Those whose time is over, put back."""
        return _put_back([one for one in self._backends if one.is_ejected and now >= one.ejected_until])

    def needed(self) -> list[Backend]:
        """Those who are put back before their time, because nobody else could take any work.

        Not those that would be of no use: down by probes as well, or taken out by an operator.
        """
        if any(one.may_serve for one in self._backends):
            return []
        return _put_back([one for one in self._backends if one.is_ejected and one.may_serve_again])


def _put_back(backends: list[Backend]) -> list[Backend]:
    for backend in backends:
        backend.is_ejected = False
        backend.consecutive_failures = 0
    return backends
