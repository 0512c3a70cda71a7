from __future__ import annotations

import asyncio

from mfalb.reference.mobile_app.activations import LIFE_S, Activations


async def test_an_answer_reaches_whoever_waits_for_it() -> None:
    activations = Activations(lambda: 0.0)
    activations.begin("code", "alice")
    waiting = asyncio.ensure_future(activations.wait("code", 60.0))  # noqa: TID251 - a test's own task
    await asyncio.sleep(0)
    assert activations.answer("code", is_approved=True)
    activation = await waiting
    assert activation is not None
    assert (activation.user, activation.answer.result()) == ("alice", True)
    assert len(activations) == 0


async def test_an_answer_that_comes_first_is_kept_and_only_the_first_counts() -> None:
    activations = Activations(lambda: 0.0)
    activations.begin("code", "alice")
    assert activations.answer("code", is_approved=False)
    assert not activations.answer("code", is_approved=True)
    activation = await activations.wait("code", 60.0)
    assert activation is not None
    assert activation.answer.result() is False


async def test_nobody_s_answer_ends_the_activation_all_the_same() -> None:
    activations = Activations(lambda: 0.0)
    activations.begin("code", "alice")
    activation = await activations.wait("code", 0.0)
    assert activation is not None
    assert not activation.answer.done()
    assert await activations.wait("code", 0.0) is None
    assert not activations.answer("code", is_approved=True)


async def test_two_cannot_wait_for_one_answer() -> None:
    activations = Activations(lambda: 0.0)
    activations.begin("code", "alice")
    first = asyncio.ensure_future(activations.wait("code", 60.0))  # noqa: TID251 - a test's own task
    await asyncio.sleep(0)
    assert await activations.wait("code", 60.0) is None
    activations.answer("code", is_approved=True)
    assert await first is not None


async def test_a_code_of_another_server_or_an_old_one_is_not_known() -> None:
    now = 0.0
    activations = Activations(lambda: now)
    activations.begin("code", "alice")
    assert await Activations(lambda: 0.0).wait("code", 0.0) is None
    now = LIFE_S + 1
    assert not activations.answer("code", is_approved=True)
    assert await activations.wait("code", 0.0) is None


async def test_when_full_the_oldest_activation_is_lost() -> None:
    activations = Activations(lambda: 0.0, limit=2)
    for number in range(3):
        activations.begin(str(number), "alice")
    assert [activations.answer(str(number), is_approved=True) for number in range(3)] == [False, True, True]
