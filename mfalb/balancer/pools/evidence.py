"""What traffic shows of backends, and how it reaches whoever decides about them.

A worker carries traffic and decides nothing about health: it notes failures in a row for itself, so that good answers
cost nothing while there are none, and tells the rest to the supervisor, which has what all workers saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.ejection import LOCAL_SHORTAGE
from mfalb.balancer.pools.pool import Pool

Tell = Callable[[dict[str, Any]], None]


class Evidence(Protocol):
    """Who is told what the data path sees of a backend."""

    def failed(self, backend: Backend, reason: str) -> None:
        """An exchange failed through its fault, before or after something was sent."""

    def answered(self, backend: Backend, status: int) -> None:
        """It answered by HTTP with what may be a failure, or good after failures."""

    def refused(self, backend: Backend, reason: str) -> None:
        """Its host took nothing from us (RADIUS)."""


class ReportedEvidence:
    """Evidence as words for another process; `tell` sends them.

    `failed` has `streak`, the failures in a row at this worker: 1 says that there was a good answer before it.
    """

    def __init__(self, pools: Mapping[str, Pool], tell: Tell) -> None:
        self._pools = pools
        self._tell = tell
        self._replies: dict[Backend, float] = {}
        self._failing: set[Backend] = set()

    def failed(self, backend: Backend, reason: str) -> None:
        if reason == LOCAL_SHORTAGE:
            return
        self._fail(backend, {"reason": reason})

    def answered(self, backend: Backend, status: int) -> None:
        passive = self._pools[backend.pool].config.passive_check
        if passive is not None and status in passive.failure_status:
            self._fail(backend, {"status": status})
        elif backend.consecutive_failures:
            backend.consecutive_failures = 0
            self._forgive(backend)

    def refused(self, backend: Backend, reason: str) -> None:
        self._tell({"kind": "refused", **_who(backend), "reason": reason})

    def suspected(self, backend: Backend) -> None:
        """Its `suspected_at` is new: somebody asks again what it has not answered."""
        self._tell(
            {
                "kind": "suspected",
                **_who(backend),
                "suspected_at": backend.suspected_at,
                "replied_at": backend.last_reply_at,
            }
        )

    def tick(self) -> None:
        """Tell who was heard, and who served well after failures, since the last time. Called a few times a second."""
        for backend in [one for one in self._failing if not one.consecutive_failures]:
            self._forgive(backend)  # the data path of TCP sets it to 0 by itself
        heard = []
        for pool in self._pools.values():
            for backend in pool.backends.values():
                at = backend.last_reply_at
                if at != self._replies.get(backend, 0.0):
                    self._replies[backend] = at
                    heard.append([backend.pool, backend.name, at])
        if heard:
            self._tell({"kind": "replied", "heard": heard})

    def _fail(self, backend: Backend, what: dict[str, Any]) -> None:
        if self._pools[backend.pool].config.passive_check is not None:
            backend.consecutive_failures += 1
            self._failing.add(backend)
        self._tell({"kind": "failed", **_who(backend), **what, "streak": backend.consecutive_failures})

    def _forgive(self, backend: Backend) -> None:
        self._failing.discard(backend)
        self._tell({"kind": "good", **_who(backend)})


def _who(backend: Backend) -> dict[str, str]:
    return {"pool": backend.pool, "backend": backend.name}
