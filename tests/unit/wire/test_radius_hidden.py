import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire import pyrad_peer
from unit.wire import rfc2865_examples as rfc
from unit.wire.outcomes import outcome

from mfalb.wire.radius import USER_PASSWORD, SharedSecret, read_untrusted
from mfalb.wire.radius_hidden import (
    Keying,
    hide_password,
    rehide_salted_untrusted,
    reveal_password_untrusted,
)

OLD = Keying(SharedSecret(b"old"), bytes(range(16)))
NEW = Keying(SharedSecret(b"a new secret"), bytes(range(16, 32)))
SALT = b"\x80\x01"

secrets = st.binary(min_size=1, max_size=80).map(SharedSecret)
authenticators = st.binary(min_size=16, max_size=16)
passwords = st.binary(max_size=128)
keyings = st.builds(Keying, secrets, authenticators)


@pytest.mark.parametrize(
    ("request_", "password"),
    [(rfc.TELNET_REQUEST, b"arctangent"), (rfc.CARD_REQUEST, b"challenge"), (rfc.CARD_ANSWER, b"99101462")],
)
def test_the_passwords_of_rfc_2865_are_revealed_and_hidden_as_printed(request_: bytes, password: bytes) -> None:
    packet = read_untrusted(request_)
    hidden = packet.first(USER_PASSWORD)
    assert hidden is not None
    assert reveal_password_untrusted(hidden, rfc.SECRET, packet.authenticator) == password.ljust(16, b"\0")
    assert hide_password(password, rfc.SECRET, packet.authenticator) == hidden


@given(passwords, secrets, authenticators)
@settings(max_examples=150)
def test_a_password_is_hidden_as_pyrad_hides_it_and_revealed_again(
    password: bytes, secret: SharedSecret, authenticator: bytes
) -> None:
    hidden = hide_password(password, secret, authenticator)
    assert hidden == pyrad_peer.hidden_password(password, secret, authenticator)
    assert len(hidden) in range(16, 129, 16)
    revealed = reveal_password_untrusted(hidden, secret, authenticator)
    assert revealed.rstrip(b"\0") == password.rstrip(b"\0")
    assert len(revealed) == len(hidden)


@given(st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=32), secrets, authenticators)
@settings(max_examples=100)
def test_pyrad_reveals_what_is_hidden_here(password: str, secret: SharedSecret, authenticator: bytes) -> None:
    hidden = hide_password(password.encode(), secret, authenticator)
    assert pyrad_peer.revealed_password(hidden, secret, authenticator) == password


@pytest.mark.parametrize("length", [0, 1, 15, 17, 31, 127, 129, 144, 253])
def test_a_hidden_password_of_a_wrong_length_is_refused(length: int) -> None:
    def read(value: bytes) -> bytes:
        return reveal_password_untrusted(value, *OLD)

    assert outcome(read, bytes(length)) == "bad_user_password_length"


def test_a_password_of_more_than_128_bytes_is_not_hidden() -> None:
    assert len(hide_password(bytes(128), *OLD)) == 128
    with pytest.raises(ValueError, match="128"):
        hide_password(bytes(129), *OLD)


@given(st.binary(max_size=239), keyings, keyings)
@settings(max_examples=150)
def test_a_salted_value_that_pyrad_made_is_revealed_by_pyrad_after_it_was_hidden_anew(
    text: bytes, old: Keying, new: Keying
) -> None:
    value = pyrad_peer.salted(text, *old)
    hidden = rehide_salted_untrusted(value, old, new, SALT)
    assert pyrad_peer.unsalted(hidden, *new) == text
    assert hidden[:2] == SALT
    assert rehide_salted_untrusted(hidden, new, old, value[:2]) == value


@pytest.mark.parametrize("length", [0, 1, 2, 3, 16, 17, 19, 33, 35])
def test_a_salted_value_of_a_wrong_length_is_refused(length: int) -> None:
    def read(value: bytes) -> bytes:
        return rehide_salted_untrusted(value, OLD, NEW, SALT)

    assert outcome(read, bytes(length)) == "bad_salted_length"
