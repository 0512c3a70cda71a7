import pytest

from mfalb.net.openssl import TICKET_KEY_BYTES
from mfalb.net.ticket_keys import ticket_key

SECRET = bytes(range(48))


def test_equal_beginnings_make_equal_keys_and_any_difference_makes_another() -> None:
    key = ticket_key(SECRET, "web", b"trust")
    assert len(key) == TICKET_KEY_BYTES
    assert key == ticket_key(SECRET, "web", b"trust")
    others = {
        ticket_key(SECRET[::-1], "web", b"trust"),
        ticket_key(SECRET, "other", b"trust"),
        ticket_key(SECRET, "web", b""),
        ticket_key(SECRET, "web\0trust", b""),
    }
    assert len(others) == 4
    assert key not in others


def test_the_parts_of_a_key_are_as_good_as_random_each() -> None:
    key = ticket_key(SECRET, "web", b"")
    assert len({key[:16], key[16:48], key[48:]}) == 3
    assert not any(part in SECRET for part in (key[:16], key[16:48], key[48:]))


def test_a_secret_that_could_be_guessed_is_refused() -> None:
    assert ticket_key(SECRET[:32], "web", b"")
    with pytest.raises(ValueError, match="fewer than 32 bytes"):
        ticket_key(SECRET[:31], "web", b"")
