"""SOAP envelopes (SOAP 1.1 and 1.2): the few elements that balancing and the reference services look at.

Elements are matched by local name: the namespace of the Web Service SDK is not publicly known. Entities and DTDs are
refused before they can expand, and depth and text are limited, so that no document costs more than its own length.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from mfalb.errors import MalformedMessage

DEPTH_LIMIT: Final = 32
TEXT_LIMIT_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Envelope:
    """What was found: the method (local name of the first element in Body) and the texts of its elements.

    `texts` maps a local name to the text of its first occurrence under Body, white space stripped.
    """

    method: str
    texts: dict[str, str] = field(default_factory=dict, repr=False)  # may hold an OTP: never shown


class _Reader:
    """Collects while expat reads; one document, one reader."""

    def __init__(self, wanted: Collection[str] | None) -> None:
        self.method = ""
        self.texts: dict[str, str] = {}
        self._wanted = wanted
        self._path: list[str] = []
        self._text: list[str] = []
        self._text_bytes = 0

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        self._path.append(local)
        if len(self._path) > DEPTH_LIMIT:
            raise MalformedMessage("xml_too_deep")
        if len(self._path) == 3 and self._path[:2] == ["Envelope", "Body"] and not self.method:  # noqa: PLR2004
            self.method = local
        self._text.clear()
        self._text_bytes = 0

    def text(self, data: str) -> None:
        self._text_bytes += len(data)
        if self._text_bytes <= TEXT_LIMIT_BYTES:
            self._text.append(data)

    def end(self, _name: str) -> None:
        local = self._path.pop()
        is_wanted = self._wanted is None or local in self._wanted
        if self.method and is_wanted and local not in self.texts and self._text_bytes <= TEXT_LIMIT_BYTES:
            self.texts[local] = "".join(self._text).strip()
        self._text.clear()
        self._text_bytes = 0


def _refuse_doctype(*_: object) -> None:
    raise MalformedMessage("xml_doctype")


def read_envelope_untrusted(document: bytes, wanted: Collection[str] | None = None) -> Envelope:
    """The method and the element texts of a SOAP envelope; only `wanted` local names when given.

    Raises MalformedMessage when the document is not well-formed XML, has a DTD, is nested deeper than 32, or is no
    Envelope with a Body that holds an element. A text over 4096 characters is left out.
    """
    reader = _Reader(wanted)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = reader.start
    parser.CharacterDataHandler = reader.text
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(document, True)
    except expat.ExpatError:
        raise MalformedMessage("xml_not_well_formed") from None
    except (LookupError, ValueError):  # an encoding Python does not know
        raise MalformedMessage("xml_encoding") from None
    if not reader.method:
        raise MalformedMessage("soap_no_body")
    return Envelope(reader.method, reader.texts)
