import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire import pyrad_peer
from unit.wire import rfc2865_examples as rfc
from unit.wire.outcomes import outcome
from unit.wire.rfc2868_peer import ascend_secret

from mfalb.wire.radius import USER_PASSWORD, SharedSecret, read_untrusted
from mfalb.wire.radius_hidden import (
    Keying,
    hide_password,
    rehide_ascend_secret_untrusted,
    rehide_salted_untrusted,
    reveal_password_untrusted,
    unique_salt,
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
        return reveal_password_untrusted(value, OLD.secret, OLD.authenticator)

    assert outcome(read, bytes(length)) == "bad_user_password_length"


def test_a_password_of_more_than_128_bytes_is_not_hidden() -> None:
    assert len(hide_password(bytes(128), OLD.secret, OLD.authenticator)) == 128
    with pytest.raises(ValueError, match="128"):
        hide_password(bytes(129), OLD.secret, OLD.authenticator)


@given(st.binary(max_size=239), keyings, keyings)
@settings(max_examples=150)
def test_a_salted_value_that_pyrad_made_is_revealed_by_pyrad_after_it_was_hidden_anew(
    text: bytes, old: Keying, new: Keying
) -> None:
    value = pyrad_peer.salted(text, old.secret, old.authenticator)
    hidden = rehide_salted_untrusted(value, old, new, SALT)
    assert pyrad_peer.unsalted(hidden, new.secret, new.authenticator) == text
    assert hidden[:2] == SALT
    assert rehide_salted_untrusted(hidden, new, old, value[:2]) == value


@pytest.mark.parametrize("length", [0, 1, 2, 3, 16, 17, 19, 33, 35])
def test_a_salted_value_of_a_wrong_length_is_refused(length: int) -> None:
    def read(value: bytes) -> bytes:
        return rehide_salted_untrusted(value, OLD, NEW, SALT)

    assert outcome(read, bytes(length)) == "bad_salted_length"


@given(st.lists(st.binary(min_size=2, max_size=2), max_size=220))
def test_salts_get_their_first_bit_and_become_unique_and_stay_when_they_may(salts: list[bytes]) -> None:
    used: set[int] = set()
    given_out = [unique_salt(salt, used) for salt in salts]
    assert len(set(given_out)) == len(salts) == len(used)
    assert all(salt[0] & 0x80 for salt in given_out)
    again: set[int] = set()
    assert [unique_salt(salt, again) for salt in given_out] == given_out


def test_the_salt_after_the_last_one_is_the_first_one() -> None:
    used: set[int] = set()
    assert [unique_salt(b"\xff\xff", used) for _ in range(3)] == [b"\xff\xff", b"\x80\x00", b"\x80\x01"]


@given(st.binary(min_size=1, max_size=16), keyings, keyings)
def test_an_ascend_secret_says_the_same_after_it_was_hidden_anew(text: bytes, old: Keying, new: Keying) -> None:
    value = ascend_secret(text, old.secret.value, old.authenticator)
    hidden = rehide_ascend_secret_untrusted(value, old, new)
    assert ascend_secret(hidden, new.secret.value, new.authenticator) == text


@pytest.mark.parametrize("length", [0, 17, 32])
def test_an_ascend_secret_of_a_wrong_length_is_refused(length: int) -> None:
    def read(value: bytes) -> bytes:
        return rehide_ascend_secret_untrusted(value, OLD, NEW)

    assert outcome(read, bytes(length)) == "bad_ascend_secret_length"
