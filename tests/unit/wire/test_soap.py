import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire.outcomes import outcome

from mfalb.wire.soap import Envelope, empty_call, read_envelope_untrusted

WANTED = ("username", "authreqid")
SOAP_12 = "http://www.w3.org/2003/05/soap-envelope"


def envelope(inner: str, *, header: str = "", prefix: str = "soap") -> bytes:
    """A SOAP envelope; without a prefix its elements are in a default namespace."""
    p = f"{prefix}:" if prefix else ""
    xmlns = f"xmlns:{prefix}" if prefix else "xmlns"
    return f'<{p}Envelope {xmlns}="{SOAP_12}">{header}<{p}Body>{inner}</{p}Body></{p}Envelope>'.encode()


@pytest.mark.parametrize(
    ("document", "method", "texts"),
    [
        (envelope("<Login/>"), "Login", {}),
        (envelope("<Login><username>bob</username></Login>"), "Login", {"username": "bob"}),
        (envelope("<Login><username> bob\n</username></Login>"), "Login", {"username": "bob"}),
        (envelope("<Login><username/></Login>"), "Login", {"username": ""}),
        (envelope('<m:L xmlns:m="u"><m:username>bob</m:username></m:L>'), "L", {"username": "bob"}),
        (envelope("<Login><username>bob</username></Login>", prefix="s"), "Login", {"username": "bob"}),
        (envelope("<Login><username>bob</username></Login>", prefix=""), "Login", {"username": "bob"}),
        (
            envelope("<L><username>bob</username><username>eve</username><authreqid>7</authreqid></L>"),
            "L",
            {"username": "bob", "authreqid": "7"},
        ),
        (envelope("<L><p><username>bob</username></p><username>eve</username></L>"), "L", {"username": "bob"}),
        (envelope("<L/><M><username>bob</username></M>"), "L", {"username": "bob"}),
        (envelope("<L/>", header="<Header><username>eve</username></Header>"), "L", {}),
        (envelope("<L><Username>eve</Username><usernames>eve</usernames></L>"), "L", {}),
        (envelope('<L><x username="eve">x</x></L>'), "L", {}),
        (envelope(f"<L><username>{'x' * 4097}</username></L>"), "L", {}),
        (envelope("<L><username>a&amp;b</username></L>"), "L", {"username": "a&b"}),
    ],
)
def test_an_envelope_is_its_method_and_the_first_of_each_wanted_text(
    document: bytes, method: str, texts: dict[str, str]
) -> None:
    assert read_envelope_untrusted(document, WANTED) == Envelope(method, texts)


def test_all_texts_are_read_when_none_is_named() -> None:
    assert read_envelope_untrusted(envelope("<L><a>1</a><b>2</b></L>")).texts == {
        "a": "1", "b": "2", "L": "", "Body": "", "Envelope": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "xml_not_well_formed"),
        (b"username=bob&otp=123456", "xml_not_well_formed"),
        (envelope("<L/>")[:-1], "xml_not_well_formed"),
        (envelope("<L/>") + b"x", "xml_not_well_formed"),
        (envelope(""), "soap_no_body"),
        (envelope("text only"), "soap_no_body"),
        (b"<Envelope/>", "soap_no_body"),
        (b"<Body><L/></Body>", "soap_no_body"),
        (b"<x><Envelope><Body><L/></Body></Envelope></x>", "soap_no_body"),
        (b"<Envelope><Header><L/></Header></Envelope>", "soap_no_body"),
        (b"<!DOCTYPE Envelope>" + envelope("<L/>"), "xml_doctype"),
        (envelope("<a>" * 40 + "</a>" * 40), "xml_too_deep"),
        (b'<?xml version="1.0" encoding="utf-7"?>' + envelope("<L/>"), "xml_encoding"),
    ],
)
def test_what_is_no_envelope_is_refused_with_its_reason(document: bytes, reason: str) -> None:
    assert outcome(read_envelope_untrusted, document) == reason


def test_an_envelope_cut_anywhere_is_refused() -> None:
    document = envelope("<Login><username>bob</username></Login>")
    for length in range(len(document)):
        assert outcome(read_envelope_untrusted, document[:length]) == "xml_not_well_formed"


def test_an_envelope_in_utf_16_is_read() -> None:
    document = envelope("<L><username>Jos\xe9</username></L>").decode().encode("utf-16")
    assert read_envelope_untrusted(document, WANTED).texts == {"username": "Jos\xe9"}


def test_an_envelope_shows_no_text_of_its_own() -> None:
    assert "123456" not in repr(read_envelope_untrusted(envelope("<L><otp>123456</otp></L>")))


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=40))
@settings(max_examples=100)
def test_any_user_name_is_read_as_it_was_written(name: str) -> None:
    written = name.replace("&", "&amp;").replace("<", "&lt;").replace("]]>", "]]&gt;")
    found = outcome(
        lambda data: read_envelope_untrusted(data, WANTED), envelope(f"<L><username>{written}</username></L>")
    )
    if isinstance(found, Envelope):
        assert found.texts == {"username": name.strip()}
    else:
        assert any(ord(character) in (0xFFFE, 0xFFFF) for character in name)  # no characters of XML


@given(st.integers(0, 200), st.integers(0, 255), st.integers(0, 200))
@settings(max_examples=200)
def test_a_damaged_envelope_is_read_or_malformed_and_nothing_else(place: int, octet: int, length: int) -> None:
    document = bytearray(envelope("<Login><username>bob</username></Login>"))
    document[place % len(document)] = octet
    outcome(read_envelope_untrusted, bytes(document[: len(document) - length % 3]))


def test_a_call_without_parameters_is_an_envelope_with_nothing_in_it() -> None:
    call = empty_call("TestSecurity", "http://www.phonefactor.com/PfWsSdk")
    assert read_envelope_untrusted(call, WANTED) == Envelope("TestSecurity")
    assert b'<TestSecurity xmlns="http://www.phonefactor.com/PfWsSdk"/>' in call
