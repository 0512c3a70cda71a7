from __future__ import annotations

import pytest

from mfalb.reference.mfa_server.data.user_pins import hash_pin, is_pin, is_possible


def test_a_user_pin_is_known_again_and_another_is_not() -> None:
    kept = hash_pin("4711")
    assert is_pin("4711", kept)
    assert not is_pin("4712", kept)
    assert not is_pin("", kept)


def test_nobody_s_user_pin_is_none_at_all() -> None:
    assert not is_pin("", None)
    assert not is_pin("4711", None)


def test_the_same_user_pin_has_another_hash_each_time_and_is_not_shown() -> None:
    first, second = hash_pin("4711"), hash_pin("4711")
    assert first.digest != second.digest
    assert "4711" not in repr(first)
    assert first.digest.hex() not in repr(first)


@pytest.mark.parametrize(
    ("pin", "is_good"),
    [
        ("4711", True),
        ("1" * 16, True),
        ("471", False),
        ("1" * 17, False),
        ("47a1", False),
        ("", False),
        ("٤٧١١", False),
    ],
)
def test_a_user_pin_is_digits_as_a_phone_has_them(pin: str, *, is_good: bool) -> None:
    assert is_possible(pin) is is_good
