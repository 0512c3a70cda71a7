from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfalb.errors import MalformedMessage
from mfalb.reference.web.forms import is_own_form, is_token, new_token, read_form_untrusted, read_otp

TOKEN = "a" * 43
OTHER = "b" * 43

FORMS = {
    b"": {},
    b"user=alice&password=p%20w+d": {"user": "alice", "password": "p w d"},
    b"password=": {"password": ""},
    b"user=alice&user=bob": {"user": "alice"},
    b"user=J%C3%B6rg": {"user": "Jörg"},
    b"user=%FF": {"user": "\ufffd"},
    b"user=\xff": {"user": "\ufffd"},
}


@pytest.mark.parametrize(("body", "fields"), FORMS.items())
def test_a_form_is_read_as_browsers_post_it(body: bytes, fields: dict[str, str]) -> None:
    assert read_form_untrusted(body) == fields


def test_a_form_with_too_many_fields_is_refused() -> None:
    assert len(read_form_untrusted(b"&".join(b"f%d=1" % number for number in range(16)))) == 16
    with pytest.raises(MalformedMessage):
        read_form_untrusted(b"&".join(b"f%d=1" % number for number in range(17)))


@given(st.binary())
def test_any_bytes_are_a_form_or_refused(body: bytes) -> None:
    with suppress(MalformedMessage):
        for name, text in read_form_untrusted(body).items():
            (name + text).encode()  # nothing that cannot be hashed or sent later


@pytest.mark.parametrize(
    ("typed", "otp"),
    [
        ("123456", "123456"),
        (" 123 456\n", "123456"),
        ("", None),
        ("123", None),
        ("123456 4711", "1234564711"),
        ("1" * 26, "1" * 26),
        ("1" * 27, None),
        ("12345a", None),
        ("١٢٣٤٥٦", None),
        ("1234\x00", None),
    ],
)
def test_a_code_and_a_user_pin_behind_it_are_digits_with_blanks_between(typed: str, otp: str | None) -> None:
    assert read_otp(typed) == otp


@pytest.mark.parametrize(
    ("given_token", "wanted", "fetch_site", "is_own"),
    [
        (TOKEN, TOKEN, "same-origin", True),
        (TOKEN, TOKEN, "none", True),
        (TOKEN, TOKEN, None, True),
        (TOKEN, TOKEN, "cross-site", False),
        (TOKEN, TOKEN, "same-site", False),
        (TOKEN, OTHER, "same-origin", False),
        ("", TOKEN, None, False),
        ("", "", None, False),
        ("short", "short", None, False),
        (TOKEN + "ö", TOKEN, None, False),
    ],
)
def test_a_form_is_ours_when_its_token_is_and_the_browser_agrees(
    given_token: str, wanted: str, fetch_site: str | None, is_own: bool
) -> None:
    assert is_own_form(given_token, wanted, fetch_site) is is_own


def test_a_new_token_is_a_token_and_its_neighbours_are_none() -> None:
    token = new_token()
    assert is_token(token)
    assert [is_token(text) for text in (token[1:], token + "a", token[1:] + '"', token + "\n")] == [False] * 4


def test_what_xml_cannot_hold_is_seen_and_sent_nowhere() -> None:
    assert read_form_untrusted(b"password=a%00b%1f%EF%BF%BEc%09d") == {"password": "a\ufffdb\ufffd\ufffdc\td"}
