from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mfalb.balancer.exchange.identifiers import IDENTIFIERS, IdentifierTable


class Identifiers(RuleBasedStateMachine):
    """Takes and releases in any order, against a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.table: IdentifierTable[str] = IdentifierTable()
        self.held: dict[int, str] = {}
        self.count = 0

    @rule(preferred=st.none() | st.integers(0, 255), times=st.sampled_from([1, 1, 1, 40, 300]))
    def take(self, preferred: int | None, times: int) -> None:
        for _ in range(times):
            self.count += 1
            name = f"exchange {self.count}"
            was_free = preferred is not None and self.table.is_rested(preferred, 0.0)
            identifier = self.table.take(preferred, name, 0.0)
            if identifier is None:
                assert len(self.held) == IDENTIFIERS
                return
            assert identifier not in self.held, "given twice while held"
            assert not was_free or identifier == preferred
            self.held[identifier] = name

    @rule(identifier=st.integers(0, 255))
    def release(self, identifier: int) -> None:
        self.table.release(identifier)
        self.held.pop(identifier, None)

    @invariant()
    def agrees(self) -> None:
        assert self.table.held == len(self.held)
        assert {n: self.table.holder(n) for n in range(256) if self.table.holder(n) is not None} == self.held
        assert sorted(self.table.holders()) == sorted(self.held.values())
        assert [self.table.is_rested(n, 0.0) for n in range(256)] == [n not in self.held for n in range(256)]


TestIdentifiers = Identifiers.TestCase
TestIdentifiers.settings = settings(max_examples=40, stateful_step_count=30)


def test_c5_an_identifier_that_was_freed_last_is_used_again_last() -> None:
    table: IdentifierTable[int] = IdentifierTable()
    first = [table.take(0, number, 0.0) for number in range(10)]
    for identifier in first:
        assert identifier is not None
        if identifier:  # 0, the preferred one, stays held
            table.release(identifier)
    later = [table.take(0, number, 0.0) for number in range(200)]
    assert not set(first) & set(later)


def test_c5_identifiers_are_given_again_in_the_order_in_which_they_were_let_go() -> None:
    table: IdentifierTable[int] = IdentifierTable()
    for number in range(IDENTIFIERS):
        table.take(None, number, 0.0)
    let_go = [9, 200, 3, 77, 255, 0]
    for identifier in let_go:
        table.release(identifier)
    assert [table.take(None, 0, 0.0) for _ in let_go] == let_go
    assert table.take(None, 0, 0.0) is None, "held until it is answered or given up, however many ask"


def test_c5_letting_go_twice_gives_no_identifier_to_two_holders() -> None:
    table: IdentifierTable[str] = IdentifierTable()
    identifier = table.take(None, "one", 0.0)
    assert identifier is not None
    table.release(identifier)
    table.release(identifier)
    given = [table.take(None, "two", 0.0) for _ in range(IDENTIFIERS + 1)]
    assert sorted(one for one in given if one is not None) == list(range(IDENTIFIERS))
    assert given[-1] is None


def test_an_identifier_that_rests_is_given_by_its_number_to_nobody_and_to_others_in_its_turn() -> None:
    table: IdentifierTable[str] = IdentifierTable()
    table.take(7, "one", 0.0)
    table.release(7, 15.0)
    assert not table.is_rested(7, 14.9)
    assert table.take(7, "two", 14.9) != 7
    assert table.is_rested(7, 15.0)
    assert table.take(7, "three", 15.0) == 7
    table.release(7, 30.0)
    given = [table.take(None, "more", 16.0) for _ in range(IDENTIFIERS)]
    assert given[254] == 7, "the last one, rather than none"


def test_one_that_was_set_aside_is_given_to_nobody_until_it_is_given_back() -> None:
    table: IdentifierTable[str] = IdentifierTable()
    table.set_aside(7)
    assert not table.is_rested(7, 1e9)
    taken = [table.take(7, "other", 1e9) for _ in range(IDENTIFIERS)]
    assert 7 not in taken
    assert taken[-1] is None
    assert table.holder(7) is None
    table.give_back(7)
    assert table.take(7, "other", 0.0) == 7


def test_one_that_was_set_aside_is_reclaimed_once_and_released_as_any_other() -> None:
    table: IdentifierTable[str] = IdentifierTable()
    table.set_aside(7)
    assert table.reclaim(7, "resumed")
    assert not table.reclaim(7, "again")
    table.give_back(7)  # its time is over, but it is held
    assert table.holder(7) == "resumed"
    assert table.held == 1
    table.release(7)
    assert table.held == 0
    assert not table.reclaim(7, "late")
    assert table.is_rested(7, 0.0)
