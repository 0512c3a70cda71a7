from collections import Counter
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import backends

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.rendezvous import RendezvousHash, highest_for, score

keys = st.binary(min_size=16, max_size=16)


def test_nobody_is_chosen_among_none() -> None:
    assert highest_for(b"key", []) is None


@given(keys, st.integers(1, 6))
@settings(max_examples=100)
def test_the_choice_does_not_depend_on_the_order_of_the_members(key: bytes, count: int) -> None:
    members = backends([1] * count)
    chosen = highest_for(key, members)
    assert chosen is not None
    for turned in range(count):
        again = highest_for(key, members[turned:] + members[:turned])
        assert again is not None
        assert again.name == chosen.name


@given(keys, st.integers(2, 6), st.integers(0, 5))
@settings(max_examples=150)
def test_d6_only_the_keys_of_a_lost_member_move(key: bytes, count: int, lost: int) -> None:
    members = backends([1] * count)
    name = f"b{lost % count}"
    before = highest_for(key, members)
    after = highest_for(key, [member for member in members if member.name != name])
    assert before is not None
    assert after is not None
    assert after.name != name
    assert before.name in (name, after.name)


def test_keys_are_spread_over_all_members() -> None:
    members = backends([1] * 4)
    chosen = [highest_for(number.to_bytes(16, "big"), members) for number in range(2000)]
    counts = Counter(backend.name for backend in chosen if backend is not None)
    assert all(400 < counts[member.name] < 600 for member in members)


def hashed(found: list[Backend], load_factor: float = 100.0) -> RendezvousHash:
    choice = RendezvousHash(load_factor)
    choice.set_backends(found)
    return choice


def homes(choice: RendezvousHash, count: int = 300) -> dict[bytes, str]:
    """Where each of so many keys goes when nothing is under way."""
    found = {}
    for number in range(count):
        key = b"user%d" % number
        chosen = choice.next(key)
        assert chosen is not None
        found[key] = chosen.name
    return found


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.data())
@settings(max_examples=30)
def test_only_the_keys_of_a_lost_server_move_and_come_back_with_it(weights: list[int], data: st.DataObject) -> None:
    found = backends(weights)
    lost = data.draw(st.sampled_from(found))
    choice = hashed(found)
    before = homes(choice)
    choice.set_backends([one for one in found if one is not lost])
    after = homes(choice)
    assert {key for key, name in before.items() if after[key] != name} == {
        key for key, name in before.items() if name == lost.name
    }
    choice.set_backends(found)
    assert homes(choice) == before


@given(st.permutations(range(5)))
def test_every_node_chooses_alike_in_whatever_order_it_knows_the_servers(order: list[int]) -> None:
    found = backends([1, 2, 3, 4, 5])
    assert homes(hashed([found[index] for index in order]), 50) == homes(hashed(found), 50)


def test_keys_are_spread_by_weight() -> None:
    counts = Counter(homes(hashed(backends([1, 2, 5])), 8000).values())
    for index, expected in enumerate((1000, 2000, 5000)):
        assert counts[f"b{index}"] == pytest.approx(expected, rel=0.1)


def test_a_greater_weight_only_takes_keys_and_takes_them_for_itself() -> None:
    before, after = homes(hashed(backends([2, 2, 2]))), homes(hashed(backends([2, 2, 3])))
    moved = {key for key, name in before.items() if after[key] != name}
    assert moved
    assert {after[key] for key in moved} == {"b2"}


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.sampled_from([1.01, 1.25, 2.0]),
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60),
)
@settings(max_examples=150)
def test_nobody_gets_more_than_its_bounded_share(
    weights: list[int], load_factor: float, arrivals: list[tuple[int, bool]]
) -> None:
    """Four keys, so that without a bound some servers would get nearly all; now and then an exchange ends."""
    found = backends(weights)
    choice, under_way = hashed(found, load_factor), list[Backend]()
    for key, is_end in arrivals:
        if is_end and under_way:
            under_way.pop(key % len(under_way)).active -= 1
            continue
        chosen = choice.next(b"key%d" % key)
        assert chosen is not None, "together they always have room for one more"
        chosen.active += 1
        under_way.append(chosen)
        average = Fraction(len(under_way) * chosen.weight, sum(weights))
        assert chosen.active <= ceil(Fraction(load_factor) * average)


def test_what_is_above_the_bound_goes_to_the_next_in_line() -> None:
    found = backends([1, 1, 1])
    line = sorted(found, key=lambda backend: score(b"alice", backend), reverse=True)
    choice = hashed(found, 1.25)
    for expected in (0, 1, 0, 1, 0):  # with 1 to 5 under way the bounds are 1, 1, 2, 2, 3
        chosen = choice.next(b"alice")
        assert chosen is line[expected]
        chosen.active += 1


def test_a_retry_goes_to_the_next_in_line() -> None:
    found = backends([1, 1, 1])
    line = sorted(found, key=lambda backend: score(b"alice", backend), reverse=True)
    choice = hashed(found)
    assert choice.next_except(frozenset((line[0].name,)), b"alice") is line[1]
    assert choice.next_except(frozenset((line[0].name, line[1].name)), b"alice") is line[2]
    assert choice.next_except(frozenset(one.name for one in found), b"alice") is None


def test_work_without_the_key_goes_round() -> None:
    choice = hashed(backends([1, 1, 1]))
    chosen = [choice.next() for _ in range(3)]
    assert [str(one) for one in chosen] == [f"Backend(web/b{index})" for index in range(3)]
    assert str(choice.next_except(frozenset(("b0",)))) == "Backend(web/b1)"
    assert RendezvousHash(2.0).next(b"x") is RendezvousHash(2.0).next() is None
