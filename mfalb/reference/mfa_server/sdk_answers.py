"""What the Web Service SDK answers with: SOAP 1.1, and the codes that callers see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape

from mfalb.reference.mfa_server.failures import Failure

NAMESPACE: Final = "http://www.phonefactor.com/PfWsSdk"  # by analogy with the sister service; the real one is not known

# CallResult codes. The real numeric table is not public; these are ours.
CALL_ANSWERED: Final = 1
CALL_NOT_ANSWERED: Final = 2
NOT_ATTEMPTED: Final = 0
TEXT_SENT: Final = 5

Content = str | int | bool | Mapping[str, "Content"]


def elements(content: Mapping[str, Content]) -> str:
    """The XML of named values, one element each, nested where a value has names itself."""
    return "".join(f"<{name}>{_inside(value)}</{name}>" for name, value in content.items())


def answer(method: str, content: Mapping[str, Content]) -> str:
    """The Body of an answer to a call of `method`."""
    return f'<{method}Response xmlns="{NAMESPACE}">{elements(content)}</{method}Response>'


def error(failure: Failure) -> dict[str, Content]:
    """The `error` element's content."""
    return {"Code": failure.code, "Description": failure.text}


def fault(code: str, text: str) -> str:
    """The Body of a fault, which goes with status 500 (SOAP 1.1 section 6.2)."""
    return f"<soap:Fault><faultcode>{code}</faultcode><faultstring>{escape(text)}</faultstring></soap:Fault>"


def envelope(body: str) -> str:
    """A whole document."""
    return (
        '<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<soap:Body>{body}</soap:Body></soap:Envelope>"
    )


def _inside(value: Content) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return escape("".join(sign for sign in value if sign.isprintable()))
    return elements(value)
