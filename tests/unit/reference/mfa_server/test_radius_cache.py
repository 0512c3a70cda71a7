from __future__ import annotations

import asyncio

import pytest

from mfalb.reference.config.mfa_server import CacheType, CachingRule
from mfalb.reference.mfa_server import radius_cache
from mfalb.reference.mfa_server.radius_cache import Successes
from mfalb.reference.mfa_server.second_factor import Begun, FirstHalf

RULE = CachingRule(CacheType.USER, 60.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Phone:
    """Is asked, and answered when the test says so."""

    def __init__(self, begun: Begun) -> None:
        self.begun, self.rung, self.answered = begun, 0, asyncio.Event()

    async def ask(self) -> FirstHalf:
        self.rung += 1
        await self.answered.wait()
        return FirstHalf(self.begun, str(self.rung))


def test_a_success_counts_for_its_seconds_and_its_user() -> None:
    clock = Clock()
    successes = Successes([RULE], "VPN", clock)
    assert not successes.has_passed(successes.key("alice", "10.0.0.1"))
    successes.passed(successes.key("alice", "10.0.0.1"))
    assert successes.has_passed(successes.key("ALICE", "10.0.0.2"))
    assert not successes.has_passed(successes.key("bob", "10.0.0.1"))
    clock.now += 60.0
    assert not successes.has_passed(successes.key("alice", "10.0.0.1"))


def test_a_rule_may_be_for_one_client_at_a_time() -> None:
    successes = Successes([CachingRule(CacheType.USER_AND_CLIENT, 60.0)], "VPN")
    successes.passed(successes.key("alice", "10.0.0.1"))
    assert successes.has_passed(successes.key("alice", "10.0.0.1"))
    assert not successes.has_passed(successes.key("alice", "10.0.0.2"))


@pytest.mark.parametrize(
    ("auth_type", "application", "counts"),
    [
        (None, None, True),
        ("radius", None, True),
        ("sdk", None, False),
        (None, "VPN", True),
        (None, "Citrix", False),
        ("radius", "VPN", True),
        ("sdk", "VPN", False),
    ],
)
def test_a_rule_for_something_else_is_none(auth_type: str | None, application: str | None, counts: bool) -> None:
    rule = CachingRule(CacheType.USER, 60.0, auth_type, application)
    successes = Successes([rule], "VPN")
    assert (successes.key("alice", "10.0.0.1") is not None) is counts
    successes.passed(successes.key("alice", "10.0.0.1"))
    assert successes.has_passed(successes.key("alice", "10.0.0.1")) is counts


@pytest.mark.parametrize(("begun", "remembered"), [(Begun.AUTHENTICATED, True), (Begun.DENIED, False)])
async def test_who_asks_while_the_phone_rings_shares_its_answer(begun: Begun, remembered: bool) -> None:
    successes, phone = Successes([RULE], "VPN"), Phone(begun)
    key = successes.key("alice", "10.0.0.1")
    waiting = [asyncio.ensure_future(successes.shared(key, phone.ask)) for _ in range(3)]  # noqa: TID251 - own
    await asyncio.sleep(0)
    phone.answered.set()
    assert {half.begun for half in await asyncio.gather(*waiting)} == {begun}
    assert phone.rung == 1
    assert successes.has_passed(key) is remembered


async def test_a_text_is_not_shared_for_its_code_belongs_to_one_request() -> None:
    successes, phone = Successes([RULE], "VPN"), Phone(Begun.TEXT_SENT)
    key = successes.key("alice", "10.0.0.1")
    waiting = [asyncio.ensure_future(successes.shared(key, phone.ask)) for _ in range(2)]  # noqa: TID251 - own
    await asyncio.sleep(0)
    phone.answered.set()
    assert {half.request_id for half in await asyncio.gather(*waiting)} == {"1", "2"}
    assert not successes.has_passed(key), "a text that was sent is no success yet"


async def test_without_a_rule_everybody_is_asked() -> None:
    successes, phone = Successes([], "VPN"), Phone(Begun.AUTHENTICATED)
    phone.answered.set()
    for _ in range(2):
        await successes.shared(successes.key("alice", "10.0.0.1"), phone.ask)
    assert phone.rung == 2


def test_when_full_the_oldest_success_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radius_cache, "LIMIT", 2)
    successes = Successes([RULE], "VPN")
    keys = [successes.key(user, "") for user in ("alice", "bob", "carol")]
    for key in keys:
        successes.passed(key)
    assert [successes.has_passed(key) for key in keys] == [False, True, True]
