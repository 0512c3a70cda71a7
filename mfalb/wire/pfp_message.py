"""pfpMessage 1.5: what an MFA Server and the cloud MFA Service say to each other (MFA facts, section 2).

The element order of requests is that of the public SDK source; answers are read by element name anywhere in the
document, as that SDK does. Ours, because nothing public says how: `pinFormat="scrypt"` (the SDK has plainText and sha1,
and neither may leave a server that keeps memory-hard hashes only), the element `phoneAppAuthInfo`, and the numbers of
call statuses and error ids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from mfalb.errors import MalformedMessage
from mfalb.wire.xml import Element, walk_untrusted

PATH: Final = "/pfd/pfd.pl"
COST_LIMIT: Final = 2**15  # 32 MiB with scrypt's r = 8: what a stranger may make the reader spend
_HEX: Final = re.compile("(?:[0-9a-f]{2}){8,64}")
_DIGITS: Final = re.compile("[0-9]{1,9}")


class PfpMode(Enum):
    """How the user is reached; the names are the SDK's."""

    STANDARD = "standard"  # a phone call, answered with #
    PIN = "pin"  # a phone call, answered with the user PIN and #
    SMS_ONE_WAY_OTP = "sms_one_way_otp"
    SMS_ONE_WAY_OTP_PLUS_PIN = "sms_one_way_otp_plus_pin"  # the server that asked compares the user PIN
    SMS_TWO_WAY_OTP = "sms_two_way_otp"
    SMS_TWO_WAY_OTP_PLUS_PIN = "sms_two_way_otp_plus_pin"
    PHONE_APP_STANDARD = "phone_app_standard"
    PHONE_APP_PIN = "phone_app_pin"

    @property
    def is_one_way(self) -> bool:
        """Whether the user types the code where they sign in, and not into the phone."""
        return self in (PfpMode.SMS_ONE_WAY_OTP, PfpMode.SMS_ONE_WAY_OTP_PLUS_PIN)

    @property
    def is_pin_compared(self) -> bool:
        """Whether the cloud compares the user PIN, and so has to be told its hash."""
        return self in (PfpMode.PIN, PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN, PfpMode.PHONE_APP_PIN)


class CallStatus(IntEnum):
    """How the phone was answered. The real numeric table is not public; this one is ours."""

    NOT_ATTEMPTED = 0
    NO_PIN_ENTERED = 1  # success
    PIN_ENTERED = 2  # success
    FRAUD_REPORTED = 3
    USER_HUNG_UP = 4
    PHONE_BUSY = 5
    NO_ANSWER = 6
    NO_APP_RESPONSE = 7
    APP_DENIED = 8
    WRONG_PIN = 9
    WRONG_REPLY = 10
    TEXT_SENT = 11  # success, as far as it goes


class ErrorId(IntEnum):
    """Why nobody was asked. Ours as well."""

    NONE = 0
    NOT_ACTIVATED = 1
    TOO_BUSY = 2


@dataclass(frozen=True, slots=True)
class PfpPin:
    """A user PIN's scrypt hash (r = 8, p = 1): salt and digest in lower-case hexadecimal, and scrypt's n."""

    salt: str = field(repr=False)
    digest: str = field(repr=False)
    cost: int


@dataclass(frozen=True, slots=True)
class PfpRequest:
    """A request for one authentication. `request_id` ties the answer to it and need not be unique."""

    request_id: str
    mode: PfpMode
    username: str
    phone: str
    server: str
    license_key: str = field(default="", repr=False)
    pin: PfpPin | None = None
    device_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PfpResponse:
    """The answer. For one-way SMS `is_authenticated` only means that the text was sent, and `otp` is what it said."""

    request_id: str
    is_success: bool
    is_authenticated: bool
    error_id: int = ErrorId.NONE
    otp: str | None = field(default=None, repr=False)
    call_status: int = CallStatus.NOT_ATTEMPTED


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


# How each mode is written: the attribute of authenticationRequest, and the element that says the rest.
_FORMS: Final = {
    PfpMode.SMS_ONE_WAY_OTP: ("sms", 'smsInfo direction="one-way" mode="otp"'),
    PfpMode.SMS_ONE_WAY_OTP_PLUS_PIN: ("sms", 'smsInfo direction="one-way" mode="otp-pin"'),
    PfpMode.SMS_TWO_WAY_OTP: ("sms", 'smsInfo direction="two-way" mode="otp"'),
    PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN: ("sms", 'smsInfo direction="two-way" mode="otp-pin"'),
    PfpMode.PHONE_APP_STANDARD: ("phone_app", 'phoneAppAuthInfo mode="standard"'),
    PfpMode.PHONE_APP_PIN: ("phone_app", 'phoneAppAuthInfo mode="pin"'),
}
_SMS_MODES: Final = {
    ("one-way", "otp"): PfpMode.SMS_ONE_WAY_OTP,
    ("one-way", "otp-pin"): PfpMode.SMS_ONE_WAY_OTP_PLUS_PIN,
    ("two-way", "otp"): PfpMode.SMS_TWO_WAY_OTP,
    ("two-way", "otp-pin"): PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN,
}
_APP_MODES: Final = {"standard": PfpMode.PHONE_APP_STANDARD, "pin": PfpMode.PHONE_APP_PIN}


def request_xml(request: PfpRequest) -> bytes:
    """The bytes of a request."""
    kind, element = _FORMS.get(request.mode, ("", ""))
    mode = f' mode="{kind}"' if kind else ""
    pin = _pin_xml(request.pin) if request.mode.is_pin_compared and request.pin is not None else ""
    content, pin_info = "", '<pinInfo pinMode="standard"/>'
    if kind == "sms":
        content = f"<{element}><message>Your code is &lt;$otp$&gt;</message>{pin}</smsInfo>"
    elif kind:
        token = f"<deviceToken>{escape(request.device_token)}</deviceToken>"
        content = f"<{element}>{token}{pin}</phoneAppAuthInfo>"
    elif request.mode is PfpMode.PIN:
        pin_info = f'<pinInfo pinMode="pin">{pin}</pinInfo>'
    return (
        '<?xml version="1.0" encoding="UTF-8"?><pfpMessage version="1.5"><header><source><component type="pfsdk">'
        f"<host hostname={quoteattr(request.server)}/></component></source></header>"
        f'<request request-id={quoteattr(request.request_id)} language="en" async="0" response-url="">'
        f"<authenticationRequest{mode}><customer><licenseKey>{escape(request.license_key)}</licenseKey><groupKey/>"
        "</customer><countryCode>1</countryCode>"
        f"<authenticationType>pfsdk</authenticationType><username>{escape(request.username)}</username>"
        f'<phonenumber userCanChangePhone="no">{escape(request.phone)}</phonenumber>'
        "<allowInternationalCalls>no</allowInternationalCalls><applicationName>mfalb</applicationName>"
        f"{content}{pin_info}</authenticationRequest></request></pfpMessage>"
    ).encode()


def _pin_xml(pin: PfpPin) -> str:
    return (
        f'<pin pinFormat="scrypt" scryptSalt="{pin.salt}" scryptCost="{pin.cost}" pinChangeRequired="no">'
        f"{pin.digest}</pin>"
    )


def read_request_untrusted(document: bytes) -> PfpRequest:
    """The request in a document. Raises MalformedMessage for what is none."""
    found = _collected_untrusted(document, "request")
    mode = _mode_untrusted(found)
    username, phone = found.texts.get("username", ""), found.texts.get("phonenumber", "")
    if not username or not phone:
        raise MalformedMessage("pfp_no_user")
    device_token = found.texts.get("deviceToken", "")
    if mode in _APP_MODES.values() and not device_token:
        raise MalformedMessage("pfp_no_device")
    return PfpRequest(
        request_id=found.attributes["request"].get("request-id", ""),
        mode=mode,
        username=username,
        phone=phone,
        server=found.attributes.get("host", {}).get("hostname", ""),
        license_key=found.texts.get("licenseKey", ""),
        pin=_pin_untrusted(found) if mode.is_pin_compared else None,
        device_token=device_token,
    )


def _mode_untrusted(found: _Collector) -> PfpMode:
    kind = found.attributes.get("authenticationRequest", {}).get("mode")
    if kind == "sms":
        sms = found.attributes.get("smsInfo", {})
        mode = _SMS_MODES.get((sms.get("direction", ""), sms.get("mode", "")))
        if mode is None:
            raise MalformedMessage("pfp_sms_direction")
        return mode
    if kind == "phone_app":
        app = _APP_MODES.get(found.attributes.get("phoneAppAuthInfo", {}).get("mode", ""))
        if app is None:
            raise MalformedMessage("pfp_app_mode")
        return app
    is_pin = found.attributes.get("pinInfo", {}).get("pinMode") == "pin"
    return PfpMode.PIN if is_pin else PfpMode.STANDARD


def _pin_untrusted(found: _Collector) -> PfpPin:
    attributes, digest = found.attributes.get("pin", {}), found.texts.get("pin", "")
    if attributes.get("pinFormat") != "scrypt":
        raise MalformedMessage("pfp_pin_format")
    salt, cost = attributes.get("scryptSalt", ""), attributes.get("scryptCost", "")
    if not (_HEX.fullmatch(salt) and _HEX.fullmatch(digest) and _DIGITS.fullmatch(cost)):
        raise MalformedMessage("pfp_pin")
    if not 1 < int(cost) <= COST_LIMIT or int(cost) & (int(cost) - 1):  # scrypt's n is a power of two
        raise MalformedMessage("pfp_pin_cost")
    return PfpPin(salt, digest, int(cost))


def response_xml(response: PfpResponse) -> bytes:
    """The bytes of an answer."""
    otp = f"<otp>{escape(response.otp)}</otp>" if response.otp is not None else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><pfpMessage version="1.5"><response request-id='
        f"{quoteattr(response.request_id)}>"
        f'<status disposition="{"success" if response.is_success else "fail"}">'
        f"<error-id>{int(response.error_id)}</error-id></status>"
        f"<authenticationResponse><callStatus>{int(response.call_status)}</callStatus>"
        f"<authenticated>{'yes' if response.is_authenticated else 'no'}</authenticated></authenticationResponse>"
        f"{otp}</response></pfpMessage>"
    ).encode()


def read_response_untrusted(document: bytes) -> PfpResponse:
    """The answer in a document. Raises MalformedMessage for what is none."""
    found = _collected_untrusted(document, "response")
    error_id, status = found.texts.get("error-id", "0"), found.texts.get("callStatus", "0")
    if not _DIGITS.fullmatch(error_id):
        raise MalformedMessage("pfp_error_id")
    if not _DIGITS.fullmatch(status):
        raise MalformedMessage("pfp_call_status")
    otp = found.texts.get("otp")
    if otp is not None and not (otp.isascii() and otp.isdigit()):
        raise MalformedMessage("pfp_otp")  # an empty one would be a code that everybody knows
    return PfpResponse(
        request_id=found.attributes["response"].get("request-id", ""),
        is_success=found.attributes.get("status", {}).get("disposition") == "success",
        is_authenticated=found.texts.get("authenticated", "no") != "no",
        error_id=int(error_id),
        otp=otp,
        call_status=int(status),
    )
