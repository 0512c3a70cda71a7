"""The ends of sign-ins on their way to the store, and from there to a node that waits for them."""

from __future__ import annotations

import asyncio

import pytest
from unit.balancer.upstreams.test_pin_sharing import KEY, OTHER, Desk, Store, desk
from unit.still_loop import run

from mfalb.balancer.affinity.store import TAG_BYTES, Pin, PinEnd
from mfalb.balancer.upstreams import pin_ends
from mfalb.balancer.upstreams.pin_ends import HEAR_EVERY_S

WHOSE = (KEY[-TAG_BYTES:], "b1")


def counted(at: Desk) -> int:
    return sum(left.count for left in at.table.by_backend(at.now()).values())


async def begun_here(at: Desk, key: bytes = KEY, backend: str = "b1") -> Pin:
    """A sign-in whose pin this node and the store have."""
    pin = at.pin(key, backend)
    at.table.put(pin, at.now())
    at.put("answer", pin)
    await asyncio.sleep(0.5)
    return pin


def ended_elsewhere(at: Desk, pin: Pin, *, backend: str = "b1", later_s: float = 0.0) -> None:
    left_s = pin.expires_at - at.now() + later_s
    at.store.held[pin.key] = (b"1 " + backend.encode() + b" ended", left_s)


# ------------------------------------------------------------------------------------------ to the store


def test_the_store_is_told_after_whoever_told_it_went_on_and_of_many_ends_at_once() -> None:
    async def story() -> None:
        async with desk(Store(delay_s=0.01)) as at:
            pins = [await begun_here(at, key) for key in (KEY, OTHER)]
            at.sharing.end(pins[:1])
            at.sharing.end(pins[1:])
            assert at.store.ended == []
            await asyncio.sleep(1)
            assert at.store.ended == [[KEY, OTHER]]
            assert [value for value, _ in at.store.held.values()] == [b"1 b1 ended"] * 2
            assert at.store.held[KEY][1] == pytest.approx(pins[0].expires_at - at.now() + 1), "when it was told"
            assert (at.count("end", "told"), at.sharing.counters.calls["end"]) == (2, 1)
            at.sharing.end([])
            await asyncio.sleep(1)
            assert len(at.store.ended) == 1

    run(story())


def test_what_another_sign_in_has_pinned_since_is_not_told_of_and_counted() -> None:
    async def story() -> None:
        async with desk() as at:
            pin = await begun_here(at)
            at.store.held[KEY] = (b"1 b2", 60.0)
            at.sharing.end([pin])
            await asyncio.sleep(1)
            assert at.store.held[KEY][0] == b"1 b2"
            assert at.count("end", "not_ours") == 1

    run(story())


@pytest.mark.parametrize(("failure", "delay_s"), [("not_permitted", 0.0), ("silent", 3600.0)])
def test_a_store_that_does_not_take_an_end_is_not_away_for_that(failure: str, delay_s: float) -> None:
    async def story() -> None:
        async with desk() as at:
            pin = await begun_here(at)
            at.store.failure, at.store.delay_s = failure, delay_s
            at.sharing.end([pin])
            await asyncio.sleep(1.5)
            assert (at.sharing.is_up, at.count("end", failure)) == (True, 1)
            at.store.failure, at.store.delay_s = None, 0.0
            at.sharing.end([pin])
            await asyncio.sleep(1)
            assert at.count("end", "told") == 1, "it goes on with the next"

    run(story())


def test_with_the_store_away_nobody_is_told() -> None:
    async def story() -> None:
        async with desk(Store(failure="refused"), until_up=False) as at:
            at.sharing.end([at.pin()])
            await asyncio.sleep(1)
            assert (at.store.ended, at.count("end", "store_away")) == ([], 1)

    run(story())


def test_no_more_ends_wait_to_be_told_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin_ends, "_TOLD_LIMIT", 3)

    async def story() -> None:
        async with desk() as at:
            for number in range(5):
                at.sharing.end([at.pin(bytes((number,)) * 16)])
            await asyncio.sleep(1)
            assert [len(keys) for keys in at.store.ended] == [3]
            assert at.count("end", "busy") == 2

    run(story())


# ------------------------------------------------------------------------------------------ from the store


def test_while_its_backend_drains_a_node_hears_of_sign_ins_that_ended_elsewhere() -> None:
    async def story() -> None:
        async with desk() as at:
            pin = await begun_here(at)
            ended_elsewhere(at, pin)
            await asyncio.sleep(3 * HEAR_EVERY_S)
            assert (counted(at), at.store.asked) == (1, []), "nobody asks while nobody waits"
            at.draining.append(WHOSE)
            ended_elsewhere(at, pin)
            await asyncio.sleep(HEAR_EVERY_S)
            assert (counted(at), at.count("end", "heard")) == (0, 1)
            assert at.table.find(KEY, at.now()) == "b1", "late repeats still go there"
            asked = len(at.store.asked)
            await asyncio.sleep(3 * HEAR_EVERY_S)
            assert len(at.store.asked) == asked, "there is nothing left to ask for"

    run(story())


def test_only_the_pins_of_backends_that_drain_are_asked_for() -> None:
    async def story() -> None:
        async with desk() as at:
            await begun_here(at)
            await begun_here(at, OTHER)  # of another pool: its key ends otherwise
            await begun_here(at, b"3" * 12 + KEY[-TAG_BYTES:], "b2")
            at.draining.append(WHOSE)
            await asyncio.sleep(HEAR_EVERY_S)
            assert at.store.asked == [[KEY]]

    run(story())


@pytest.mark.parametrize(
    ("value", "later_s"),
    [
        (None, 0.0),  # it may have been away, or has begun anew
        (b"1 b1", 0.0),
        (b"1 b2 ended", 0.0),
        (b"1 b1 ended", 30.0),  # one that another sign-in has made since
        (b"2 b1 ended", 0.0),
        (b"\xff", 0.0),
    ],
)
def test_what_the_store_does_not_say_of_this_very_pin_has_not_ended(value: bytes | None, later_s: float) -> None:
    async def story() -> None:
        async with desk() as at:
            pin = await begun_here(at)
            at.draining.append(WHOSE)
            del at.store.held[KEY]
            for _ in range(3):
                if value is not None:
                    at.store.held[KEY] = (value, pin.expires_at - at.now() + later_s)
                await asyncio.sleep(HEAR_EVERY_S)
            assert len(at.store.asked) >= 2
            assert counted(at) == 1

    run(story())


def test_a_sign_in_that_begins_while_the_store_is_asked_is_not_taken_for_the_one_that_ended() -> None:
    async def story() -> None:
        async with desk() as at:
            pin = await begun_here(at)
            ended_elsewhere(at, pin)
            at.store.delay_s = 0.3
            at.draining.append(WHOSE)
            await asyncio.sleep(HEAR_EVERY_S - 0.5 + 0.1)  # the question is under way
            assert len(at.store.asked) == 1
            at.table.end(PinEnd(KEY, "b1", at.now()), at.now())
            at.table.put(Pin(KEY, "b1", pin.expires_at + 1), at.now())
            await asyncio.sleep(0.5)
            assert counted(at) == 1

    run(story())


def test_with_the_store_away_or_failing_it_is_tried_again_later() -> None:
    async def story() -> None:
        async with desk() as at:
            pin = await begun_here(at)
            at.draining.append(WHOSE)
            at.store.failure = "refused"
            await asyncio.sleep(3 * HEAR_EVERY_S)
            assert counted(at) == 1
            at.store.failure = None
            await asyncio.sleep(10)
            ended_elsewhere(at, pin)
            await asyncio.sleep(HEAR_EVERY_S)
            assert counted(at) == 0

    run(story())
