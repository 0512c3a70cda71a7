from __future__ import annotations

from contextlib import suppress
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfalb.errors import MalformedMessage
from mfalb.reference.user_portal.sdk_messages import (
    Begun,
    begin_request,
    read_begun_untrusted,
    read_verified_untrusted,
    verify_request,
)
from mfalb.wire.soap import read_envelope_untrusted

# What XML 1.0 can carry unchanged: no control characters, no surrogates, no two non-characters
XML_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))


def envelope(body: str) -> bytes:
    soap = "http://schemas.xmlsoap.org/soap/envelope/"
    return f'<?xml version="1.0"?><s:Envelope xmlns:s="{soap}"><s:Body>{body}</s:Body></s:Envelope>'.encode()


def begun(result: str, code: str, request_id: str = "id-1") -> bytes:
    return envelope(
        f"<PfAuthUser_4Response><PfAuthUser_4Result>{result}</PfAuthUser_4Result>"
        f"<callResult><Code>{code}</Code></callResult><authreqid>{request_id}</authreqid>"
        "<error><Code>0</Code><Description/></error></PfAuthUser_4Response>"
    )


def verified(result: str) -> bytes:
    return envelope(
        f"<VerifyOneWayOtpResponse><VerifyOneWayOtpResult>{result}</VerifyOneWayOtpResult>"
        "<error><Code>0</Code><Description/></error></VerifyOneWayOtpResponse>"
    )


ANSWERS = {
    begun("true", "5"): Begun(is_authenticated=False, is_text_sent=True, request_id="id-1"),
    begun("true", "1"): Begun(is_authenticated=True, is_text_sent=False, request_id="id-1"),
    begun("1", "1"): Begun(is_authenticated=True, is_text_sent=False, request_id="id-1"),
    begun("false", "2"): Begun(is_authenticated=False, is_text_sent=False, request_id="id-1"),
    begun("false", "5"): Begun(is_authenticated=False, is_text_sent=False, request_id="id-1"),
    begun("false", "1"): Begun(is_authenticated=False, is_text_sent=False, request_id="id-1"),
    begun("true", "77"): Begun(is_authenticated=False, is_text_sent=False, request_id="id-1"),
}

REFUSED = {
    begun("true", "0"): "sdk_not_attempted",
    begun("false", "0"): "sdk_not_attempted",
    begun("true", "5", ""): "sdk_no_request_id",
    begun("yes", "1"): "sdk_no_result",
    begun("", "1"): "sdk_no_result",
    begun("true", "one"): "sdk_no_code",
    begun("true", ""): "sdk_no_code",
    verified("true"): "sdk_other_method",
    envelope("<s:Fault><faultcode>s:Client</faultcode></s:Fault>"): "sdk_other_method",
    envelope(""): "soap_no_body",
    b"<html>": "xml_not_well_formed",
    b"": "xml_not_well_formed",
}


def test_the_first_half_is_asked_for_in_the_words_of_the_sdk() -> None:
    envelope = read_envelope_untrusted(begin_request("alice"))
    assert envelope.method == "PfAuthUser_4"
    assert list(envelope.texts.items())[:5] == [
        ("username", "alice"),
        ("authenticationType", "pfsdk"),
        ("ipAddress", ""),
        ("appName", "User Portal"),
        ("flag", "false"),
    ]


def test_requests_stand_in_the_namespaces_of_soap_and_the_sdk() -> None:
    body = ET.fromstring(verify_request("alice", "id", "1"))[0]  # noqa: S314 - our own request
    assert body.tag == "{http://schemas.xmlsoap.org/soap/envelope/}Body"
    assert body[0].tag == "{http://www.phonefactor.com/PfWsSdk}VerifyOneWayOtp"


@given(user=XML_TEXT, request_id=XML_TEXT, otp=XML_TEXT)
def test_whatever_is_typed_stays_text_in_the_request(user: str, request_id: str, otp: str) -> None:
    envelope = read_envelope_untrusted(verify_request(user, request_id, otp))
    assert envelope.method == "VerifyOneWayOtp"
    texts = {name: text.strip() for name, text in (("username", user), ("authreqid", request_id), ("otp", otp))}
    assert {name: envelope.texts[name] for name in texts} == texts


def test_markup_in_a_user_name_does_not_become_an_element() -> None:
    envelope = read_envelope_untrusted(begin_request("a</username><flag>true</flag><username>b"))
    assert envelope.texts["username"] == "a</username><flag>true</flag><username>b"
    assert envelope.texts["flag"] == "false"


@pytest.mark.parametrize(("answer", "value"), ANSWERS.items())
def test_a_first_half_is_what_the_server_says_and_never_more(answer: bytes, value: Begun) -> None:
    assert read_begun_untrusted(answer) == value


@pytest.mark.parametrize(("answer", "reason"), REFUSED.items())
def test_an_answer_that_is_none_is_refused(answer: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        read_begun_untrusted(answer)
    assert caught.value.reason == reason


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_a_code_is_right_when_the_server_says_so(text: str, value: bool) -> None:
    assert read_verified_untrusted(verified(text)) is value


@pytest.mark.parametrize("answer", [verified("TRUE!"), verified(""), begun("true", "1"), b"true"])
def test_a_code_is_not_right_for_want_of_an_answer(answer: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_verified_untrusted(answer)


@pytest.mark.parametrize("answer", [begun("true", "5"), verified("true")])
def test_an_answer_cut_short_is_refused(answer: bytes) -> None:
    read = read_begun_untrusted if b"PfAuth" in answer else read_verified_untrusted
    for length in range(len(answer)):
        with pytest.raises(MalformedMessage):
            read(answer[:length])
    with pytest.raises(MalformedMessage):
        read(answer + b"<tail/>")


@given(st.binary())
def test_any_bytes_are_an_answer_or_refused(answer: bytes) -> None:
    for read in (read_begun_untrusted, read_verified_untrusted):
        with suppress(MalformedMessage):
            assert read(answer) is not None


@given(result=XML_TEXT, code=XML_TEXT, request_id=XML_TEXT)
def test_any_texts_in_the_right_shape_are_an_answer_or_refused(result: str, code: str, request_id: str) -> None:
    texts = [
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for text in (result, code, request_id)
    ]
    with suppress(MalformedMessage):
        value = read_begun_untrusted(begun(*texts))
        assert not (value.is_authenticated and value.is_text_sent)
        assert not (value.is_authenticated or value.is_text_sent) or result.strip() in {"true", "1"}


def test_the_request_id_is_not_shown() -> None:
    assert "id-1" not in repr(read_begun_untrusted(begun("true", "5")))
