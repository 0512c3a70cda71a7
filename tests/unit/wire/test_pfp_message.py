from __future__ import annotations

from dataclasses import replace
from time import process_time
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.wire.outcomes import outcome

from mfalb.wire.pfp_message import (
    COST_LIMIT,
    PfpMode,
    PfpPin,
    PfpRequest,
    PfpResponse,
    read_request_untrusted,
    read_response_untrusted,
    request_xml,
    response_xml,
)

TEXT = PfpRequest("7", PfpMode.SMS_ONE_WAY_OTP, "alice", "+1 555 0101", "mfa1")
CALL = PfpRequest("7", PfpMode.STANDARD, "alice", "+1 555 0101", "mfa1")

# Anything that XML 1.0 can hold, its specials often; blanks at the ends are the reader's to strip.
words = st.text(
    st.sampled_from("&<>\"'é €]") | st.characters(min_codepoint=0x20, exclude_categories=("Cs", "Cc", "Cn")),
    min_size=1,
    max_size=20,
).map(lambda word: word.strip() or "x")
hexes = st.binary(min_size=8, max_size=64).map(bytes.hex)
pins = st.builds(PfpPin, hexes, hexes, st.sampled_from([2**power for power in range(1, 16)]))


@st.composite
def requests_of_any_mode(draw: st.DrawFn) -> PfpRequest:
    mode = draw(st.sampled_from(PfpMode))
    pin = draw(pins) if mode.is_pin_compared else None
    token = draw(words) if mode in (PfpMode.PHONE_APP_STANDARD, PfpMode.PHONE_APP_PIN) else ""
    request_id, user, phone, server, key = (draw(words) for _ in range(5))
    return PfpRequest(request_id, mode, user, phone, server, key, pin, token)


requests = requests_of_any_mode()
codes = st.text("0123456789", min_size=1, max_size=10)
responses = st.builds(
    PfpResponse,
    words,
    is_success=st.booleans(),
    is_authenticated=st.booleans(),
    error_id=st.integers(0, 999_999_999),
    otp=st.none() | codes,
    call_status=st.integers(0, 999_999_999),
)


@given(requests)
@example(PfpRequest("]]>", PfpMode.STANDARD, "<alice> & \"co\" 'x'", "+1 <555>", '"mfa1"'))
def test_a_request_is_read_as_it_was_written(request: PfpRequest) -> None:
    assert read_request_untrusted(request_xml(request)) == request


@given(responses)
def test_an_answer_is_read_as_it_was_written(response: PfpResponse) -> None:
    assert read_response_untrusted(response_xml(response)) == response


def test_a_request_for_a_text_has_the_public_shape() -> None:
    root = ET.fromstring(request_xml(TEXT))  # noqa: S314 - our own document, read by another reader
    assert (root.tag, root.attrib) == ("pfpMessage", {"version": "1.5"})
    assert [child.tag for child in root] == ["header", "request"]
    host = root.find("header/source/component[@type='pfsdk']/host")
    assert host is not None
    assert host.get("hostname") == "mfa1"
    request = root[1]
    assert request.attrib == {"request-id": "7", "language": "en", "async": "0", "response-url": ""}
    (authentication,) = request
    assert (authentication.tag, authentication.attrib) == ("authenticationRequest", {"mode": "sms"})
    assert [child.tag for child in authentication] == [
        *("customer", "countryCode", "authenticationType", "username", "phonenumber"),
        *("allowInternationalCalls", "applicationName", "smsInfo", "pinInfo"),
    ]
    sms = authentication.find("smsInfo")
    assert sms is not None
    assert sms.attrib == {"direction": "one-way", "mode": "otp"}
    assert "<$otp$>" in (sms.findtext("message") or "")


def test_a_request_for_a_call_says_nothing_of_texts() -> None:
    authentication = ET.fromstring(request_xml(CALL)).find("request/authenticationRequest")  # noqa: S314 - our own
    assert authentication is not None
    assert authentication.attrib == {}
    assert authentication.find("smsInfo") is None


PIN = PfpPin("5a" * 16, "0f" * 32, 16384)
PUSH = PfpRequest("7", PfpMode.PHONE_APP_PIN, "alice", "+1 555 0101", "mfa1", "key", PIN, "device-1")


@pytest.mark.parametrize(
    ("old", "new", "read"),
    [
        (b"", b"", PUSH),
        (b'phoneAppAuthInfo mode="pin"', b'phoneAppAuthInfo mode="x"', "pfp_app_mode"),
        (b"<deviceToken>device-1<", b"<deviceToken><", "pfp_no_device"),
        (b'"scrypt"', b'"plainText"', "pfp_pin_format"),
        (b' pinFormat="scrypt"', b"", "pfp_pin_format"),
        (b"0f" * 32, b"", "pfp_pin"),
        (b"0f" * 32, b"0f" * 7, "pfp_pin"),
        (b"0f" * 32, b"0g" * 32, "pfp_pin"),
        (b"5a" * 16, b"", "pfp_pin"),
        (b'"16384"', b'"-2"', "pfp_pin"),
        (b'"16384"', b'"16383"', "pfp_pin_cost"),
        (b'"16384"', b'"1"', "pfp_pin_cost"),
        (b'"16384"', b'"0"', "pfp_pin_cost"),
        (b'"16384"', str(COST_LIMIT * 2).encode(), "xml_not_well_formed"),
        (b'"16384"', b'"%d"' % (COST_LIMIT * 2), "pfp_pin_cost"),
    ],
)
def test_a_request_for_a_push_with_a_pin_is_read_or_refused(old: bytes, new: bytes, read: PfpRequest | str) -> None:
    document = request_xml(PUSH)
    assert outcome(read_request_untrusted, document.replace(old, new) if old else document) == read


def test_a_request_shows_neither_key_nor_token_nor_the_pins_hash() -> None:
    shown = repr(PUSH)
    assert not [secret for secret in ("'key'", "device-1", PIN.salt, PIN.digest) if secret in shown]


def test_a_user_pin_is_told_to_the_cloud_only_where_the_cloud_compares_it() -> None:
    for mode in PfpMode:
        document = request_xml(replace(PUSH, mode=mode))
        assert (PIN.digest.encode() in document) is mode.is_pin_compared


REQUEST = request_xml(TEXT)
ANSWER = b"""<response request-id="7"><status disposition="success"><error-id>0</error-id></status>
<authenticationResponse><callStatus>1</callStatus><authenticated>yes</authenticated></authenticationResponse>
<otp>123456</otp></response>"""
SUCCESS = PfpResponse("7", is_success=True, is_authenticated=True, otp="123456", call_status=1)


@pytest.mark.parametrize(
    ("old", "new", "read"),
    [
        (b"", b"", TEXT),
        (b' mode="sms"', b"", CALL),
        (b' mode="sms"', b' mode="pin"', CALL),
        (b'direction="one-way"', b'direction="sideways"', "pfp_sms_direction"),
        (b'direction="one-way"', b'direction="two-way"', replace(TEXT, mode=PfpMode.SMS_TWO_WAY_OTP)),
        (b'mode="otp"', b'mode="otp-pin"', replace(TEXT, mode=PfpMode.SMS_ONE_WAY_OTP_PLUS_PIN)),
        (b'mode="otp"', b'mode="none"', "pfp_sms_direction"),
        (b'pinMode="standard"', b'pinMode="pin"', TEXT),
        (b'direction="one-way" ', b"", "pfp_sms_direction"),
        (b"smsInfo", b"other", "pfp_sms_direction"),
        (b"<username>alice</username>", b"", "pfp_no_user"),
        (b"<username>alice<", b"<username> <", "pfp_no_user"),
        (b"alice", b"a" * 4097, "pfp_no_user"),
        (b"+1 555 0101", b"", "pfp_no_user"),
        (b"<request ", b"<r ", "xml_not_well_formed"),
        (b"request>", b"req>", "xml_not_well_formed"),
    ],
)
def test_a_request_is_read_or_refused(old: bytes, new: bytes, read: PfpRequest | str) -> None:
    assert outcome(read_request_untrusted, REQUEST.replace(old, new) if old else REQUEST) == read


@pytest.mark.parametrize(
    ("old", "new", "read"),
    [
        (b"", b"", SUCCESS),
        (
            b'"success"',
            b'"fail"',
            PfpResponse("7", is_success=False, is_authenticated=True, otp="123456", call_status=1),
        ),
        (
            b' disposition="success"',
            b"",
            PfpResponse("7", is_success=False, is_authenticated=True, otp="123456", call_status=1),
        ),
        (b">yes<", b">no<", PfpResponse("7", is_success=True, is_authenticated=False, otp="123456", call_status=1)),
        (b">yes<", b">maybe<", SUCCESS),  # anything but "no" counts as yes, as in the public client
        (b"<authenticated>yes</authenticated>", b"", PfpResponse("7", True, False, otp="123456", call_status=1)),
        (b"<otp>123456</otp>", b"", PfpResponse("7", is_success=True, is_authenticated=True, call_status=1)),
        (b"<otp>123456</otp>", b"<otp/>", "pfp_otp"),
        (b">123456<", b"> <", "pfp_otp"),
        (b">123456<", b">12345a<", "pfp_otp"),
        (b">123456<", b">-12345<", "pfp_otp"),
        (b">123456<", ">١٢٣<".encode(), "pfp_otp"),  # digits, but no ASCII ones
        (b"<error-id>0<", b"<error-id>3<", PfpResponse("7", True, True, error_id=3, otp="123456", call_status=1)),
        (b"<error-id>0</error-id>", b"", SUCCESS),
        (b"<error-id>0<", b"<error-id><", "pfp_error_id"),
        (b"<error-id>0<", b"<error-id>-1<", "pfp_error_id"),
        (b"<error-id>0<", b"<error-id>1234567890<", "pfp_error_id"),
        (b"<callStatus>1<", b"<callStatus>x<", "pfp_call_status"),
        (b"<callStatus>1<", b"<callStatus>1234567890<", "pfp_call_status"),
        (b"<callStatus>1</callStatus>", b"", PfpResponse("7", True, True, otp="123456")),
        (b' request-id="7"', b"", PfpResponse("", is_success=True, is_authenticated=True, otp="123456", call_status=1)),
        (b"response>", b"answer>", "xml_not_well_formed"),
    ],
)
def test_an_answer_is_read_or_refused(old: bytes, new: bytes, read: PfpResponse | str) -> None:
    assert outcome(read_response_untrusted, ANSWER.replace(old, new) if old else ANSWER) == read


def test_an_answer_may_stand_anywhere_in_the_document_and_its_first_elements_count() -> None:
    around = b'<e:x xmlns:e="u"><y>' + ANSWER + b"</y><otp>999999</otp></e:x>"
    assert outcome(read_response_untrusted, around) == SUCCESS


def test_an_answer_is_no_request_and_a_request_no_answer() -> None:
    assert outcome(read_request_untrusted, response_xml(SUCCESS)) == "pfp_no_request"
    assert outcome(read_response_untrusted, request_xml(TEXT)) == "pfp_no_response"


DOCTYPES = [
    b"<!DOCTYPE response>",
    b'<!DOCTYPE response SYSTEM "file:///etc/passwd">',
    b'<!DOCTYPE response [<!ENTITY x "1">]>',
    b'<!DOCTYPE response [<!ENTITY a "' + b"1" * 1000 + b'"><!ENTITY b "' + b"&a;" * 1000 + b'">]>',
]


@pytest.mark.parametrize("doctype", DOCTYPES)
@pytest.mark.parametrize("document", [ANSWER.replace(b"123456", b"&b;"), ANSWER, request_xml(TEXT)[38:]])
def test_dtds_and_entities_are_refused_at_little_cost(doctype: bytes, document: bytes) -> None:
    before = process_time()
    assert outcome(read_response_untrusted, doctype + document) == "xml_doctype"
    assert outcome(read_request_untrusted, doctype + document) == "xml_doctype"
    assert process_time() - before < 0.5


@pytest.mark.parametrize("document", [REQUEST, ANSWER])
def test_no_part_of_a_message_is_one(document: bytes) -> None:
    reads = read_request_untrusted if document is REQUEST else read_response_untrusted
    ends = {outcome(reads, document[:length]) for length in range(len(document))}
    assert ends == {"xml_not_well_formed"}
    assert outcome(reads, document + b"<tail/>") == "xml_not_well_formed"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    outcome(read_request_untrusted, data)
    outcome(read_response_untrusted, data)


@given(st.data())
def test_a_message_with_a_changed_byte_is_a_message_or_malformed(data: st.DataObject) -> None:
    changed = bytearray(response_xml(SUCCESS))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    read = outcome(read_response_untrusted, bytes(changed))
    assert isinstance(read, str) or read.otp is None or read.otp.isdigit()


def test_an_answer_does_not_show_its_code() -> None:
    assert "123456" not in repr(SUCCESS)
