"""What a RADIUS client sees when a secret is wrong, a password is wrong, or a server dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.challenge import OTP_DIGITS, sign_in_all
from programs.freeradius import OTP_FIRST_PASSWORD, FreeRadius
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Answer, Attributes, Target, send
from programs.radius_pool import radius_pool

Servers = tuple[FreeRadius, FreeRadius]


@pytest.fixture
def target(otp_servers: Servers, tmp_path: Path) -> Iterator[Target]:
    """Where radclient reaches the balancer, in front of both OTP servers."""
    pool = radius_pool(otp_servers, tmp_path)
    with Balancer(pool.config, tmp_path / "mfalb", secrets=pool.secrets):
        yield Target(LOOPBACK, pool.port, pool.client_secret, parallel=8)


def first_half(user: str, password: str = OTP_FIRST_PASSWORD) -> Attributes:
    return [("User-Name", user), ("User-Password", password)]


def second_half(user: str, challenge: Answer) -> Attributes:
    otp = challenge.attributes["Reply-Message"].rsplit(" ", 1)[1]
    return [("User-Name", user), ("User-Password", otp), ("State", challenge.attributes["State"])]


def test_a_wrong_password_is_rejected_by_the_server_and_the_client_is_told(
    target: Target, otp_servers: Servers
) -> None:
    answers = send(target, [first_half(f"user{number}", "not-the-password") for number in range(8)])
    assert [answer and answer.code for answer in answers] == ["Access-Reject"] * 8
    assert sum(server.refusals() for server in otp_servers) == 8


def test_a_client_with_a_wrong_secret_hears_nothing_and_no_server_hears_of_it(
    target: Target, otp_servers: Servers
) -> None:
    stranger = replace(target, secret="not-the-secret", timeout_s=0.5, tries=1)
    assert send(stranger, [first_half("mallory")]) == [None]
    assert send(target, [first_half("alice")]) != [None], "the balancer serves no one"
    assert all("mallory" not in server.log() for server in otp_servers)


def test_d1_the_balancer_says_that_it_is_alive_when_asked_with_status_server(target: Target) -> None:
    (answer,) = send(target, [[]], "status")
    assert answer is not None
    assert answer.code == "Access-Accept"


def test_sign_ins_go_on_at_the_other_server_when_one_is_killed(target: Target, otp_servers: Servers) -> None:
    killed, survivor = otp_servers
    killed.kill()
    outcome = sign_in_all(target, [f"user{number}" for number in range(20)], seed=20)
    assert outcome.accepted == 20, f"{outcome}"
    assert survivor.sign_ins() == 20


def test_b13_a_sign_in_begun_at_a_killed_server_is_never_given_to_the_other_one(
    target: Target, otp_servers: Servers
) -> None:
    users = [f"user{number}" for number in range(30)]
    begun = dict(zip(users, send(target, [first_half(user) for user in users]), strict=True))
    seconds = [second_half(user, challenge) for user, challenge in begun.items() if challenge is not None]
    assert len(seconds) == len(users)
    # The site loses an OTP's leading zeros and then refuses it at the right server too: those prove nothing.
    usable = [second for second in seconds if len(dict(second)["User-Password"]) == OTP_DIGITS]
    killed, survivor = otp_servers
    killed.kill()
    answers = send(replace(target, timeout_s=0.5, tries=2), usable)
    codes = Counter(answer.code if answer else "silence" for answer in answers)
    wait_until(lambda: survivor.sign_ins() == codes["Access-Accept"], "the survivor's log to be written")
    assert survivor.refusals() == 0, f"the survivor was asked to finish what it had not begun: {codes}"
    assert 0 < codes["Access-Accept"] < len(usable), f"the servers did not share the beginnings: {codes}"
