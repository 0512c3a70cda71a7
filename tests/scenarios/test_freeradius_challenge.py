"""Challenge-response sign-ins: with pins each one ends at the server that began it; without, about half of them fail.

The second test is the proof that the first one can fail: nothing but the pins makes the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from programs.balancer import Balancer
from programs.challenge import Outcome, sign_in_all
from programs.datagram_forms import on_both_forms
from programs.freeradius import FreeRadius
from programs.ports import LOOPBACK
from programs.process import Launch
from programs.radclient import Target
from programs.radius_pool import NO_PINS, STATE_PINS, radius_pool

Servers = tuple[FreeRadius, FreeRadius]
USERS = [f"user{number}" for number in range(80)]


def run_sign_ins(servers: Servers, run_dir: Path, affinity: Mapping[str, Any], launch: Launch | None = None) -> Outcome:
    pool = radius_pool(servers, run_dir, affinity=affinity)
    with Balancer(pool.config, run_dir / "mfalb", secrets=pool.secrets, launch=launch):
        target = Target(LOOPBACK, pool.port, pool.client_secret, parallel=8)
        return sign_in_all(target, USERS, seed=len(USERS))


@on_both_forms
def test_b10_with_pins_every_sign_in_succeeds_and_both_servers_take_part(
    otp_servers: Servers, tmp_path: Path, launch: Launch
) -> None:
    outcome = run_sign_ins(otp_servers, tmp_path, STATE_PINS, launch)
    served = [server.sign_ins() for server in otp_servers]
    assert outcome.accepted == len(USERS), f"{outcome}; by server: {served}"
    assert sum(served) == len(USERS), f"accepted by the servers' own logs: {served}; {outcome}"
    assert min(served) >= len(USERS) // 5, f"one server was hardly used: {served}"


def test_without_pins_about_half_of_the_sign_ins_fail(otp_servers: Servers, tmp_path: Path) -> None:
    outcome = run_sign_ins(otp_servers, tmp_path, NO_PINS)
    failed = outcome.codes["Access-Reject"] / len(USERS)
    assert 0.2 <= failed <= 0.8, f"{failed:.0%} failed: {outcome}"
    assert outcome.codes.keys() <= {"Access-Accept", "Access-Reject"}, f"not every sign-in was answered: {outcome}"
