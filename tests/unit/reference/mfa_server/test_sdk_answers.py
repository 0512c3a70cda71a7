from __future__ import annotations

from mfalb.reference.mfa_server.sdk_answers import answer, elements, envelope, fault
from mfalb.wire.soap import read_envelope_untrusted


def test_values_become_elements_nested_where_they_have_names() -> None:
    content = elements({"a": True, "b": 7, "c": "x", "d": {"e": False, "f": ""}})
    assert content == "<a>true</a><b>7</b><c>x</c><d><e>false</e><f></f></d>"


def test_markup_is_escaped_and_what_xml_cannot_hold_is_left_out() -> None:
    told = read_envelope_untrusted(envelope(answer("Echo", {"text": "<&>\x00\x1b é"})).encode())
    assert (told.method, told.texts["text"]) == ("EchoResponse", "<&> é")
    told = read_envelope_untrusted(envelope(fault("soap:Client", "<&>")).encode())
    assert (told.method, told.texts["faultstring"]) == ("Fault", "<&>")
