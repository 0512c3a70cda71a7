"""Calls of the Web Service SDK as SOAP 1.1 bodies: a method with its parameters out, an answer's texts back.

Answers are read by local name (the SDK's namespace is not publicly known), and whatever is not clearly a yes is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from xml.etree import ElementTree as ET

from mfalb.errors import MalformedMessage
from mfalb.wire.xml import Element, walk_untrusted

NAMESPACE: Final = "http://www.phonefactor.com/PfWsSdk"
_SOAP: Final = "http://schemas.xmlsoap.org/soap/envelope/"
_BODY: Final = ("Envelope", "Body")
_TEXTS_LIMIT: Final = 64  # our longest answer has a dozen
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}  # xsd:boolean


@dataclass(frozen=True, slots=True)
class Answer:
    """An operation's answer. `texts` has each element's text by its path under the response ("error/Code")."""

    texts: Mapping[str, str] = field(repr=False)  # codes, keys and ids: never shown

    def text(self, path: str) -> str:
        """Raises MalformedMessage when there is none."""
        value = self.texts.get(path, "")
        if not value:
            raise MalformedMessage("sdk_no_text")
        return value

    def is_true(self, path: str) -> bool:
        """Raises MalformedMessage for anything but an xsd:boolean."""
        value = _BOOLEANS.get(self.texts.get(path, ""))
        if value is None:
            raise MalformedMessage("sdk_no_result")
        return value

    def integer(self, path: str) -> int:
        """Raises MalformedMessage for anything but digits."""
        value = self.texts.get(path, "")
        if not (value.isascii() and value.isdigit() and len(value) < 10):  # noqa: PLR2004 - within 32 bits
            raise MalformedMessage("sdk_no_code")
        return int(value)

    @property
    def error_code(self) -> int:
        """The code in `error`; 0 is none. Raises MalformedMessage when the answer has no readable one."""
        return self.integer("error/Code")


def call_envelope(method: str, parameters: Mapping[str, str]) -> bytes:
    """A call. Texts may hold what XML 1.0 may: no control characters (`web.forms` lets none in)."""
    envelope = ET.Element("soap:Envelope", {"xmlns:soap": _SOAP})
    call = ET.SubElement(ET.SubElement(envelope, "soap:Body"), method, {"xmlns": NAMESPACE})
    for name, text in parameters.items():
        ET.SubElement(call, name).text = text
    document: bytes = ET.tostring(envelope, encoding="utf-8", xml_declaration=True)
    return document


class _AnswerVisitor:
    """Collects the texts under the first element in Body, up to a limit; the first of a name counts."""

    def __init__(self) -> None:
        self.response = ""
        self.texts: dict[str, str] = {}

    def begun(self, name: str, path: tuple[str, ...]) -> None:
        if path == _BODY and not self.response:
            self.response = name

    def ended(self, element: Element) -> None:
        if len(element.path) < 3 or element.path[:3] != (*_BODY, self.response):  # noqa: PLR2004 - Envelope, Body, it
            return
        name = "/".join((*element.path[3:], element.name))
        if element.text is not None and len(self.texts) < _TEXTS_LIMIT:
            self.texts.setdefault(name, element.text)


def read_answer_untrusted(document: bytes, method: str) -> Answer:
    """What the SDK answered to a call of `method`.

    Raises MalformedMessage for anything but that method's response; its reason is `sdk_fault` for a SOAP Fault.
    """
    visitor = _AnswerVisitor()
    walk_untrusted(document, visitor)
    if visitor.response == "Fault":
        raise MalformedMessage("sdk_fault")
    if visitor.response != f"{method}Response":
        raise MalformedMessage("sdk_other_method")
    return Answer(visitor.texts)
