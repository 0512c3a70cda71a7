from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import backends

from mfalb.balancer.pools.rendezvous import highest_for

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
