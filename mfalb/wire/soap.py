"""SOAP envelopes (SOAP 1.1 and 1.2): the few elements that balancing and the reference services look at.

Elements are matched by local name: the namespace of the Web Service SDK is not publicly known. Entities and DTDs are
refused before they can expand, and depth and text are limited, so that no document costs more than its own length.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from mfalb.errors import MalformedMessage
from mfalb.wire.xml import Element, walk_untrusted


@dataclass(frozen=True, slots=True)
class Envelope:
    """What was found: the method (local name of the first element in Body) and the texts of its elements.

    `texts` maps a local name to the text of its first occurrence under Body, white space stripped.
    """

    method: str
    texts: dict[str, str] = field(default_factory=dict, repr=False)  # may hold an OTP: never shown


class _EnvelopeVisitor:
    """Collects what was asked for while the document is read."""

    def __init__(self, wanted: Collection[str] | None) -> None:
        self.method = ""
        self.texts: dict[str, str] = {}
        self._wanted = wanted

    def begun(self, name: str, path: tuple[str, ...]) -> None:
        if path == ("Envelope", "Body") and not self.method:
            self.method = name

    def ended(self, element: Element) -> None:
        name = element.name
        is_wanted = self._wanted is None or name in self._wanted
        if self.method and is_wanted and name not in self.texts and element.text is not None:
            self.texts[name] = element.text


def empty_call(method: str, namespace: str) -> bytes:
    """A SOAP 1.1 request for a method without parameters. Neither may hold what XML has to escape."""
    return (
        '<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">'
        f'<soap:Body><{method} xmlns="{namespace}"/></soap:Body></soap:Envelope>'
    ).encode("ascii")


def read_envelope_untrusted(document: bytes, wanted: Collection[str] | None = None) -> Envelope:
    """The method and the element texts of a SOAP envelope; only `wanted` local names when given.

    Raises MalformedMessage when the document is not well-formed XML, has a DTD, is nested deeper than 32, or is no
    Envelope with a Body that holds an element. A text over 4096 characters is left out.
    """
    visitor = _EnvelopeVisitor(wanted)
    walk_untrusted(document, visitor)
    if not visitor.method:
        raise MalformedMessage("soap_no_body")
    return Envelope(visitor.method, visitor.texts)
