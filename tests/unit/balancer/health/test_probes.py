from __future__ import annotations

import asyncio
import errno

import pytest

from mfalb.balancer.config.models import Backend as BackendConfig
from mfalb.balancer.config.models import HttpCheck, TcpCheck
from mfalb.balancer.config.values import Address
from mfalb.balancer.health import probes
from mfalb.balancer.health.probes import ProbeFailed, probe_for
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.health_state import HealthState, Thresholds

BACKEND = Backend(
    "mfa", BackendConfig(name="b1", address=Address("192.0.2.1", 1812)), HealthState(Thresholds(), is_probed=True)
)


async def _refuse(_: Backend) -> None:
    raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


async def _fail_without_words(_: Backend) -> None:
    raise OSError


async def _never_end(_: Backend) -> None:
    await asyncio.Event().wait()


async def _succeed(_: Backend) -> None:
    return


@pytest.mark.parametrize(
    ("probe", "reason"),
    [(_refuse, "Connection refused"), (_fail_without_words, "unreachable"), (_never_end, "timeout")],
)
async def test_a_probe_that_cannot_reach_its_backend_fails_with_a_short_reason(
    probe: probes.Probe, reason: str
) -> None:
    with pytest.raises(ProbeFailed, match=f"^{reason}$"):
        await probes._limited(probe, 0.0)(BACKEND)


async def test_a_probe_that_succeeds_says_nothing() -> None:
    await probes._limited(_succeed, 1.0)(BACKEND)


@pytest.mark.parametrize("check", [TcpCheck(type="tcp"), HttpCheck(type="http")])
def test_every_kind_of_check_that_has_no_watchdog_has_its_probe(check: TcpCheck | HttpCheck) -> None:
    assert callable(probe_for(check, None, None))
