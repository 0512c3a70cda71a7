"""What is held for the shared store, for how long, and what goes on without it. Time passes at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from unit.balancer.affinity.node_pins import pin_hub
from unit.still_loop import run

from mfalb.balancer.affinity.hub import Hub
from mfalb.balancer.affinity.store import Pin, PinStoreAway
from mfalb.balancer.upstreams import pin_sharing
from mfalb.balancer.upstreams.node_watch import NodeWatch
from mfalb.balancer.upstreams.pin_ends import Whose
from mfalb.balancer.upstreams.pin_sharing import ANNOUNCE_EVERY_S, PinSharing
from mfalb.balancer.upstreams.store_calls import CALL_LIMIT_S

TIMEOUT_S = 0.05
KEY, OTHER = b"k" * 16, b"o" * 16


@dataclass
class Store:
    """A store in memory that can be slow, silent or away."""

    held: dict[bytes, tuple[bytes, float]] = field(default_factory=dict)
    delay_s: float = 0.0
    failure: str | None = None
    fault: Exception | None = None
    is_announcing: bool = True
    stored: list[tuple[list[bytes], bool]] = field(default_factory=list)
    asked: list[list[bytes]] = field(default_factory=list)
    announced: int = 0
    is_closed: bool = False
    ended: list[list[bytes]] = field(default_factory=list)

    async def _work(self) -> None:
        await asyncio.sleep(self.delay_s)
        if self.fault is not None:
            raise self.fault
        if self.failure is not None:
            raise PinStoreAway(self.failure)

    async def store(self, pins: Sequence[Pin], now: float, *, only_new: bool = False) -> None:
        self.stored.append(([pin.key for pin in pins], only_new))
        await self._work()
        for pin in pins:
            if not only_new or pin.key not in self.held:
                self.held[pin.key] = (b"1 " + pin.backend.encode(), pin.expires_at - now)

    async def end(self, pins: Sequence[Pin], now: float) -> int:
        self.ended.append([pin.key for pin in pins])
        await self._work()
        ours = [pin for pin in pins if self.held.get(pin.key, (b"",))[0] == b"1 " + pin.backend.encode()]
        for pin in ours:
            self.held[pin.key] = (b"1 " + pin.backend.encode() + b" ended", pin.expires_at - now)
        return len(ours)

    async def look_up(self, keys: Sequence[bytes]) -> Sequence[tuple[bytes, float] | None]:
        self.asked.append(list(keys))
        await self._work()
        return [self.held.get(key) for key in keys]

    async def announce(self, _node: str, _settings: bytes, _life_s: float) -> Mapping[str, bytes]:
        self.announced += 1
        if not self.is_announcing or self.failure is not None:
            raise PinStoreAway(self.failure or "refused")
        return {}

    async def close(self) -> None:
        self.is_closed = True


@dataclass
class Desk:
    """A sharing between a table and a store, and what went on when."""

    sharing: PinSharing
    store: Store
    table: Hub
    went_on: list[tuple[str, float]] = field(default_factory=list)
    flushed: int = 0
    draining: list[Whose] = field(default_factory=list)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def pin(self, key: bytes = KEY, backend: str = "b1") -> Pin:
        return Pin(key, backend, self.now() + 60)

    def put(self, name: str, *pins: Pin) -> bool:
        return self.sharing.store(pins or (self.pin(),), lambda now: self.went_on.append((name, now)))

    def ask(self, name: str, *keys: bytes) -> bool:
        return self.sharing.look_up(keys or (KEY,), lambda now: self.went_on.append((name, now)))

    def names(self) -> list[str]:
        return [name for name, _ in self.went_on]

    def times(self) -> list[float]:
        return [time for _, time in self.went_on]

    def count(self, operation: str, result: str) -> int:
        return self.sharing.counters.results[operation, result]


@asynccontextmanager
async def desk(store: Store | None = None, *, until_up: bool = True) -> AsyncIterator[Desk]:
    made, table = store or Store(), pin_hub(1000)

    def flushed() -> None:
        at.flushed += 1

    sharing = PinSharing(
        table,
        made,
        NodeWatch("here", b"{}"),
        timeout_s=TIMEOUT_S,
        known=frozenset(("b1", "b2")),
        released=flushed,
        draining=lambda: at.draining,
        clock=asyncio.get_running_loop().time,
    )
    at = Desk(sharing, made, table)
    sharing.start()
    if until_up:
        await asyncio.sleep(0.001)
        assert sharing.is_up
    try:
        yield at
    finally:
        await sharing.close()


# ------------------------------------------------------------------------------------------ with the store


def test_an_answer_goes_on_when_the_store_has_its_pins_and_not_before() -> None:
    async def story() -> None:
        async with desk(Store(delay_s=0.01)) as at:
            began = at.now()
            assert at.put("answer")
            assert not at.went_on
            await asyncio.sleep(1)
            assert at.names() == ["answer"]
            assert at.times() == pytest.approx([began + 0.01])
            value, life_s = at.store.held[KEY]
            assert value == b"1 b1"
            assert life_s == pytest.approx(60)
            assert (at.count("store", "stored"), at.flushed) == (1, 1)

    run(story())


def test_what_comes_in_one_round_goes_in_one_call() -> None:
    async def story() -> None:
        async with desk() as at:
            for number in range(5):
                at.put(str(number), at.pin(bytes((number,)) * 16))
            await asyncio.sleep(1)
            assert [len(keys) for keys, _ in at.store.stored] == [5]
            assert at.names() == ["0", "1", "2", "3", "4"]

    run(story())


def test_a_message_goes_on_when_the_pin_of_another_node_is_in_this_node_s_table() -> None:
    async def story() -> None:
        async with desk() as at:
            at.store.held[KEY] = (b"1 b2", 30.0)
            assert at.ask("message", OTHER, KEY)
            await asyncio.sleep(0.01)
            assert at.names() == ["message"]
            assert at.table.find(KEY, at.now()) == "b2"
            assert at.table.find(KEY, at.now() + 31) is None, "its life is what was left of it"
            assert at.count("look_up", "found") == 1

    run(story())


def test_a_pin_whose_sign_in_has_ended_elsewhere_leads_to_its_server_and_is_not_counted() -> None:
    async def story() -> None:
        async with desk() as at:
            at.store.held[KEY] = (b"1 b2 ended", 30.0)
            assert at.ask("message")
            await asyncio.sleep(0.01)
            assert at.table.find(KEY, at.now()) == "b2"
            assert at.table.by_backend(at.now()) == {}

    run(story())


def test_a_pin_that_was_made_here_meanwhile_is_not_replaced_by_the_store_s() -> None:
    async def story() -> None:
        async with desk(Store(delay_s=0.01)) as at:
            at.store.held[KEY] = (b"1 b2", 30.0)
            at.ask("message")
            at.table.put(at.pin(backend="b1"), at.now())
            await asyncio.sleep(1)
            assert at.table.find(KEY, at.now()) == "b1"

    run(story())


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (b"2 b1", "other_version"),
        (b"\xff\x00", "foreign"),
        (b"", "foreign"),
        (b"1 b9", "unknown_backend"),
        (None, "absent"),
    ],
)
def test_what_is_no_pin_of_ours_is_passed_over_and_counted(value: bytes | None, result: str) -> None:
    async def story() -> None:
        async with desk() as at:
            if value is not None:
                at.store.held[KEY] = (value, 30.0)
            at.ask("message")
            await asyncio.sleep(1)
            assert (at.names(), at.count("look_up", result)) == (["message"], 1)
            assert at.table.peek(KEY, at.now()) is None

    run(story())


# ------------------------------------------------------------------------------------------ late, silent, away


def test_past_the_deadline_it_goes_on_and_a_store_that_only_was_slow_is_still_used() -> None:
    async def story() -> None:
        async with desk(Store(delay_s=0.2)) as at:
            began = at.now()
            at.put("answer")
            at.ask("message")
            await asyncio.sleep(0.5)
            assert at.names() == ["answer", "message"]
            assert at.times() == pytest.approx([began + TIMEOUT_S] * 2)
            assert (at.count("store", "stored_late"), at.count("look_up", "late")) == (1, 1)
            assert at.sharing.is_up
            assert KEY in at.store.held

    run(story())


def test_three_deadlines_missed_in_a_row_and_nobody_waits_any_more() -> None:
    async def story() -> None:
        async with desk(Store(delay_s=60)) as at:
            at.store.is_announcing = False
            for number in range(5):
                began = at.now()
                is_held = at.put(str(number), at.pin(bytes((number,)) * 16))
                await asyncio.sleep(TIMEOUT_S * 1.5)
                assert is_held is (number < 3)
                if is_held:
                    assert at.times()[number] == pytest.approx(began + TIMEOUT_S)
            assert at.sharing.counters.failures["silent"] == 1

    run(story())


def test_a_call_that_never_ends_is_given_up_and_its_pins_are_kept_for_later() -> None:
    async def story() -> None:
        async with desk(Store(delay_s=3600)) as at:
            at.put("answer")
            at.store.is_announcing = False
            await asyncio.sleep(CALL_LIMIT_S + 0.01)
            assert not at.sharing.is_up
            assert (at.count("store", "store_away"), at.sharing.backlog) == (1, 1)

    run(story())


def test_when_the_store_refuses_what_waits_goes_on_at_once_and_what_comes_later_does_not_wait() -> None:
    async def story() -> None:
        async with desk() as at:
            at.store.failure = "read_only"
            at.put("answer")
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            assert at.names() == ["answer"]
            assert not at.put("next")
            assert not at.ask("question")
            assert at.sharing.counters.failures["read_only"] == 1
            assert (at.count("store", "store_away"), at.count("look_up", "store_away")) == (2, 1)

    run(story())


def test_when_it_is_back_it_gets_the_pins_that_it_missed_where_nothing_newer_stands() -> None:
    async def story() -> None:
        async with desk() as at:
            at.store.failure = "refused"
            at.put("first", at.pin(KEY), at.pin(OTHER))
            await asyncio.sleep(0.001)
            at.put("second", at.pin(b"s" * 16))
            at.put("expired", Pin(b"e" * 16, "b1", at.now() + 0.01))
            at.store.held[OTHER] = (b"1 b2", 60.0)
            at.store.failure = None
            await asyncio.sleep(1)
            assert at.sharing.is_up
            assert at.store.held.keys() == {KEY, OTHER, b"s" * 16}
            assert at.store.held[OTHER][0] == b"1 b2", "another node's pin is newer"
            assert at.store.stored[-1][1], "handed in with NX"
            assert (at.sharing.backlog, at.count("store", "handed_in")) == (0, 3)

    run(story())


def test_of_the_pins_that_wait_for_the_store_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin_sharing, "BACKLOG_LIMIT", 3)

    async def story() -> None:
        async with desk(Store(failure="refused"), until_up=False) as at:
            for number in range(5):
                assert not at.put(str(number), at.pin(bytes((number,)) * 16))
            assert at.sharing.backlog == 3
            at.store.failure = None
            await asyncio.sleep(1)
            assert list(at.store.held) == [bytes((number,)) * 16 for number in (2, 3, 4)]

    run(story())


def test_it_is_looked_for_with_pauses_that_grow_and_do_not_begin_anew_before_it_served_for_a_while() -> None:
    async def story() -> None:
        async with desk(Store(failure="refused"), until_up=False) as at:
            await asyncio.sleep(6.0)  # 0, 0.1, 0.3, 0.7, 1.5, 3.1
            assert at.store.announced == 6
            at.store.failure = None
            await asyncio.sleep(5.0)
            assert at.sharing.is_up
            before = at.store.announced
            at.store.failure = "not_permitted"  # takes announcements, but no pins
            at.put("answer")
            await asyncio.sleep(4.0)
            assert at.store.announced == before, "five seconds have to pass"

    run(story())


def test_each_change_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mfalb.pins")

    async def story() -> None:
        async with desk() as at:
            at.store.failure = "refused"
            for number in range(3):
                at.put(str(number))
                await asyncio.sleep(1)
            at.store.failure = None
            await asyncio.sleep(10)
            assert at.sharing.is_up

    run(story())
    events = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert events == ["the pin store answers", "the pin store is away", "the pin store answers"]


# ------------------------------------------------------------------------------------------ limits, and the end


def test_past_the_limit_of_what_may_wait_all_goes_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin_sharing, "_WAITING_LIMIT", 2)

    async def story() -> None:
        async with desk(Store(delay_s=0.01)) as at:
            assert [at.put("1"), at.ask("2"), at.put("3"), at.ask("4")] == [True, True, False, False]
            assert (at.count("store", "busy"), at.count("look_up", "busy")) == (1, 1)
            await asyncio.sleep(1)
            assert at.put("5"), "there is room again"

    run(story())


def test_more_calls_than_may_be_under_way_gather_and_all_of_them_go_on() -> None:
    async def story() -> None:
        async with desk(Store(delay_s=0.004)) as at:
            for number in range(12):
                at.put(str(number), at.pin(bytes((number,)) * 16))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            assert len(at.store.stored) == 4
            await asyncio.sleep(1)
            assert sum(len(keys) for keys, _ in at.store.stored) == 12
            assert sorted(at.names(), key=int) == [str(number) for number in range(12)]

    run(story())


def test_a_fault_in_what_goes_on_is_told_and_costs_its_neighbours_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_now: float) -> None:
        raise ZeroDivisionError

    async def story() -> None:
        async with desk() as at:
            at.sharing.store((at.pin(),), fails)
            at.put("neighbour")
            await asyncio.sleep(1)
            assert at.names() == ["neighbour"]

    run(story())
    assert "internal error: what waited for the pin store is lost" in caplog.text


def test_a_fault_in_a_call_is_one_of_the_store_and_it_is_looked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with desk(Store(fault=ZeroDivisionError())) as at:
            at.put("answer")
            await asyncio.sleep(0.01)
            assert (at.names(), at.sharing.backlog) == (["answer"], 1)
            at.store.fault = None
            await asyncio.sleep(1)
            assert at.sharing.is_up
            assert at.store.held.keys() == {KEY}

    run(story())
    assert "internal error: a call to the pin store failed" in caplog.text


def test_when_it_closes_nothing_goes_on_and_the_store_is_let_go_of() -> None:
    async def story() -> tuple[list[str], bool]:
        async with desk(Store(delay_s=0.01)) as at:
            at.put("answer")
        await asyncio.sleep(1)
        return at.names(), at.store.is_closed

    assert run(story()) == ([], True)


def test_a_node_that_serves_announces_itself_each_interval() -> None:
    async def story() -> None:
        async with desk() as at:
            await asyncio.sleep(ANNOUNCE_EVERY_S * 3.5)
            assert at.store.announced == 4

    run(story())
