"""Wakes the watchdog of a RADIUS backend, and sends the probes it asks for."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from time import monotonic

from mfalb.balancer.health.status_probe import NO_ANSWER, ProbeEvents, Question
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.pools.watchdog import PROBES, Ask, Event, Moment, Watchdog
from mfalb.telemetry.rare_log import RareLog

_log = logging.getLogger("mfalb.health")


class RadiusWatch:
    """Owns one timer and the probes that are out, which `question` makes.

    It has no task: everything it does, it does when it is called.

    `is_known` is set when the first result is in, and at once for a backend that an operator wants left alone.
    """

    def __init__(
        self, pool: Pool, backend: Backend, watchdog: Watchdog, question: Callable[[ProbeEvents], Question]
    ) -> None:
        self.is_known = asyncio.Event()
        self._pool = pool
        self._backend = backend
        self._watchdog = watchdog
        self._question = question
        self._probes: list[Question] = []
        self._timer: asyncio.TimerHandle | None = None
        self._fault = NO_ANSWER
        self._suspected_at = 0.0
        self._rare_log = RareLog(_log)

    def start(self) -> None:
        self._backend.on_suspicion = self._look
        self._set_timer()

    def close(self) -> None:
        self._backend.on_suspicion = None
        if self._timer is not None:
            self._timer.cancel()
        for probe in self._probes:
            probe.close()
        self._probes.clear()

    # ------------------------------------------------------------------------------ what happens

    def _look(self) -> None:
        """The data path has a suspicion, or gave the watchdog a refusal by itself."""
        if self._backend.suspected_at > self._suspected_at:
            self._suspected_at = self._backend.suspected_at
            self._handle(Event.SUSPECTED)
        else:
            self._set_timer()

    def _expired(self) -> None:
        self._timer = None
        if self._backend.admin_state is AdminState.MAINT:
            self._handle(Event.PAUSED)
            self.is_known.set()
        else:
            self._handle(Event.EXPIRED)

    def probe_answered(self, probe: Question) -> None:
        self._probes.remove(probe)
        self._fault = NO_ANSWER
        self._backend.probes_answered += 1
        self._backend.last_reply_at = monotonic()
        self._handle(Event.ANSWERED)

    def probe_refused(self, probe: Question) -> None:
        self._lose(probe)
        self._handle(Event.REFUSED)

    def probe_unsent(self, probe: Question) -> None:
        """A lack of ours is no word about the backend: whatever was known of it stands, and it is asked again."""
        self._probes.remove(probe)
        self._backend.probes_sent -= 1
        facts = {"pool": self._pool.name, "backend": self._backend.name, "reason": probe.fault}
        self._rare_log.warning("unsent", "cannot probe a backend", facts)
        self.is_known.set()  # nobody who starts the balancer waits for what may last
        self._handle(Event.UNSENT)

    # ------------------------------------------------------------------------------ what is done

    def _handle(self, event: Event) -> None:
        backend, health = self._backend, self._backend.health
        spread = random.uniform(-1, 1)  # noqa: S311 - spreads load, guards nothing
        moment = Moment(monotonic(), backend.last_reply_at, spread)
        orders = self._pool.watch(backend, event, moment, self._reason())
        if orders.verdict is not None:
            level, text = (
                (logging.INFO, "backend up") if orders.verdict is Health.UP else (logging.WARNING, "backend down")
            )
            _log.log(level, text, extra={"pool": self._pool.name, "backend": backend.name, "reason": health.reason})
            self.is_known.set()
        if orders.ask is not Ask.NOTHING:
            self._ask(orders.ask)
        self._set_timer()

    def _reason(self) -> str:
        return self._probes[-1].fault if self._probes else self._fault

    def _ask(self, ask: Ask) -> None:
        keep = PROBES - 1 if ask is Ask.ALSO else 0
        while len(self._probes) > keep:
            self._lose(self._probes[0])
        probe = self._question(self)
        self._probes.append(probe)
        self._backend.probes_sent += 1
        probe.send()

    def _lose(self, probe: Question) -> None:
        self._probes.remove(probe)
        probe.close()
        self._fault = probe.fault
        self._backend.probes_lost += 1

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, self._watchdog.expires_at - monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._expired)
