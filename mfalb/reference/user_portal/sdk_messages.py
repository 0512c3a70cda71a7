"""The Web Service SDK's two calls that a sign-in needs, as SOAP 1.1 bodies: bytes to values and back.

`PfAuthUser_4` begins (and, for a phone call, ends) the second factor; `VerifyOneWayOtp` takes the code of a one-way
text. Answers are read by local name, and whatever is not clearly a yes is not one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from xml.etree import ElementTree as ET

from mfalb.errors import MalformedMessage
from mfalb.wire.soap import read_envelope_untrusted

NAMESPACE: Final = "http://www.phonefactor.com/PfWsSdk"
BEGIN: Final = "PfAuthUser_4"
VERIFY: Final = "VerifyOneWayOtp"
_SOAP: Final = "http://schemas.xmlsoap.org/soap/envelope/"
_APPLICATION: Final = "User Portal"

# CallResult codes of the reference MFA Servers; the real table is not public
_NOT_ATTEMPTED: Final = 0
_ANSWERED: Final = 1
_TEXT_SENT: Final = 5

_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}  # xsd:boolean


@dataclass(frozen=True, slots=True)
class Begun:
    """How the second factor began: answered at once, a text is on its way, or (neither) refused by the person."""

    is_authenticated: bool
    is_text_sent: bool
    request_id: str = field(repr=False)


def begin_request(user: str) -> bytes:
    """A PfAuthUser_4 envelope. `user` may hold what XML 1.0 may: no control characters."""
    return _envelope(
        BEGIN,
        {"username": user, "authenticationType": "pfsdk", "ipAddress": "", "appName": _APPLICATION, "flag": "false"},
    )


def verify_request(user: str, request_id: str, otp: str) -> bytes:
    """A VerifyOneWayOtp envelope; the same rule for its texts."""
    return _envelope(VERIFY, {"username": user, "authreqid": request_id, "otp": otp})


def read_begun_untrusted(answer: bytes) -> Begun:
    """What PfAuthUser_4 answered.

    Raises MalformedMessage for anything but its response, and when the server says that it did not even try.
    """
    texts = _texts_untrusted(answer, BEGIN, ("PfAuthUser_4Result", "Code", "authreqid"))
    is_good = _boolean(texts, "PfAuthUser_4Result")
    code = _integer(texts, "Code")
    request_id = texts.get("authreqid", "")
    if code == _NOT_ATTEMPTED:
        raise MalformedMessage("sdk_not_attempted")
    if is_good and code == _TEXT_SENT and not request_id:
        raise MalformedMessage("sdk_no_request_id")  # no code could ever be checked
    return Begun(is_good and code == _ANSWERED, is_good and code == _TEXT_SENT, request_id)


def read_verified_untrusted(answer: bytes) -> bool:
    """Whether VerifyOneWayOtp took the code. Raises MalformedMessage for anything but its response."""
    return _boolean(_texts_untrusted(answer, VERIFY, ("VerifyOneWayOtpResult",)), "VerifyOneWayOtpResult")


def _envelope(method: str, fields: dict[str, str]) -> bytes:
    envelope = ET.Element("soap:Envelope", {"xmlns:soap": _SOAP})
    call = ET.SubElement(ET.SubElement(envelope, "soap:Body"), method, {"xmlns": NAMESPACE})
    for name, text in fields.items():
        ET.SubElement(call, name).text = text
    document: bytes = ET.tostring(envelope, encoding="utf-8", xml_declaration=True)
    return document


def _texts_untrusted(answer: bytes, method: str, names: tuple[str, ...]) -> dict[str, str]:
    envelope = read_envelope_untrusted(answer, names)
    if envelope.method != f"{method}Response":
        raise MalformedMessage("sdk_other_method")  # a Fault, too
    return envelope.texts


def _boolean(texts: dict[str, str], name: str) -> bool:
    value = _BOOLEANS.get(texts.get(name, ""))
    if value is None:
        raise MalformedMessage("sdk_no_result")
    return value


def _integer(texts: dict[str, str], name: str) -> int:
    try:
        return int(texts.get(name, ""))
    except ValueError:
        raise MalformedMessage("sdk_no_code") from None
