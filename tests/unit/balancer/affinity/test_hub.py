"""The pins that all workers share: whatever is done to them, they are as a plain table would have them."""

from __future__ import annotations

import mmap
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mfalb.balancer.affinity.hub import SLOT_BYTES, Hub, HubPlan, HubReader
from mfalb.balancer.affinity.store import Pin, PinsLeft

LIFE_S = 10.0


def key(number: int) -> bytes:
    return blake2b(number.to_bytes(4, "big"), digest_size=16).digest()


def memory_for(plan: HubPlan) -> mmap.mmap:
    return mmap.mmap(-1, plan.size_bytes)


def slot_at(plan: HubPlan, region: int, number: int = 1) -> int:
    return region * plan.region_bytes + plan.slots_at + (number - 1) * SLOT_BYTES


@pytest.fixture
def plan() -> HubPlan:
    return HubPlan(2, 8)


@pytest.fixture
def memory(plan: HubPlan) -> mmap.mmap:
    return memory_for(plan)


def test_every_worker_and_the_supervisor_find_what_one_has_made(memory: mmap.mmap, plan: HubPlan) -> None:
    one, other, supervisor = Hub(memory, plan, 0), Hub(memory, plan, 1), HubReader(memory, plan)
    one.put(Pin(key(1), "mfa1", 10.0), 0.0)
    other.put(Pin(key(2), "mfa2", 10.0), 0.0)
    for hub in (one, other, supervisor):
        assert (hub.find(key(1), 5.0), hub.find(key(2), 5.0), hub.find(key(3), 5.0)) == ("mfa1", "mfa2", None)
        assert (hub.counters.hits, hub.counters.misses) == (2, 1)
    assert supervisor.by_backend(5.0) == {"mfa1": PinsLeft(1, 10.0), "mfa2": PinsLeft(1, 10.0)}


def test_of_two_pins_with_one_key_the_younger_counts(memory: mmap.mmap, plan: HubPlan) -> None:
    one, other = Hub(memory, plan, 0), Hub(memory, plan, 1)
    one.put(Pin(key(1), "mfa1", 100.0), 0.0)
    other.put(Pin(key(1), "mfa2", 10.0), 1.0)
    assert one.peek(key(1), 2.0) == "mfa2"
    assert one.peek(key(1), 10.0) is None, "the older one says nothing any more"
    one.put(Pin(key(1), "mfa3", 100.0), 3.0)
    assert other.peek(key(1), 4.0) == "mfa3"


def test_a_pin_is_over_when_its_time_is(memory: mmap.mmap, plan: HubPlan) -> None:
    hub = Hub(memory, plan, 0)
    hub.put(Pin(key(1), "mfa1", 10.0), 0.0)
    assert hub.find(key(1), 9.9) == "mfa1"
    assert hub.find(key(1), 10.0) is None
    assert len(hub) == 1
    hub.expire(10.0)
    assert len(hub) == 0
    assert hub.by_backend(0.0) == {}


@pytest.mark.parametrize("at", range(0, 71, 5))
def test_a_slot_that_was_half_written_counts_as_empty(memory: mmap.mmap, plan: HubPlan, at: int) -> None:
    hub = Hub(memory, plan, 0)
    hub.put(Pin(key(1), "a-long-name-of-a-backend-1234567", 1e300 / 3), 1 / 3)
    place = slot_at(plan, 0) + at
    memory[place : place + 1] = bytes((memory[place] ^ 0xFF,))
    assert hub.find(key(1), 5.0) is None
    assert HubReader(memory, plan).by_backend(5.0) == {}


def test_when_a_region_is_full_who_expires_first_gives_way(memory: mmap.mmap, plan: HubPlan) -> None:
    hub = Hub(memory, plan, 0)
    for number in range(plan.limit):
        hub.put(Pin(key(number), "mfa1", 100.0 - number), 0.0)
    hub.put(Pin(key(99), "mfa2", 50.0), 1.0)
    found = [number for number in range(plan.limit) if hub.find(key(number), 2.0)]
    assert found == list(range(plan.limit - 1))
    assert hub.find(key(99), 2.0) == "mfa2"
    assert HubReader(memory, plan).evicted == 1


def test_a_region_full_of_pins_that_count_for_a_day_keeps_the_new_ones_that_count_for_minutes() -> None:
    """Pins of sessions must not drive out those of sign-ins, which expire long before them."""
    plan = HubPlan(1, 100)
    hub = Hub(memory_for(plan), plan, 0)
    for number in range(plan.limit):
        hub.put(Pin(key(number), "mfa1", 86_400.0 + number), float(number))
    for number in range(100, 150):
        hub.put(Pin(key(number), "mfa2", number + 300.0), float(number))
    assert [number for number in range(150) if hub.find(key(number), 150.0) is None] == list(range(50))
    assert hub.evicted == 50


def test_a_pin_that_counts_for_long_is_there_to_its_end_and_its_slot_afterwards() -> None:
    plan = HubPlan(1, 2)
    hub = Hub(memory_for(plan), plan, 0)
    hub.put(Pin(key(1), "mfa1", 1000.0), 0.0)
    hub.put(Pin(key(2), "mfa1", 2000.0), 0.0)
    for now in range(0, 1000, 50):
        hub.expire(float(now))
        assert hub.find(key(1), float(now)) == "mfa1"
    hub.expire(1000.0)
    assert (hub.find(key(1), 1000.0), len(hub)) == (None, 1)
    hub.put(Pin(key(3), "mfa2", 2000.0), 1001.0)
    assert (hub.find(key(2), 1001.0), hub.find(key(3), 1001.0), hub.evicted) == ("mfa1", "mfa2", 0)


def test_a_pin_that_is_renewed_counts_once(memory: mmap.mmap, plan: HubPlan) -> None:
    hub = Hub(memory, plan, 0)
    for now in range(20):
        hub.put(Pin(key(1), "mfa1", now + 10.0), float(now))
    assert len(hub) == 1


def test_a_pin_that_was_renewed_gives_way_by_its_new_time(memory: mmap.mmap, plan: HubPlan) -> None:
    hub = Hub(memory, plan, 0)
    for number in range(plan.limit):
        hub.put(Pin(key(number), "mfa1", 10.0 + number), 0.0)
    hub.put(Pin(key(0), "mfa1", 100.0), 1.0)
    hub.expire(10.5)
    assert hub.find(key(0), 50.0) == "mfa1"
    hub.put(Pin(key(99), "mfa2", 50.0), 2.0)
    assert hub.find(key(1), 2.0) is None
    assert hub.find(key(0), 50.0) == "mfa1"


def test_a_successor_has_its_predecessors_pins_and_their_slots(memory: mmap.mmap, plan: HubPlan) -> None:
    first = Hub(memory, plan, 0)
    for number in range(plan.limit):
        first.put(Pin(key(number), "mfa1", 10.0 + number), 0.0)
    first.expire(12.5)  # numbers 0 to 2 are gone
    second = Hub(memory, plan, 0)
    assert len(second) == plan.limit - 3
    assert [number for number in range(plan.limit) if second.find(key(number), 9.0)] == [3, 4, 5, 6, 7]
    for number in range(20, 23):
        second.put(Pin(key(number), "mfa2", 100.0), 12.9)
    assert second.evicted == 0
    second.put(Pin(key(23), "mfa2", 100.0), 12.9)
    assert second.find(key(3), 12.9) is None
    assert second.evicted == 1


def test_a_slot_that_a_predecessor_left_half_written_is_used_again(memory: mmap.mmap, plan: HubPlan) -> None:
    first = Hub(memory, plan, 0)
    for number in range(plan.limit):
        first.put(Pin(key(number), "mfa1", 100.0), 0.0)
    torn = slot_at(plan, 0, 3)
    memory[torn : torn + 8] = bytes(8)
    second = Hub(memory, plan, 0)
    assert len(second) == plan.limit - 1
    second.put(Pin(key(50), "mfa2", 100.0), 1.0)
    assert second.evicted == 0
    assert second.find(key(50), 1.0) == "mfa2"


def test_a_memory_that_is_too_small_is_refused(plan: HubPlan) -> None:
    with pytest.raises(ValueError, match="smaller than its plan"):
        HubReader(mmap.mmap(-1, plan.size_bytes - 1), plan)


class AsADict(RuleBasedStateMachine):
    """Two workers that come and go, never short of room, against a dict. Pins of one kind live equally long."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = HubPlan(2, 64)
        self.memory = memory_for(self.plan)
        self.hubs = [Hub(self.memory, self.plan, region) for region in range(2)]
        self.model: dict[int, tuple[str, float]] = {}
        self.now = 0.0

    @rule(worker=st.integers(0, 1), number=st.integers(0, 40))
    def put(self, worker: int, number: int) -> None:
        self.now += 0.01  # of two pins made at the same moment either may count
        backend = f"mfa{worker}-{self.now}"
        self.hubs[worker].put(Pin(key(number), backend, self.now + LIFE_S), self.now)
        self.model[number] = (backend, self.now + LIFE_S)

    @rule(seconds=st.integers(1, 10))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(worker=st.integers(0, 1))
    def expire(self, worker: int) -> None:
        self.hubs[worker].expire(self.now)

    @rule(worker=st.integers(0, 1))
    @precondition(lambda self: self.model)
    def replace(self, worker: int) -> None:
        self.hubs[worker] = Hub(self.memory, self.plan, worker)

    @invariant()
    def finds_what_the_dict_has(self) -> None:
        for number in range(41):
            backend, expires_at = self.model.get(number, ("", 0.0))
            expected = backend if expires_at > self.now else None
            assert [hub.peek(key(number), self.now) for hub in self.hubs] == [expected, expected]


AsADict.TestCase.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestAsADict = AsADict.TestCase


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 20), st.integers(0, 4)), max_size=80),  # key, life, pause
    st.integers(1, 6),
)
@settings(max_examples=100)
def test_a_region_never_outgrows_its_limit_and_never_finds_what_is_over(
    steps: list[tuple[int, int, int]], limit: int
) -> None:
    plan = HubPlan(1, limit)
    memory = memory_for(plan)
    hub, latest, now = Hub(memory, plan, 0), dict[int, tuple[str, float]](), 0.0
    for index, (number, life, pause) in enumerate(steps):
        now += pause
        hub.put(Pin(key(number), f"mfa{index}", now + life), now)
        latest[number] = (f"mfa{index}", now + life)
        assert hub.peek(key(number), now) == f"mfa{index}"
        held = [other for other in latest if hub.peek(key(other), now)]
        assert len(held) <= limit
        for other in held:
            backend, expires_at = latest[other]
            assert hub.peek(key(other), now) == backend
            assert expires_at > now
