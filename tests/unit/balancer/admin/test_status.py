from __future__ import annotations

import json
from typing import Any

from unit.balancer.pools.pool_builder import backend_config, pool_of, watched_pool

from mfalb.balancer.admin.status import Clocks, status
from mfalb.balancer.config.health_models import PassiveCheck
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.pools.backend import AdminState, LastCheck
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.pools.watchdog import Event, Moment

# 100 s after the process began to count, at noon.
CLOCKS = Clocks(100.0, 1_760_011_200.0)


def page(*pools: Pool, clocks: Clocks = CLOCKS) -> Any:
    """The page as a script reads it."""
    return json.loads(json.dumps(status({pool.name: pool for pool in pools}, clocks)))


def test_a_watched_backend_s_state_is_told_with_reason_age_and_counts() -> None:
    pool = watched_pool("mfa1")
    backend = pool.backends["mfa1"]
    pool.watch(backend, Event.EXPIRED, Moment(40.0), "no answer")
    pool.watch(backend, Event.ANSWERED, Moment(40.5), "no answer")
    backend.last_reply_at = 93.2
    backend.probes_sent, backend.probes_answered, backend.probes_lost = 5, 3, 1
    backend.requests, backend.failures, backend.active = 70, 2, 1
    assert page(pool)["pools"] == {
        "mfa": [
            {
                "name": "mfa1",
                "address": "10.0.0.1:443",
                "health": "up",
                "reason": "ok",
                "since": "2025-10-09T11:59:00+00:00",
                "degraded": None,
                "ejected_until": None,
                "consecutive_failures": 0,
                "last_check": None,
                "watchdog": "okay",
                "last_reply_age_s": 6.8,
                "probes": {"sent": 5, "answered": 3, "lost": 1},
                "weight": 1,
                "share": 1.0,
                "backup": False,
                "admin_state": "ready",
                "active": 1,
                "requests": 70,
                "failures": 2,
            }
        ]
    }


def test_what_probes_and_traffic_have_shown_is_told() -> None:
    pool = pool_of({"b1": (Health.UP, AdminState.READY), "b2": (Health.UP, AdminState.READY)}, passive=PassiveCheck())
    backend = pool.backends["b1"]
    backend.last_check = LastCheck(98.5, 0.01234, is_good=True, text="secure")
    pool.observe_degraded(backend, "does not reach the master")
    for _ in range(5):
        pool.observe_failure(backend, "reset", 90.0)
    first, second = page(pool)["pools"]["web"]
    assert (first["health"], first["degraded"]) == ("up", "does not reach the master")
    assert (first["ejected_until"], first["consecutive_failures"]) == ("2025-10-09T12:00:20+00:00", 5)
    assert first["last_check"] == {
        "time": "2025-10-09T11:59:58+00:00",
        "ms": 12.3,
        "good": True,
        "result": "secure",
    }
    assert (second["ejected_until"], second["last_check"]) == (None, None)
    assert page(pool)["failovers"][0]["reason"] == "ejected: reset"


def test_what_is_not_known_is_null() -> None:
    told = page(pool_of({"b1": (Health.UNKNOWN, AdminState.DRAIN)}))["pools"]["web"][0]
    assert (told["health"], told["admin_state"]) == ("unknown", "drain")
    assert (told["since"], told["watchdog"], told["last_reply_age_s"]) == (None, None, None)


def test_changes_of_all_pools_stand_in_one_table_newest_first() -> None:
    web = pool_of({"b1": (Health.UNKNOWN, AdminState.READY)})
    web.observe("b1", is_good=True, reason="ok", now=10.0)
    mfa = watched_pool("mfa1")
    for event, now in ((Event.EXPIRED, 40.0), (Event.REFUSED, 44.0)):
        mfa.watch(mfa.backends["mfa1"], event, Moment(now), "Connection refused")
    assert page(web, mfa)["failovers"] == [
        {
            "time": "2025-10-09T11:59:04+00:00",
            "pool": "mfa",
            "backend": "mfa1",
            "health": "down",
            "reason": "Connection refused",
        },
        {"time": "2025-10-09T11:58:30+00:00", "pool": "web", "backend": "b1", "health": "up", "reason": "ok"},
    ]


def test_pools_in_panic_are_named_and_backups_are_known_by_name() -> None:
    pool = pool_of({"b1": (Health.DOWN, AdminState.READY)})
    assert page(pool)["panicking"] == []
    told = page(Pool("web", PoolConfig(backends=(backend_config("b1", 3), backend_config("b2", is_backup=True)))))
    assert [(one["weight"], one["backup"]) for one in told["pools"]["web"]] == [(3, False), (1, True)]
    pool.config = pool.config.model_copy(update={"panic_threshold": 0.5})
    pool.refresh()
    assert page(pool)["panicking"] == ["web"]
