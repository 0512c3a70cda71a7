import codecs
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.wire.outcomes import outcome

from mfalb.wire.xml import DEPTH_LIMIT, TEXT_LIMIT, Element, walk_untrusted


class Log:
    def __init__(self) -> None:
        self.begun_at: list[tuple[str, tuple[str, ...]]] = []
        self.elements: list[Element] = []

    def begun(self, name: str, path: tuple[str, ...]) -> None:
        self.begun_at.append((name, path))

    def ended(self, element: Element) -> None:
        self.elements.append(element)


def walk(document: bytes) -> Log:
    log = Log()
    walk_untrusted(document, log)
    return log


def texts(document: bytes) -> list[tuple[str, str | None]]:
    return [(element.name, element.text) for element in walk(document).elements]


def nested(depth: int) -> bytes:
    return b"<a>" * depth + b"</a>" * depth


def bomb(body: str) -> bytes:
    return f"<!DOCTYPE a [{body}]><a>&x;</a>".encode()


LAUGHS = "".join(f'<!ENTITY x{n + 1} "{f"&x{n};" * 10}">' for n in range(9))


def test_elements_are_told_with_the_local_names_above_them() -> None:
    log = walk(b'<e:a xmlns:e="u"><e:b c="d"> x </e:b><b/></e:a>')
    assert log.begun_at == [("a", ()), ("b", ("a",)), ("b", ("a",))]
    assert [(e.name, e.path, e.text) for e in log.elements] == [("b", ("a",), "x"), ("b", ("a",), ""), ("a", (), "")]
    assert log.elements[0].attributes == {"c": "d"}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"<a>x &amp; &#121;</a>", "x & y"),
        (b"<a><![CDATA[<x>]]></a>", "<x>"),
        (b"<a>x<!-- no --><?no no?>y</a>", "xy"),
        (b"\xef\xbb\xbf<a>x</a>", "x"),
        ('<?xml version="1.0" encoding="UTF-8"?><a>\xe9</a>'.encode(), "\xe9"),
        ('<?xml version="1.0" encoding="utf-16"?><a>\xe9</a>'.encode("utf-16"), "\xe9"),
        ("<a>\xe9</a>".encode("utf-16"), "\xe9"),
        ('<?xml version="1.0" encoding="utf-16le"?><a>\xe9</a>'.encode("utf-16-le"), "\xe9"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><a>\xe9</a>'.encode("latin-1"), "\xe9"),
        (b'<?xml version="1.0" encoding="us-ascii" standalone="yes"?><a>e</a>', "e"),
        (b'<?xml version="1.0"?><a>e</a>', "e"),
        (b"<a>" + b"x" * TEXT_LIMIT + b"</a>", "x" * TEXT_LIMIT),
        (b"<a>" + b"x" * (TEXT_LIMIT + 1) + b"</a>", None),
        (b"<a>" + b"&#120;" * (TEXT_LIMIT + 1) + b"</a>", None),
    ],
)
def test_a_text_is_read_as_it_was_meant(document: bytes, text: str | None) -> None:
    assert texts(document) == [("a", text)]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "xml_not_well_formed"),
        (b"<a>", "xml_not_well_formed"),
        (b"<a></b>", "xml_not_well_formed"),
        (b"<a/><a/>", "xml_not_well_formed"),
        (b"<a>&x;</a>", "xml_not_well_formed"),
        (b"<a>\xff</a>", "xml_not_well_formed"),
        (b"<a>\0</a>", "xml_not_well_formed"),
        (b'<a b="1" b="2"/>', "xml_not_well_formed"),
        (b'{"json": true}', "xml_not_well_formed"),
        (b'<?xml version="1.0" encoding="utf-16"?><a/>', "xml_not_well_formed"),
        (b"<!DOCTYPE a><a/>", "xml_doctype"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "xml_doctype"),
        (bomb('<!ENTITY x SYSTEM "file:///etc/passwd">'), "xml_doctype"),
        (bomb('<!ENTITY % x SYSTEM "http://127.0.0.1:1/">%x;'), "xml_doctype"),
        (bomb(f'<!ENTITY x0 "ha">{LAUGHS}<!ENTITY x "&x9;">'), "xml_doctype"),
        (bomb(f'<!ENTITY x "{"a" * 100_000}">'), "xml_doctype"),
        (nested(DEPTH_LIMIT + 1), "xml_too_deep"),
        (nested(100_000), "xml_too_deep"),
        *(
            (f'<?xml version="1.0" encoding="{name}"?><a/>'.encode(), "xml_encoding")
            for name in ("utf-7", "windows-1252", "unicode_escape", "idna", "hex", "rot13", "utf_8_sig", "nosuch")
        ),
    ],
)
def test_what_is_no_plain_document_is_refused_at_little_cost(document: bytes, reason: str) -> None:
    before = process_time()
    assert outcome(walk, document) == reason
    assert process_time() - before < 0.5


def test_a_document_may_be_as_deep_as_the_limit() -> None:
    assert len(walk(nested(DEPTH_LIMIT)).elements) == DEPTH_LIMIT


def test_a_strange_encoding_is_not_looked_up() -> None:
    asked: list[str] = []

    def search(name: str) -> None:
        asked.append(name)

    codecs.register(search)
    try:
        assert outcome(walk, b'<?xml version="1.0" encoding="no-such-codec"?><a/>') == "xml_encoding"
    finally:
        codecs.unregister(search)
    assert asked == []


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_any_bytes_are_a_document_or_malformed(document: bytes) -> None:
    outcome(walk, document)


names = st.text("abc", min_size=1, max_size=3)
trees: st.SearchStrategy[str] = st.recursive(
    st.text("xyz <&>", max_size=5).map(lambda text: text.replace("&", "&amp;").replace("<", "&lt;")),
    lambda inner: st.builds(
        lambda name, parts: f"<{name}>{''.join(parts)}</{name}>", names, st.lists(inner, max_size=3)
    ),
    max_leaves=10,
)


@given(trees)
@settings(max_examples=100)
def test_what_begins_ends_in_order(inner: str) -> None:
    log = walk(f"<root>{inner}</root>".encode())
    assert sorted(log.begun_at) == sorted((element.name, element.path) for element in log.elements)
    assert (log.elements[-1].name, log.elements[-1].path) == ("root", ())
