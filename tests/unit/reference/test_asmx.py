"""The page itself is tried through the two services that have one; here is what they answer with."""

from __future__ import annotations

from mfalb.reference.asmx import elements, envelope, fault
from mfalb.wire.soap import read_envelope_untrusted


def test_values_become_elements_nested_where_they_have_names() -> None:
    content = elements({"a": True, "b": 7, "c": "x", "d": {"e": False, "f": ""}})
    assert content == "<a>true</a><b>7</b><c>x</c><d><e>false</e><f></f></d>"


def test_markup_is_escaped_and_what_xml_cannot_hold_is_left_out() -> None:
    body = f"<EchoResponse>{elements({'text': '<&>' + chr(0) + chr(27) + ' é'})}</EchoResponse>"
    told = read_envelope_untrusted(envelope(body).encode())
    assert (told.method, told.texts["text"]) == ("EchoResponse", "<&> é")
    told = read_envelope_untrusted(envelope(fault("<&>")).encode())
    assert (told.method, told.texts["faultstring"]) == ("Fault", "<&>")
