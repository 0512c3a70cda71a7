from __future__ import annotations

from contextlib import suppress
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.reference.fake_sdk import document, error

from mfalb.errors import MalformedMessage
from mfalb.reference.sdk_client.messages import Answer, call_envelope, read_answer_untrusted
from mfalb.wire.soap import read_envelope_untrusted

# What XML 1.0 can carry unchanged: no control characters, no surrogates, no two non-characters
XML_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))
GOOD = document("X", "<XResult>true</XResult><a><Code>5</Code></a><Code>6</Code>" + error(3) + "<Code>7</Code>")


def test_a_call_stands_in_the_namespaces_of_soap_and_the_sdk() -> None:
    body = ET.fromstring(call_envelope("TestSecurity", {}))[0]  # noqa: S314 - our own request
    assert body.tag == "{http://schemas.xmlsoap.org/soap/envelope/}Body"
    assert body[0].tag == "{http://www.phonefactor.com/PfWsSdk}TestSecurity"


@given(user=XML_TEXT, otp=XML_TEXT)
def test_whatever_is_typed_stays_text_in_the_call(user: str, otp: str) -> None:
    envelope = read_envelope_untrusted(call_envelope("VerifyOneWayOtp", {"username": user, "otp": otp}))
    assert envelope.method == "VerifyOneWayOtp"
    assert (envelope.texts["username"], envelope.texts["otp"]) == (user.strip(), otp.strip())


def test_markup_in_a_user_name_does_not_become_an_element() -> None:
    envelope = read_envelope_untrusted(
        call_envelope("M", {"username": "a</username><flag>true</flag>", "flag": "false"})
    )
    assert (envelope.texts["username"], envelope.texts["flag"]) == ("a</username><flag>true</flag>", "false")


def test_texts_are_found_by_their_place_and_the_first_of_a_name_counts() -> None:
    answer = read_answer_untrusted(GOOD, "X")
    assert answer.is_true("XResult")
    assert (answer.integer("a/Code"), answer.integer("Code"), answer.error_code) == (5, 6, 3)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (document("Y", ""), "sdk_other_method"),
        (b"<Envelope><Body><Fault><faultcode>x</faultcode></Fault></Body></Envelope>", "sdk_fault"),
        (b"<Envelope><Body/></Envelope>", "sdk_other_method"),
        (b"<Envelope><Header><XResponse/></Header></Envelope>", "sdk_other_method"),
        (b"<html>502</html>", "sdk_other_method"),
        (b"<html>", "xml_not_well_formed"),
        (b"", "xml_not_well_formed"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><x/>", "xml_doctype"),
    ],
)
def test_an_answer_that_is_none_is_refused(answer: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        read_answer_untrusted(answer, "X")
    assert caught.value.reason == reason


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_an_answer_cut_short_is_refused(length: int) -> None:
    with pytest.raises(MalformedMessage):
        read_answer_untrusted(GOOD[:length], "X")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_a_boolean_is_what_xml_schema_says(text: str, value: bool) -> None:
    assert Answer({"r": text}).is_true("r") is value


@pytest.mark.parametrize("text", ["", "TRUE", "yes", "true!", "-1", "2"])
def test_anything_else_is_no_boolean(text: str) -> None:
    with pytest.raises(MalformedMessage):
        Answer({"r": text}).is_true("r")


@pytest.mark.parametrize("text", ["", "one", "-1", "1.0", "٣", "9" * 10])
def test_anything_but_digits_is_no_number(text: str) -> None:
    with pytest.raises(MalformedMessage):
        Answer({"n": text}).integer("n")


def test_a_text_that_is_missing_or_empty_is_none() -> None:
    for texts in ({}, {"t": ""}):
        with pytest.raises(MalformedMessage):
            Answer(texts).text("t")


def test_answers_with_thousands_of_elements_cost_no_more_than_their_limit() -> None:
    answer = read_answer_untrusted(document("X", "".join(f"<a{n}>t</a{n}>" for n in range(5000))), "X")
    assert len(answer.texts) == 64


def test_what_an_answer_holds_is_not_shown() -> None:
    assert "hidden" not in repr(Answer({"OathTokenSecretKey": "hidden"}))


@given(st.binary())
def test_any_bytes_are_an_answer_or_refused(answer: bytes) -> None:
    with suppress(MalformedMessage):
        read_answer_untrusted(answer, "X")
