from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mfalb.balancer.exchange.duplicates import DuplicateTable

LIFE_S = 10.0
ANSWERED_LIMIT = 5
IN_FLIGHT_LIMIT = 4


class Duplicates(RuleBasedStateMachine):
    """Requests begin, are answered and age, against a model that keeps every answer for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.table: DuplicateTable[str] = DuplicateTable(IN_FLIGHT_LIMIT, ANSWERED_LIMIT, LIFE_S)
        self.now = 0.0
        self.answers: dict[bytes, tuple[bytes, float]] = {}

    @rule(key=st.sampled_from([bytes((n,)) for n in range(8)]))
    def begin(self, key: bytes) -> None:
        if not self.table.is_full:
            self.table.in_flight[key] = "exchange"

    @rule(key=st.sampled_from([bytes((n,)) for n in range(8)]), text=st.binary(min_size=1, max_size=2))
    def answer(self, key: bytes, text: bytes) -> None:
        self.table.answer(key, b"authenticator", text, self.now)
        self.answers[key] = (text, self.now + LIFE_S)

    @rule(seconds=st.sampled_from([0.0, 0.1, 3.0, 9.9, 10.0, 30.0]))
    def age(self, seconds: float) -> None:
        self.now += seconds
        self.table.expire(self.now)

    @invariant()
    def stays_within_its_limits(self) -> None:
        assert len(self.table.in_flight) <= IN_FLIGHT_LIMIT
        assert len(self.table.answered) <= ANSWERED_LIMIT
        assert len(self.table._order) <= ANSWERED_LIMIT

    @invariant()
    def repeats_only_the_newest_answer_and_only_in_its_time(self) -> None:
        for key, kept in self.table.answered.items():
            assert kept[1:] == self.answers[key]
            assert kept[2] > self.now

    @invariant()
    def says_when_it_is_full(self) -> None:
        assert self.table.is_full == (len(self.table.in_flight) >= IN_FLIGHT_LIMIT)


TestDuplicates = Duplicates.TestCase
TestDuplicates.settings = settings(max_examples=60, stateful_step_count=40)


def test_the_oldest_answer_gives_way_when_the_table_is_full() -> None:
    table: DuplicateTable[str] = DuplicateTable(1, 3, LIFE_S)
    for number in range(5):
        table.answer(bytes((number,)), b"", b"", float(number))
    assert list(table.answered) == [b"\2", b"\3", b"\4"]


def test_an_answer_under_a_used_key_lives_its_own_full_time() -> None:
    table: DuplicateTable[str] = DuplicateTable(1, 10, LIFE_S)
    table.answer(b"k", b"a", b"first", 0.0)
    table.answer(b"k", b"b", b"second", 5.0)
    table.expire(10.0)
    assert table.answered[b"k"][1] == b"second"
    table.expire(15.0)
    assert not table.answered


def test_answering_takes_the_exchange_out_of_flight() -> None:
    table: DuplicateTable[str] = DuplicateTable(1, 10, LIFE_S)
    table.in_flight[b"k"] = "exchange"
    assert table.is_full
    table.answer(b"k", b"a", b"answer", 0.0)
    assert not table.is_full


def test_answers_that_give_way_before_their_time_are_counted_and_those_that_are_replaced_or_over_are_not() -> None:
    table: DuplicateTable[str] = DuplicateTable(1, 2, LIFE_S)
    table.answer(b"one", b"a", b"first", 0.0)
    table.answer(b"one", b"a", b"second", 1.0)
    table.answer(b"two", b"a", b"", 2.0)
    assert (set(table.answered), table.forgotten_early) == ({b"one", b"two"}, 0), "it was replaced already"
    table.answer(b"three", b"a", b"", 3.0)
    assert (set(table.answered), table.forgotten_early) == ({b"two", b"three"}, 1)
    table.answer(b"four", b"a", b"", 2.0 + LIFE_S)
    assert (set(table.answered), table.forgotten_early) == ({b"three", b"four"}, 1), "it was due"
