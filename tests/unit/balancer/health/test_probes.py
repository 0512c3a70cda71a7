from __future__ import annotations

import asyncio
import errno

import pytest

from mfalb.balancer.config.models import Backend as BackendConfig
from mfalb.balancer.config.models import HttpCheck, RadiusCheck, TcpCheck
from mfalb.balancer.config.values import Address
from mfalb.balancer.health import probes
from mfalb.balancer.health.probes import ProbeFailed, probe_for, status_fault_untrusted
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.health_state import HealthState, Thresholds
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

SECRET = SharedSecret(b"towards-the-server-1")
AUTHENTICATOR = bytes(range(40, 56))
BACKEND = Backend(
    "mfa", BackendConfig(name="b1", address=Address("192.0.2.1", 1812)), HealthState(Thresholds(), is_probed=True)
)


def answer(code: int = radius.ACCESS_ACCEPT, identifier: int = 40, secret: SharedSecret = SECRET) -> bytes:
    return radius.signed_response(code, identifier, AUTHENTICATOR, b"", secret)


def unsigned_answer() -> bytes:
    head = bytes((radius.ACCESS_ACCEPT, 40, 0, 20))
    return head + SECRET.digest(head + AUTHENTICATOR)


@pytest.mark.parametrize(
    "datagram",
    [answer(), answer(radius.ACCOUNTING_RESPONSE), unsigned_answer(), answer() + b"padding"],
    ids=["accept", "accounting response", "unsigned", "padded"],
)
def test_an_answer_to_status_server_shows_a_working_server(datagram: bytes) -> None:
    assert status_fault_untrusted(datagram, AUTHENTICATOR, SECRET) is None


@pytest.mark.parametrize(
    ("datagram", "fault"),
    [
        (b"", "short_datagram"),
        (answer()[:-1], "truncated"),
        (answer(radius.ACCESS_REJECT), "unexpected answer"),
        (answer(radius.ACCESS_CHALLENGE), "unexpected answer"),
        (answer(identifier=41), "unexpected answer"),
        (answer(secret=SharedSecret(b"another")), "wrong secret"),
        (radius.signed_response(2, 40, bytes(16), b"", SECRET), "wrong secret"),
        (answer()[:-1] + b"?", "wrong secret"),
    ],
)
def test_what_does_not_answer_the_probe_shows_nothing_good(datagram: bytes, fault: str) -> None:
    assert status_fault_untrusted(datagram, AUTHENTICATOR, SECRET) == fault


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


@pytest.mark.parametrize("check", [TcpCheck(type="tcp"), RadiusCheck(type="radius"), HttpCheck(type="http")])
def test_every_kind_of_check_has_its_probe(check: TcpCheck | RadiusCheck | HttpCheck) -> None:
    assert callable(probe_for(check, None))


async def test_a_radius_check_of_a_backend_without_a_secret_is_a_finding_not_a_crash() -> None:
    with pytest.raises(ProbeFailed, match="no secret"):
        await probe_for(RadiusCheck(type="radius"), None)(BACKEND)
