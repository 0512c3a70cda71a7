"""Promise: over RADIUS a code goes back to the server that sent it, and no NAS can make the phone ring twice."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from programs import radclient
from programs.balanced_estate import (
    CALLED,
    RADIUS_SECRET,
    TEXTED,
    UNPINNED,
    BalancedEstate,
    balanced_estate,
)
from programs.ports import LOOPBACK
from programs.radclient import Answer, Target

from mfalb.reference.config.values import StateKind, User
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret
from mfalb.wire.radius_hidden import hide_password


@pytest_asyncio.fixture
async def balanced(tmp_path: Path) -> AsyncIterator[BalancedEstate]:
    async with balanced_estate(tmp_path) as running:
        yield running


async def ask(balanced: BalancedEstate, *attributes: tuple[str, str]) -> Answer:
    """One request by radclient, from a socket of its own."""
    target = Target(LOOPBACK, balanced.radius_port, RADIUS_SECRET)
    (answer,) = await asyncio.to_thread(radclient.send, target, [attributes])
    assert answer is not None, "no answer"
    return answer


async def begin(balanced: BalancedEstate, user: User) -> str:
    """Half one; returns the State."""
    challenge = await ask(balanced, ("User-Name", user.name), ("User-Password", user.password))
    assert challenge.code == "Access-Challenge"
    return challenge.attributes["State"]


async def end(balanced: BalancedEstate, user: User, state: str) -> str:
    (code, *_) = await balanced.estate.cloud.codes(user.name)
    answer = await ask(balanced, ("User-Name", user.name), ("User-Password", code), ("State", state))
    return answer.code


@pytest.mark.parametrize("state", list(StateKind), ids=lambda kind: kind.value)
async def test_b14_codes_are_accepted_whether_states_are_unique_or_every_server_sends_the_same(
    tmp_path: Path, state: StateKind
) -> None:
    async with balanced_estate(tmp_path, state=state) as balanced:
        states = [await begin(balanced, user) for user in TEXTED]
        codes = [await end(balanced, user, state) for user, state in zip(TEXTED, states, strict=True)]
        assert codes == ["Access-Accept"] * len(TEXTED)
        took = [server.log_text().count("second half") for server in balanced.estate.mfa_servers]
        assert took == [len(TEXTED) // 2] * 2
        assert await balanced.estate.cloud.texts_sent() == {user.name: 1 for user in TEXTED}


async def test_without_pins_codes_reach_servers_that_do_not_know_them(tmp_path: Path) -> None:
    async with balanced_estate(tmp_path, affinity=UNPINNED) as unpinned:
        states = [await begin(unpinned, user) for user in TEXTED[:3]]  # an odd number: the turn is then the other's
        codes = [await end(unpinned, user, state) for user, state in zip(TEXTED, states, strict=False)]
        assert codes == ["Access-Reject"] * 3
        logs = "".join(server.log_text() for server in unpinned.estate.mfa_servers)
        assert logs.count("unknown authreqid on this node") == 3


def first_half(user: User, identifier: int) -> bytes:
    secret, authenticator = SharedSecret(RADIUS_SECRET.encode()), os.urandom(16)
    body = radius.attribute(radius.USER_NAME, user.name.encode())
    body += radius.attribute(radius.USER_PASSWORD, hide_password(user.password.encode(), secret, authenticator))
    return radius.signed_request(radius.ACCESS_REQUEST, identifier, authenticator, body, secret)


def repeated(balanced: BalancedEstate, request: bytes, times: int, pause_s: float) -> list[bytes]:
    """The answers to a datagram that an impatient NAS sends again and again from one socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nas:
        nas.connect((LOOPBACK, balanced.radius_port))
        answers = []
        for _ in range(times):
            nas.send(request)
            nas.settimeout(pause_s)
            try:
                answers.append(nas.recv(4096))
            except TimeoutError:
                continue
        nas.settimeout(5.0)
        nas.send(request)
        answers.append(nas.recv(4096))
        return answers


async def test_c1_a_nas_that_repeats_itself_while_the_phone_rings_rings_it_once(balanced: BalancedEstate) -> None:
    request = first_half(CALLED, 7)
    # The person answers after two seconds; the NAS asks every half second and does not wait
    answers = await asyncio.to_thread(repeated, balanced, request, 6, 0.5)
    assert answers, "nobody answered"
    assert len(set(answers)) == 1, "a retransmit must get the stored bytes"
    assert answers[0][0] == radius.ACCESS_ACCEPT
    assert await balanced.estate.cloud.calls_made() == {CALLED.name: 1}
    assert sum(server.log_text().count("first half") for server in balanced.estate.mfa_servers) == 1


async def test_b13_when_the_server_that_sent_the_code_is_dead_the_user_is_told_at_once(
    balanced: BalancedEstate,
) -> None:
    user = TEXTED[0]
    state = await begin(balanced, user)
    sender = next(server for server in balanced.estate.mfa_servers if "first half" in server.log_text())
    await sender.kill()
    (code, *_) = await balanced.estate.cloud.codes(user.name)
    began = time.monotonic()
    answer = await ask(balanced, ("User-Name", user.name), ("User-Password", code), ("State", state))
    assert answer.code == "Access-Reject"
    assert "sign in again" in answer.attributes["Reply-Message"]
    assert time.monotonic() - began < 2, "nobody waits for a server that is gone"
    for other in TEXTED[1:5]:
        assert await end(balanced, other, await begin(balanced, other)) == "Access-Accept"


async def test_f3_a_wrong_password_and_a_wrong_code_are_rejections_and_are_tried_on_no_other_server(
    balanced: BalancedEstate,
) -> None:
    user = TEXTED[0]
    answer = await ask(balanced, ("User-Name", user.name), ("User-Password", "not-the-password"))
    assert answer.code == "Access-Reject"
    state = await begin(balanced, user)
    answer = await ask(balanced, ("User-Name", user.name), ("User-Password", "000000x"), ("State", state))
    assert answer.code == "Access-Reject"
    assert sum(server.log_text().count("second half") for server in balanced.estate.mfa_servers) == 1
