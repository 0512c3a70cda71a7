"""Forms as browsers post them, and the proof that they come from our own page."""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Final
from urllib.parse import parse_qsl

from mfalb.errors import MalformedMessage

_FIELD_LIMIT: Final = 16  # our largest form has six; more is no form of ours and is refused
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch  # what new_token makes
_OTP: Final = re.compile(r"[0-9]{4,26}").fullmatch  # a code of 4 to 10 digits, and a user PIN of up to 16 behind it
_OWN_SITES: Final = frozenset({"same-origin", "none"})
# What XML 1.0 cannot say (section 2.2) and so no call of the SDK: control characters but tab and line ends, surrogates
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_form_untrusted(body: bytes) -> dict[str, str]:
    """The fields of an application/x-www-form-urlencoded body in UTF-8; the first of a repeated name counts.

    Bytes that are not UTF-8, and characters that XML cannot hold, become U+FFFD. Raises MalformedMessage for too many
    fields.
    """
    text = body.decode("utf-8", "replace")
    try:
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELD_LIMIT)
    except ValueError:
        raise MalformedMessage("form_too_many_fields") from None
    return {name: _NOT_IN_XML.sub("\ufffd", value) for name, value in reversed(fields)}


def new_token() -> str:
    """256 random bits, safe in cookies and forms."""
    return secrets.token_urlsafe(32)


def read_otp(text: str) -> str | None:
    """The code that was typed, without the blanks that people put between digits; None when it cannot be one."""
    otp = "".join(text.split())
    return otp if _OTP(otp) else None


def is_token(text: str) -> bool:
    """Whether a text has the form of a CSRF token of ours."""
    return _TOKEN(text) is not None


def is_own_form(given: str, wanted: str, fetch_site: str | None) -> bool:
    """Whether a form came from our own page: its token is the one wanted, and no browser says otherwise.

    `fetch_site` is the Sec-Fetch-Site header: a browser that sends it also tells of sibling hosts ("same-site"), which
    could plant a cookie to match a token of their own choice. Without the header the token alone decides.
    """
    if fetch_site is not None and fetch_site not in _OWN_SITES:
        return False
    return is_token(wanted) and hmac.compare_digest(given.encode(), wanted.encode())
