"""What the Mobile App Web Service takes and answers: SOAP 1.1 in the namespace of PfPaWs.

ActivateNew, ConfirmActivation and TestPfWsSdkConnection are as seen in public code (MFA facts, section 5.2).
PushAnswer is a stand-in of our own naming: the real app answers pushes at an address that the push names, in a protocol
of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape

NAMESPACE: Final = "http://www.phonefactor.com/PfPaWs"
OPERATIONS: Final = ("ActivateNew", "ConfirmActivation", "PushAnswer", "TestPfWsSdkConnection")

# Error codes: 0 is "no error"; 1 to 4 are the levels at which the SDK fails, in support's order. The others are ours.
Error = tuple[int, str]
NO_ERROR: Final = (0, "")
CODE_REFUSED: Final = (5, "The activation code was not accepted.")
NOT_KNOWN: Final = (6, "The confirmation code is not known to this server.")
NOT_APPROVED: Final = (7, "The test notification was not approved.")
NO_MASTER: Final = (8, "The device cannot be activated now: the master server is not available.")
BAD_CALL: Final = (9, "An argument is missing or makes no sense.")


def result(method: str, *, is_good: bool, error: Error, inside: Mapping[str, str] | None = None) -> str:
    """The Body of an answer; `inside` are the texts of activationInfo."""
    info = ""
    if inside is not None:
        texts = "".join(f"<{name}>{_text(text)}</{name}>" for name, text in inside.items())
        info = f"<activationInfo>{texts}</activationInfo>"
    code, description = error
    return (
        f'<{method}Response xmlns="{NAMESPACE}"><{method}Result>{"true" if is_good else "false"}</{method}Result>{info}'
        f"<error><Code>{code}</Code><Description>{escape(description)}</Description></error></{method}Response>"
    )


def fault(text: str) -> str:
    """The Body of a fault, which goes with status 500 (SOAP 1.1 section 6.2)."""
    return f"<soap:Fault><faultcode>soap:Client</faultcode><faultstring>{escape(text)}</faultstring></soap:Fault>"


def envelope(body: str) -> str:
    """A whole document."""
    return (
        '<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<soap:Body>{body}</soap:Body></soap:Envelope>"
    )


def _text(value: str) -> str:
    return escape("".join(sign for sign in value if sign.isprintable()))
