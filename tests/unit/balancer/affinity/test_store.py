import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.balancer.affinity.store import (
    KEY_BYTES,
    Pin,
    PinCounters,
    PinsLeft,
    PinTable,
    backend_of_untrusted,
    pin_key,
    pin_value,
)
from mfalb.errors import MalformedMessage

parts_lists = st.lists(st.binary(max_size=4), max_size=3)


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def put(table: PinTable, number: int, backend: str = "mfa1", *, expires_at: float = 300.0, now: float = 0.0) -> None:
    table.put(Pin(key(number), backend, expires_at), now)


def test_a_pin_is_found_until_it_expires() -> None:
    table = PinTable(10)
    put(table, 1)
    assert table.find(key(1), 0.0) == "mfa1"
    assert table.find(key(1), 299.9) == "mfa1"
    assert table.find(key(1), 300.0) is None
    assert table.find(key(2), 0.0) is None


def test_made_hits_and_misses_are_counted() -> None:
    table = PinTable(10)
    put(table, 1)
    for number in (1, 1, 2):
        table.find(key(number), 0.0)
    table.find(key(1), 300.0)
    assert table.counters == PinCounters(made=1, hits=2, misses=2)


def test_a_pin_made_anew_replaces_the_old_one_and_its_time() -> None:
    table = PinTable(10)
    put(table, 1, "mfa1", expires_at=100.0)
    put(table, 1, "mfa2", expires_at=200.0, now=50.0)
    assert (table.find(key(1), 150.0), len(table)) == ("mfa2", 1)


def test_a_full_table_gives_up_the_pin_that_was_used_least_recently() -> None:
    table = PinTable(3)
    for number in (1, 2, 3):
        put(table, number)
    table.find(key(1), 1.0)
    put(table, 4, now=1.0)
    assert [table.find(key(number), 1.0) is not None for number in (1, 2, 3, 4)] == [True, False, True, True]


def test_expired_pins_leave_room_before_living_ones_do() -> None:
    table = PinTable(3)
    put(table, 1, expires_at=10.0)
    put(table, 2)
    put(table, 3)
    put(table, 4, now=10.0)
    assert [table.find(key(number), 10.0) is not None for number in (1, 2, 3, 4)] == [False, True, True, True]


def test_expiring_frees_what_nobody_asks_for_any_more() -> None:
    table = PinTable(100)
    for number in range(50):
        put(table, number, expires_at=float(number))
    table.expire(25.0)
    assert len(table) == 24


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 20), st.integers(0, 5)),  # key, life, seconds since the last step
        max_size=60,
    ),
    st.integers(1, 6),
)
@settings(max_examples=150)
def test_a_table_never_outgrows_its_limit_and_never_finds_what_is_over(
    steps: list[tuple[int, int, int]], limit: int
) -> None:
    table = PinTable(limit)
    latest: dict[int, tuple[str, float]] = {}
    now = 0.0
    for index, (number, life, pause) in enumerate(steps):
        now += pause
        put(table, number, f"mfa{index}", expires_at=now + life, now=now)
        latest[number] = (f"mfa{index}", now + life)
        assert len(table) <= limit
        assert table.find(key(number), now) == f"mfa{index}"
        for other, (backend, expires_at) in latest.items():
            found = table.find(key(other), now)
            assert found in ((backend, None) if now < expires_at else (None,))


@given(st.binary(max_size=4), parts_lists, st.binary(max_size=4), parts_lists)
@settings(max_examples=200)
def test_a_key_stands_for_all_its_parts_and_where_each_ends(
    kind: bytes, parts: list[bytes], other_kind: bytes, other_parts: list[bytes]
) -> None:
    one, other = pin_key(kind, "p", *parts), pin_key(other_kind, "p", *other_parts)
    assert len(one) == KEY_BYTES
    assert one == pin_key(kind, "p", *parts)
    if (kind, parts) != (other_kind, other_parts):
        assert one != other


def test_keys_of_different_parts_differ_though_their_bytes_are_the_same() -> None:
    keys = {
        pin_key(b"radius_state", "p", b"ab", b"c"),
        pin_key(b"radius_state", "p", b"a", b"bc"),
        pin_key(b"radius_state", "p", b"abc"),
        pin_key(b"radius_state", "p", b"abc", b""),
        pin_key(b"radius_state", "pa", b"b", b"c"),
        pin_key(b"transaction", "p", b"ab", b"c"),
    }
    assert len(keys) == 6


def test_who_only_peeks_finds_the_same_and_is_not_counted() -> None:
    table = PinTable(10)
    put(table, 1)
    assert (table.peek(key(1), 299.9), table.peek(key(1), 300.0), table.peek(key(2), 0.0)) == ("mfa1", None, None)
    assert table.counters == PinCounters(made=1)


# ------------------------------------------------------------------------------------------ shared pins


@pytest.mark.parametrize("name", ["m", "mfa1", "MFA-1.contoso.com", "a" * 64])
def test_a_shared_pin_says_the_backend_s_name(name: str) -> None:
    assert backend_of_untrusted(pin_value(name)) == name


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "foreign"),
        (b"1", "foreign"),
        (b"1 ", "foreign"),
        (b"1 mfa1 ", "foreign"),
        (b"1 mfa1\n", "foreign"),
        (b"1 -mfa1", "foreign"),
        (b"1 " + b"a" * 65, "foreign"),
        (b"2 mfa1", "other_version"),
        (b"12345 mfa1", "foreign"),
        (b"mfa1", "foreign"),
        (b"\x80\x04pickle", "foreign"),
    ],
)
def test_what_no_node_of_this_version_wrote_is_no_pin(value: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        backend_of_untrusted(value)
    assert caught.value.reason == reason


@given(st.binary(max_size=80))
def test_of_any_bytes_only_names_come_out(value: bytes) -> None:
    try:
        name = backend_of_untrusted(value)
    except MalformedMessage:
        return
    assert pin_value(name) == value


def test_a_look_finds_what_find_would_and_leaves_no_trace() -> None:
    table = PinTable(2)
    put(table, 1, "mfa1", expires_at=100.0)
    put(table, 2, "mfa2", expires_at=200.0)
    assert table.look(key(1), 50.0) == Pin(key(1), "mfa1", 100.0)
    assert table.look(key(1), 100.0) is None
    assert table.look(key(3), 50.0) is None
    assert table.counters == PinCounters(made=2)
    table.look(key(1), 50.0)
    put(table, 3, now=50.0)  # the one unused for longest gives way, and a look is no use
    assert table.look(key(1), 50.0) is None
    assert table.look(key(2), 50.0) is not None


def test_pins_are_counted_by_backend_with_the_last_expiry_and_without_those_that_have_expired() -> None:
    table = PinTable(10)
    put(table, 1, "mfa1", expires_at=100.0)
    put(table, 2, "mfa1", expires_at=300.0)
    put(table, 3, "mfa1", expires_at=200.0)
    put(table, 4, "mfa2", expires_at=60.0)
    assert table.by_backend(50.0) == {"mfa1": PinsLeft(3, 300.0), "mfa2": PinsLeft(1, 60.0)}
    assert table.by_backend(60.0) == {"mfa1": PinsLeft(3, 300.0)}
    assert table.by_backend(150.0) == {"mfa1": PinsLeft(2, 300.0)}
    assert table.by_backend(300.0) == {}
    assert table.counters == PinCounters(made=4)
