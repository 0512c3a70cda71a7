"""pfpMessage 1.5: what an MFA Server and the cloud MFA Service say to each other (MFA facts, section 2).

The element order of requests is that of the public SDK source; answers are read by element name anywhere in the
document, as that SDK does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from mfalb.errors import MalformedMessage
from mfalb.wire.xml import Element, walk_untrusted

PATH: Final = "/pfd/pfd.pl"


class PfpMode(Enum):
    """How the user is reached; the names are the SDK's."""

    STANDARD = "standard"  # a phone call, answered with #
    SMS_ONE_WAY_OTP = "sms_one_way_otp"


@dataclass(frozen=True, slots=True)
class PfpRequest:
    """A request for one authentication. `request_id` ties the answer to it and need not be unique."""

    request_id: str
    mode: PfpMode
    username: str
    phone: str
    server: str


@dataclass(frozen=True, slots=True)
class PfpResponse:
    """The answer. For one-way SMS `is_authenticated` only means that the text was sent, and `otp` is what it said."""

    request_id: str
    is_success: bool
    is_authenticated: bool
    error_id: int = 0
    otp: str | None = field(default=None, repr=False)


class _Collector:
    """The first text and the first attributes of each element name."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.attributes: dict[str, dict[str, str]] = {}

    def begun(self, _name: str, _path: tuple[str, ...]) -> None:
        pass

    def ended(self, element: Element) -> None:
        if element.text is not None:
            self.texts.setdefault(element.name, element.text)
        self.attributes.setdefault(element.name, element.attributes)


def _collected_untrusted(document: bytes, root: str) -> _Collector:
    collector = _Collector()
    walk_untrusted(document, collector)
    if root not in collector.attributes:
        raise MalformedMessage(f"pfp_no_{root}")
    return collector


def request_xml(request: PfpRequest) -> bytes:
    """The bytes of a request."""
    is_sms = request.mode is PfpMode.SMS_ONE_WAY_OTP
    mode = ' mode="sms"' if is_sms else ""
    sms = (
        '<smsInfo direction="one-way" mode="otp"><message>Your code is &lt;$otp$&gt;</message></smsInfo>'
        if is_sms
        else ""
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><pfpMessage version="1.5"><header><source><component type="pfsdk">'
        f"<host hostname={quoteattr(request.server)}/></component></source></header>"
        f'<request request-id={quoteattr(request.request_id)} language="en" async="0" response-url="">'
        f"<authenticationRequest{mode}><customer><licenseKey/><groupKey/></customer><countryCode>1</countryCode>"
        f"<authenticationType>pfsdk</authenticationType><username>{escape(request.username)}</username>"
        f'<phonenumber userCanChangePhone="no">{escape(request.phone)}</phonenumber>'
        "<allowInternationalCalls>no</allowInternationalCalls><applicationName>mfalb</applicationName>"
        f'{sms}<pinInfo pinMode="standard"/></authenticationRequest></request></pfpMessage>'
    ).encode()


def read_request_untrusted(document: bytes) -> PfpRequest:
    """The request in a document. Raises MalformedMessage for what is none."""
    found = _collected_untrusted(document, "request")
    direction = found.attributes.get("smsInfo", {}).get("direction")
    is_sms = found.attributes.get("authenticationRequest", {}).get("mode") == "sms"
    if is_sms and direction != "one-way":
        raise MalformedMessage("pfp_sms_direction")
    username, phone = found.texts.get("username", ""), found.texts.get("phonenumber", "")
    if not username or not phone:
        raise MalformedMessage("pfp_no_user")
    return PfpRequest(
        request_id=found.attributes["request"].get("request-id", ""),
        mode=PfpMode.SMS_ONE_WAY_OTP if is_sms else PfpMode.STANDARD,
        username=username,
        phone=phone,
        server=found.attributes.get("host", {}).get("hostname", ""),
    )


def response_xml(response: PfpResponse) -> bytes:
    """The bytes of an answer."""
    otp = f"<otp>{escape(response.otp)}</otp>" if response.otp is not None else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><pfpMessage version="1.5"><response request-id='
        f"{quoteattr(response.request_id)}>"
        f'<status disposition="{"success" if response.is_success else "fail"}">'
        f"<error-id>{response.error_id}</error-id></status>"
        f"<authenticationResponse><callStatus>{1 if response.is_authenticated else 0}</callStatus>"
        f"<authenticated>{'yes' if response.is_authenticated else 'no'}</authenticated></authenticationResponse>"
        f"{otp}</response></pfpMessage>"
    ).encode()


def read_response_untrusted(document: bytes) -> PfpResponse:
    """The answer in a document. Raises MalformedMessage for what is none."""
    found = _collected_untrusted(document, "response")
    error_id = found.texts.get("error-id", "0")
    if not error_id.isascii() or not error_id.isdigit() or len(error_id) > 9:  # noqa: PLR2004 - fits an int32
        raise MalformedMessage("pfp_error_id")
    otp = found.texts.get("otp")
    if otp is not None and not (otp.isascii() and otp.isdigit()):
        raise MalformedMessage("pfp_otp")  # an empty one would be a code that everybody knows
    return PfpResponse(
        request_id=found.attributes["response"].get("request-id", ""),
        is_success=found.attributes.get("status", {}).get("disposition") == "success",
        is_authenticated=found.texts.get("authenticated", "no") != "no",
        error_id=int(error_id),
        otp=otp,
    )
