import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.balancer.affinity.store import (
    KEY_BYTES,
    TAG_BYTES,
    pin_key,
    pin_tag,
    pin_value,
    read_value_untrusted,
)
from mfalb.errors import MalformedMessage

parts_lists = st.lists(st.binary(max_size=4), max_size=3)


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


def test_a_key_ends_with_the_tag_of_its_kind_and_pool() -> None:
    tags = {(kind, pool): pin_tag(kind, pool) for kind in (b"radius_state", b"transaction") for pool in ("p", "q", "")}
    assert len(set(tags.values())) == len(tags)
    for (kind, pool), tag in tags.items():
        keys = {pin_key(kind, pool, part) for part in (b"", b"one", b"other")}
        assert {key[-TAG_BYTES:] for key in keys} == {tag}
        assert len({key[:-TAG_BYTES] for key in keys}) == 3


# ------------------------------------------------------------------------------------------ shared pins


@pytest.mark.parametrize("name", ["m", "mfa1", "MFA-1.contoso.com", "a" * 64])
def test_a_shared_pin_says_the_backend_s_name(name: str) -> None:
    assert read_value_untrusted(pin_value(name)) == (name, False)
    assert read_value_untrusted(pin_value(name, is_ended=True)) == (name, True)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "foreign"),
        (b"1", "foreign"),
        (b"1 ", "foreign"),
        (b"1 mfa1 ", "foreign"),
        (b"1 mfa1\n", "foreign"),
        (b"1  ended", "foreign"),
        (b"1 mfa1 ended ", "foreign"),
        (b"1 mfa1 ended ended", "foreign"),
        (b"1 mfa1 over", "foreign"),
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
        read_value_untrusted(value)
    assert caught.value.reason == reason


@given(st.binary(max_size=80))
def test_of_any_bytes_only_names_come_out(value: bytes) -> None:
    try:
        name, is_ended = read_value_untrusted(value)
    except MalformedMessage:
        return
    assert pin_value(name, is_ended=is_ended) == value
