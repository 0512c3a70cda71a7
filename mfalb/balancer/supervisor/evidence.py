"""What the workers' traffic shows, brought together: the supervisor's pools decide by it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.ejection import Shown
from mfalb.balancer.pools.pool import Pool

_log = logging.getLogger("mfalb.health")


class EvidenceDesk:
    """Takes workers' words (see `pools.evidence`). What is none of them, or about nobody we know, is `take`'s False."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self.pools = pools
        self._streaks: dict[tuple[str, str], dict[int, int]] = {}

    def take_untrusted(self, worker: int, words: Mapping[str, Any]) -> bool:
        """Score what worker number `worker` says. False when it means nothing here: it is to be counted."""
        try:
            if words["kind"] == "replied":
                self._replied(words["heard"])
                return True
            backend = self.pools[words["pool"]].backends[words["backend"]]
            return self._score(worker, backend, words)
        except (KeyError, TypeError, ValueError, OverflowError):  # JSON has numbers that no float holds
            return False

    def _score(self, worker: int, backend: Backend, words: Mapping[str, Any]) -> bool:
        kind = words["kind"]
        if kind == "failed":
            self._failed(worker, backend, words)
        elif kind == "good":
            backend.consecutive_failures = 0
            self._streaks.pop((backend.pool, backend.name), None)
        elif kind == "refused":
            self._refused(backend, str(words["reason"]))
        elif kind == "suspected":
            backend.last_reply_at = max(backend.last_reply_at, float(words["replied_at"]))
            backend.suspected_at = float(words["suspected_at"])
            if backend.on_suspicion is not None:
                backend.on_suspicion()
        else:
            return False
        return True

    def _replied(self, heard: list[tuple[str, str, float]]) -> None:
        for pool, name, at in heard:
            backend = self.pools[pool].backends.get(name) if pool in self.pools else None
            if backend is not None:
                backend.last_reply_at = max(backend.last_reply_at, float(at))

    def _failed(self, worker: int, backend: Backend, words: Mapping[str, Any]) -> None:
        streaks = self._streaks.setdefault((backend.pool, backend.name), {})
        streak = int(words["streak"])
        if streak == 1 and streaks.get(worker, 0) > 0:  # a good answer came between; it is good for all
            backend.consecutive_failures = 0
            streaks.clear()
        streaks[worker] = streak
        pool, now = self.pools[backend.pool], monotonic()
        if "status" in words:
            status = int(words["status"])
            self._tell(backend, f"status_{status}", pool.observe_status(backend, status, now))
        else:
            reason = str(words["reason"])
            self._tell(backend, reason, pool.observe_failure(backend, reason, now))

    @staticmethod
    def _tell(backend: Backend, reason: str, shown: Shown) -> None:
        facts = {"pool": backend.pool, "backend": backend.name, "reason": reason}
        if shown is Shown.DOWN:
            _log.warning("backend down", extra=facts)
        elif shown is Shown.EJECTED:
            seconds = round(backend.ejected_until - monotonic(), 1)
            _log.warning("backend ejected", extra=facts | {"failures": backend.consecutive_failures, "for_s": seconds})

    def _refused(self, backend: Backend, reason: str) -> None:
        if self.pools[backend.pool].observe_refusal(backend, reason, monotonic()):
            _log.warning("backend down", extra={"pool": backend.pool, "backend": backend.name, "reason": reason})
