"""The pins that all workers share: whatever is done to them, they are as a plain table would have them."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mfalb.balancer.affinity.hub import SLOT_BYTES, Hub, HubPlan, HubReader
from mfalb.balancer.affinity.store import TAG_BYTES, Pin, PinCounters, PinEnd, PinsLeft, pin_key, pin_tag

LIFE_S = 10.0


MFA = pin_tag(b"test", "mfa")


def key(number: int, pool: str = "mfa") -> bytes:
    return pin_key(b"test", pool, number.to_bytes(4, "big"))


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
    assert supervisor.by_backend(5.0) == {(MFA, "mfa1"): PinsLeft(1, 10.0), (MFA, "mfa2"): PinsLeft(1, 10.0)}


def test_of_two_pins_with_one_key_the_younger_counts_and_the_older_never_again(
    memory: mmap.mmap, plan: HubPlan
) -> None:
    one, other = Hub(memory, plan, 0), Hub(memory, plan, 1)
    one.put(Pin(key(1), "mfa1", 100.0), 0.0)
    other.put(Pin(key(1), "mfa2", 10.0), 1.0)
    assert one.peek(key(1), 2.0) == "mfa2"
    assert one.by_backend(2.0) == {(MFA, "mfa2"): PinsLeft(1, 10.0)}
    assert one.peek(key(1), 10.0) is None, "the older one says nothing any more"
    other.expire(10.0)
    assert one.peek(key(1), 10.0) is None, "nor when the younger one has left its place"
    one.put(Pin(key(1), "mfa3", 100.0), 13.0)
    assert other.peek(key(1), 14.0) == "mfa3"
    one.expire(100.0)
    assert len(one) == 0, "its owner lets go of it like any other"


def test_of_two_pins_made_at_the_same_moment_one_counts(memory: mmap.mmap, plan: HubPlan) -> None:
    one, other = Hub(memory, plan, 0), Hub(memory, plan, 1)
    one.put(Pin(key(1), "mfa1", 100.0), 5.0)
    other.put(Pin(key(1), "mfa2", 100.0), 5.0)
    assert {hub.peek(key(1), 6.0) for hub in (one, other)} == {"mfa1"}


def test_a_pin_is_over_when_its_time_is(memory: mmap.mmap, plan: HubPlan) -> None:
    hub = Hub(memory, plan, 0)
    hub.put(Pin(key(1), "mfa1", 10.0), 0.0)
    assert hub.find(key(1), 9.9) == "mfa1"
    assert hub.find(key(1), 10.0) is None
    assert len(hub) == 1
    hub.expire(10.0)
    assert len(hub) == 0
    assert hub.by_backend(0.0) == {}


@pytest.mark.parametrize("at", [0, 5, *range(16, 81, 5)])  # between them is the mark, which others write
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


def test_names_of_backends_are_as_long_as_a_configuration_lets_them_be(memory: mmap.mmap, plan: HubPlan) -> None:
    hub, name = Hub(memory, plan, 0), "b" * 64
    hub.put(Pin(key(1), name, 10.0), 0.0)
    assert hub.find(key(1), 5.0) == name


def test_made_ended_found_and_missed_are_counted_and_who_only_looks_is_not(memory: mmap.mmap, plan: HubPlan) -> None:
    hub = Hub(memory, plan, 0)
    hub.put(Pin(key(1), "mfa1", 10.0), 0.0)
    for number in (1, 1, 2):
        hub.find(key(number), 1.0)
    hub.end(PinEnd(key(1), "mfa1", 1.0), 2.0)
    assert hub.counters == PinCounters(made=1, ended=1, hits=2, misses=1)
    assert (hub.peek(key(1), 3.0), hub.peek(key(2), 3.0)) == ("mfa1", None)
    assert (hub.look(key(1), 3.0), hub.look(key(2), 3.0)) == (Pin(key(1), "mfa1", 10.0), None)
    assert hub.counters == PinCounters(made=1, ended=1, hits=2, misses=1)


def test_pins_are_counted_by_pool_and_backend_with_the_last_expiry(memory: mmap.mmap, plan: HubPlan) -> None:
    one, other = Hub(memory, plan, 0), Hub(memory, plan, 1)
    one.put(Pin(key(1), "mfa1", 100.0), 0.0)
    other.put(Pin(key(2), "mfa1", 300.0), 0.0)
    one.put(Pin(key(3), "mfa1", 200.0), 0.0)
    one.put(Pin(key(4), "mfa2", 60.0), 0.0)
    one.put(Pin(key(1, "sdk"), "mfa1", 500.0), 0.0)
    sdk = key(1, "sdk")[-TAG_BYTES:]
    reader = HubReader(memory, plan)
    assert reader.by_backend(50.0) == {
        (MFA, "mfa1"): PinsLeft(3, 300.0),
        (MFA, "mfa2"): PinsLeft(1, 60.0),
        (sdk, "mfa1"): PinsLeft(1, 500.0),
    }
    assert reader.by_backend(100.0) == {(MFA, "mfa1"): PinsLeft(2, 300.0), (sdk, "mfa1"): PinsLeft(1, 500.0)}
    assert reader.by_backend(500.0) == {}


# ------------------------------------------------------------------------------------- ends of sign-ins


@pytest.mark.parametrize("ender", [0, 1])
def test_a_sign_in_that_has_ended_is_counted_no_more_but_its_pin_is_still_found(
    memory: mmap.mmap, plan: HubPlan, ender: int
) -> None:
    hubs, reader = [Hub(memory, plan, 0), Hub(memory, plan, 1)], HubReader(memory, plan)
    hubs[0].put(Pin(key(1), "mfa1", 100.0), 1.0)
    assert hubs[ender].end(PinEnd(key(1), "mfa1", 2.0), 3.0) == Pin(key(1), "mfa1", 100.0)
    assert reader.by_backend(3.0) == {}
    assert [hub.find(key(1), 99.0) for hub in (*hubs, reader)] == ["mfa1"] * 3
    assert hubs[0].find(key(1), 100.0) is None
    assert hubs[ender].end(PinEnd(key(1), "mfa1", 4.0), 5.0) is None, "it has ended already"


@pytest.mark.parametrize(
    "end",
    [
        PinEnd(key(2), "mfa1", 10.0),  # no such pin
        PinEnd(key(1), "mfa2", 10.0),  # another one's
        PinEnd(key(1), "mfa1", 0.9),  # found before this pin was made
    ],
)
def test_an_end_that_is_not_this_pin_s_leaves_it(memory: mmap.mmap, plan: HubPlan, end: PinEnd) -> None:
    hub = Hub(memory, plan, 0)
    hub.put(Pin(key(1), "mfa1", 100.0), 1.0)
    assert hub.end(end, 10.0) is None
    assert hub.by_backend(10.0) == {(MFA, "mfa1"): PinsLeft(1, 100.0)}


def test_a_pin_whose_time_is_over_has_no_end(memory: mmap.mmap, plan: HubPlan) -> None:
    hub = Hub(memory, plan, 0)
    hub.put(Pin(key(1), "mfa1", 100.0), 1.0)
    assert hub.end(PinEnd(key(1), "mfa1", 99.0), 100.0) is None


@pytest.mark.parametrize("second", [0, 1])
def test_two_sign_ins_at_once_with_one_key_are_counted_until_the_pin_s_time_is_over(
    memory: mmap.mmap, plan: HubPlan, second: int
) -> None:
    """Servers that give every user the same State: the end of one says nothing of the other."""
    hubs = [Hub(memory, plan, 0), Hub(memory, plan, 1)]
    hubs[0].put(Pin(key(1), "mfa1", 100.0), 1.0)
    hubs[second].put(Pin(key(1), "mfa1", 110.0), 11.0)
    assert hubs[0].end(PinEnd(key(1), "mfa1", 12.0), 13.0) is None
    assert hubs[0].by_backend(13.0) == {(MFA, "mfa1"): PinsLeft(1, 110.0)}
    hubs[0].put(Pin(key(1), "mfa1", 210.0), 110.0)
    assert hubs[1].end(PinEnd(key(1), "mfa1", 111.0), 112.0) is not None, "that one is alone again"


@pytest.mark.parametrize("second", [0, 1])
def test_a_sign_in_after_the_last_one_s_end_is_counted_and_ends_again(
    memory: mmap.mmap, plan: HubPlan, second: int
) -> None:
    hubs = [Hub(memory, plan, 0), Hub(memory, plan, 1)]
    hubs[0].put(Pin(key(1), "mfa1", 100.0), 1.0)
    hubs[1].end(PinEnd(key(1), "mfa1", 2.0), 3.0)
    hubs[second].put(Pin(key(1), "mfa2", 104.0), 4.0)
    assert hubs[0].by_backend(5.0) == {(MFA, "mfa2"): PinsLeft(1, 104.0)}
    assert hubs[0].end(PinEnd(key(1), "mfa2", 5.0), 6.0) is not None
    assert hubs[0].by_backend(6.0) == {}


def test_a_mark_that_comes_when_another_pin_lies_there_says_nothing(memory: mmap.mmap, plan: HubPlan) -> None:
    hub = Hub(memory, plan, 0)
    hub.put(Pin(key(1), "mfa1", 10.0), 0.0)
    at = slot_at(plan, 0)
    for late in (memory[at : at + 8], memory[at : at + 8][::-1]):
        hub.expire(10.0)
        hub.put(Pin(key(2), "mfa2", 100.0), 11.0)
        memory[at + 8 : at + 16] = late
        assert hub.by_backend(12.0) == {(MFA, "mfa2"): PinsLeft(1, 100.0)}
        assert hub.find(key(2), 12.0) == "mfa2"


def test_a_successor_knows_what_has_ended(memory: mmap.mmap, plan: HubPlan) -> None:
    first = Hub(memory, plan, 0)
    first.put(Pin(key(1), "mfa1", 100.0), 1.0)
    first.end(PinEnd(key(1), "mfa1", 2.0), 3.0)
    second = Hub(memory, plan, 0)
    assert second.by_backend(4.0) == {}
    assert second.find(key(1), 4.0) == "mfa1"


def test_a_memory_that_is_too_small_is_refused(plan: HubPlan) -> None:
    with pytest.raises(ValueError, match="smaller than its plan"):
        HubReader(mmap.mmap(-1, plan.size_bytes - 1), plan)


class AsADict(RuleBasedStateMachine):
    """Two workers that come and go, never short of room, against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = HubPlan(2, 64)
        self.memory = memory_for(self.plan)
        self.hubs = [Hub(self.memory, self.plan, region) for region in range(2)]
        self.model: dict[int, tuple[str, float]] = {}
        self.open: dict[int, int] = {}  # sign-ins that have not ended, 2 for more than can be told apart
        self.now = 0.0

    @rule(worker=st.integers(0, 1), number=st.integers(0, 40))
    def put(self, worker: int, number: int) -> None:
        self.now += 0.01  # of two pins made at the same moment either may count
        backend = f"mfa{worker}-{self.now}"
        self.hubs[worker].put(Pin(key(number), backend, self.now + LIFE_S), self.now)
        is_open = number in self.open and self.model[number][1] > self.now
        self.open[number] = 2 if is_open else 1
        self.model[number] = (backend, self.now + LIFE_S)

    @rule(worker=st.integers(0, 1), number=st.integers(0, 40))
    def end(self, worker: int, number: int) -> None:
        self.now += 0.01
        backend, expires_at = self.model.get(number, ("", 0.0))
        ended = self.hubs[worker].end(PinEnd(key(number), backend, self.now), self.now)
        if self.open.get(number) == 1 and expires_at > self.now:
            assert ended == Pin(key(number), backend, expires_at)
            del self.open[number]
        else:
            assert ended is None

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

    @invariant()
    def counts_what_has_not_ended(self) -> None:
        pins = [self.model[number] for number in self.open]
        expected = {(MFA, backend): PinsLeft(1, expires_at) for backend, expires_at in pins if expires_at > self.now}
        assert HubReader(self.memory, self.plan).by_backend(self.now) == expected


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


def test_a_worker_looks_after_the_open_pins_of_who_sat_there_before_an_upgrade_and_of_nobody_else() -> None:
    plan = HubPlan(4, 8, 2)
    memory = memory_for(plan)
    for seat in range(2):
        Hub(memory, plan, seat).put(Pin(key(seat), "b1", 1300.0), 1000.0)
    following = Hub(memory, plan, 2)
    following.put(Pin(key(2), "b1", 1300.0), 1001.0)
    found = [pin.key for pins in following.open_pins({(MFA, "b1")}, 1002.0) for pin in pins]
    assert sorted(found) == sorted([key(0), key(2)])
