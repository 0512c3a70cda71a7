"""XML documents from strangers, read once from front to back.

Entities and DTDs are refused before they can expand, and depth and text are limited, so that no document costs more
than its own length. Names are local names: prefixes and namespaces are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol
from xml.parsers import expat

from mfalb.errors import MalformedMessage

DEPTH_LIMIT: Final = 32
TEXT_LIMIT: Final = 4096  # characters of one element's text
# What expat reads by itself. Others are looked up among Python's codecs, which imports modules by a stranger's word
# and keeps every name that was not found for ever.
_ENCODINGS: Final = frozenset(("utf-8", "utf-16", "utf-16le", "utf-16be", "iso-8859-1", "us-ascii"))


@dataclass(frozen=True, slots=True)
class Element:
    """An element that has ended. `path` holds the local names of its ancestors; `text` is None past the limit."""

    name: str
    path: tuple[str, ...]
    attributes: dict[str, str] = field(repr=False)
    text: str | None = field(repr=False)  # may hold an OTP: never shown


class Visitor(Protocol):
    """Who is told of elements: of each start (with the names of its ancestors), and of each end."""

    def begun(self, name: str, path: tuple[str, ...]) -> None: ...

    def ended(self, element: Element) -> None: ...


class _Walk:
    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._path: list[str] = []
        self._attributes: list[dict[str, str]] = []
        self._text: list[str] = []
        self._length = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        self._visitor.begun(local, tuple(self._path))
        self._path.append(local)
        self._attributes.append(attributes)
        if len(self._path) > DEPTH_LIMIT:
            raise MalformedMessage("xml_too_deep")
        self._forget_text()

    def text(self, data: str) -> None:
        self._length += len(data)
        if self._length <= TEXT_LIMIT:
            self._text.append(data)

    def end(self, _name: str) -> None:
        name = self._path.pop()
        text = "".join(self._text).strip() if self._length <= TEXT_LIMIT else None
        self._visitor.ended(Element(name, tuple(self._path), self._attributes.pop(), text))
        self._forget_text()

    def _forget_text(self) -> None:
        self._text.clear()
        self._length = 0


def _refuse_doctype(*_: object) -> None:
    raise MalformedMessage("xml_doctype")


def _refuse_foreign_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding is not None and encoding.lower() not in _ENCODINGS:
        raise MalformedMessage("xml_encoding")


def walk_untrusted(document: bytes, visitor: Visitor) -> None:
    """Tell `visitor` of every element.

    Raises MalformedMessage when the document is not well-formed, has a DTD, is nested deeper than 32, or declares an
    encoding other than UTF-8, UTF-16, ISO-8859-1 and US-ASCII.
    """
    walk = _Walk(visitor)
    parser = expat.ParserCreate()
    parser.XmlDeclHandler = _refuse_foreign_encoding
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = walk.start
    parser.CharacterDataHandler = walk.text
    parser.EndElementHandler = walk.end
    try:
        parser.Parse(document, True)
    except expat.ExpatError:
        raise MalformedMessage("xml_not_well_formed") from None
