from __future__ import annotations

import asyncio
import logging

import pytest
from unit.balancer.pools.pool_builder import pool_of

from mfalb.balancer.config.health_models import CheckTiming
from mfalb.balancer.health.check_watch import CheckWatch, pause_s
from mfalb.balancer.health.outcomes import ProbeFailed, ProbeUnsent, Works
from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.health_state import Health, HealthState, Thresholds
from mfalb.balancer.pools.pool import Pool

UP, DOWN, UNKNOWN = Health.UP, Health.DOWN, Health.UNKNOWN
ALL = CheckTiming(interval_s=10, fast_interval_s=1, down_interval_s=30)
PLAIN = CheckTiming(interval_s=10)


@pytest.mark.parametrize(
    ("health", "streak", "seconds"),
    [(UNKNOWN, 0, 1), (UP, 0, 10), (UP, 1, 1), (UP, 2, 1), (DOWN, 0, 30), (DOWN, 1, 1)],
)
def test_the_next_probe_comes_fast_while_health_is_flipping_and_seldom_while_it_is_down(
    health: Health, streak: int, seconds: float
) -> None:
    state = HealthState(Thresholds(rise=2, fall=3), is_probed=True)
    state.health, state.streak = health, streak
    assert pause_s(ALL, state) == seconds
    assert pause_s(PLAIN, state) == 10


class Script:
    """A probe whose findings are told beforehand. When they are used up it waits for ever."""

    def __init__(self, *found: Works | ProbeFailed | ProbeUnsent) -> None:
        self.asked = 0
        self.is_used_up = asyncio.Event()
        self._found = list(found)

    async def __call__(self, _backend: Backend) -> Works:
        self.asked += 1
        if not self._found:
            self.is_used_up.set()
            await asyncio.Event().wait()
        found = self._found.pop(0)
        if not isinstance(found, Works):
            raise found
        return found


WORKS = Works("status 200")
LACKS = Works("secure", "does not reach the master")
BROKEN = ProbeFailed("timeout")
NO_PAUSE = CheckTiming(interval_s=1e-6, rise=2, fall=3)


async def walk(pool: Pool, script: Script) -> None:
    """Let the watch of b1 go through a script."""
    watch = CheckWatch(pool, pool.backends["b1"], NO_PAUSE, script)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        await script.is_used_up.wait()
        task.cancel()


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    return [(one.levelname, one.message, vars(one)["reason"]) for one in caplog.records if one.name == "mfalb.health"]


async def test_what_probes_find_is_told_once_at_each_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pool = pool_of({"b1": (UNKNOWN, AdminState.READY)})
    await walk(pool, Script(WORKS, LACKS, LACKS, BROKEN, LACKS, WORKS, WORKS, BROKEN, BROKEN, BROKEN, LACKS, LACKS))
    assert told(caplog) == [
        ("INFO", "backend up", "status 200"),
        ("WARNING", "backend degraded", "does not reach the master"),
        ("INFO", "backend no longer degraded", "does not reach the master"),
        ("WARNING", "backend down", "timeout"),
        ("INFO", "backend up", "secure"),
        ("WARNING", "backend degraded", "does not reach the master"),
    ]


@pytest.mark.parametrize(
    ("found", "health", "degraded", "counts", "last"),
    [
        ([WORKS], UP, "", (1, 0), (True, "status 200")),
        ([LACKS], UP, "does not reach the master", (1, 0), (True, "secure")),
        ([LACKS, BROKEN], UP, "does not reach the master", (1, 1), (False, "timeout")),
        ([LACKS, BROKEN, BROKEN, BROKEN], DOWN, "", (1, 3), (False, "timeout")),
        ([BROKEN, LACKS], DOWN, "", (1, 1), (True, "secure")),
        ([LACKS, WORKS], UP, "", (2, 0), (True, "status 200")),
    ],
)
async def test_each_finding_moves_what_is_known_as_the_table_says(
    found: list[Works | ProbeFailed],
    health: Health,
    degraded: str,
    counts: tuple[int, int],
    last: tuple[bool, str],
) -> None:
    pool = pool_of({"b1": (UNKNOWN, AdminState.READY)})
    await walk(pool, Script(*found))
    backend = pool.backends["b1"]
    assert (backend.health.health, backend.degraded) == (health, degraded)
    assert (backend.probes_answered, backend.probes_lost) == counts
    assert backend.last_check is not None
    assert (backend.last_check.is_good, backend.last_check.text) == last
    assert backend.last_check.seconds >= 0
    assert (pool.pick() is backend) is (health is UP), "degraded or not, it serves"


async def test_a_backend_in_maintenance_is_left_alone_until_it_is_back() -> None:
    pool = pool_of({"b1": (UNKNOWN, AdminState.MAINT)})
    script = Script(WORKS)
    watch = CheckWatch(pool, pool.backends["b1"], NO_PAUSE, script)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        await watch.is_known.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (script.asked, pool.backends["b1"].probes_sent) == (0, 0)
        pool.set_admin_state("b1", AdminState.READY, 1.0)
        await script.is_used_up.wait()
        task.cancel()


async def test_a_refusal_that_traffic_meets_brings_the_next_probe_forward() -> None:
    pool = pool_of({"b1": (UNKNOWN, AdminState.READY)})
    backend, script = pool.backends["b1"], Script(WORKS)
    watch = CheckWatch(pool, backend, CheckTiming(interval_s=3600, fast_interval_s=1e-6), script)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        await watch.is_known.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert script.asked == 1
        pool.observe_refusal(backend, "connect_refused", 1.0)
        await script.is_used_up.wait()
        task.cancel()
    assert backend.on_suspicion is None


async def test_a_lack_of_our_own_says_nothing_about_a_backend(caplog: pytest.LogCaptureFixture) -> None:
    pool = pool_of({"b1": (UP, AdminState.READY)})
    backend = pool.backends["b1"]
    await walk(pool, Script(*[ProbeUnsent("Too many open files")] * 10))
    assert backend.is_up
    assert (backend.health.streak, backend.probes_sent, backend.probes_lost, backend.last_check) == (0, 1, 0, None)
    assert told(caplog) == [("WARNING", "cannot probe a backend", "Too many open files")], "once a minute"
