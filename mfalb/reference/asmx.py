"""A web service as ASP.NET has them: one `.asmx` page that takes SOAP 1.1 calls, and shows help and a WSDL.

    POST PATH        a call: an answer, or a fault with status 500 (SOAP 1.1 section 6.2)
    GET  PATH        the help page
    GET  PATH?wsdl   the formal description

IIS ignores case, so the path does, too.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from aiohttp import web
from jinja2 import Environment, FileSystemLoader

from mfalb.errors import MalformedMessage
from mfalb.wire.soap import Envelope, read_envelope_untrusted

BODY_LIMIT_BYTES: Final = 64 * 1024  # for the application's client_max_size: a longer call is answered 413
_SERVER_ERROR: Final = 500

Content = str | int | bool | Mapping[str, "Content"]
Answer = Mapping[str, Content]

_log = logging.getLogger("mfalb.reference.asmx")


@dataclass(frozen=True, slots=True)
class Description:
    """What is public of a service: its path, its namespace, its operations as its templates read them, and those."""

    path: str
    namespace: str
    operations: object
    templates: Path


class Asmx:
    """One such page. `answer` makes the elements of an answer to a call; None for an operation that there is not."""

    def __init__(
        self, server: str, description: Description, answer: Callable[[Envelope], Awaitable[Answer | None]]
    ) -> None:
        self._server = server
        self._description = description
        self._answer = answer
        self._pages = Environment(loader=FileSystemLoader(description.templates), autoescape=True)

    async def handle(self, request: web.Request) -> web.Response:
        """Whatever is asked for, at whatever path."""
        described = self._description
        if request.path.lower() != described.path.lower():
            return web.Response(status=404, text="There is nothing here.\n")
        if request.method == "POST":
            return await self._call(request)
        location = f"{request.headers.get('X-Forwarded-Proto', request.scheme)}://{request.host}{described.path}"
        is_wsdl = request.query_string.lower() == "wsdl"
        page = self._pages.get_template("wsdl.xml" if is_wsdl else "help.html")
        text = page.render(location=location, namespace=described.namespace, operations=described.operations)
        return web.Response(text=text, content_type="text/xml" if is_wsdl else "text/html", charset="utf-8")

    async def _call(self, request: web.Request) -> web.Response:
        try:
            call = read_envelope_untrusted(await request.read())
        except MalformedMessage as error:
            _log.warning("call refused", extra={"server": self._server, "reason": error.reason})
            return _soap(fault("The request is not a SOAP 1.1 envelope."), _SERVER_ERROR)
        content = await self._answer(call)
        if content is None:
            return _soap(fault("The operation is not known."), _SERVER_ERROR)
        body = (
            f'<{call.method}Response xmlns="{self._description.namespace}">{elements(content)}</{call.method}Response>'
        )
        return _soap(body)


def elements(content: Answer) -> str:
    """The XML of named values, one element each, nested where a value has names itself."""
    return "".join(f"<{name}>{_inside(value)}</{name}>" for name, value in content.items())


def fault(text: str) -> str:
    """The Body of a fault of the caller's."""
    return f"<soap:Fault><faultcode>soap:Client</faultcode><faultstring>{escape(text)}</faultstring></soap:Fault>"


def envelope(body: str) -> str:
    """A whole document."""
    return (
        '<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<soap:Body>{body}</soap:Body></soap:Envelope>"
    )


def _soap(body: str, status: int = 200) -> web.Response:
    return web.Response(text=envelope(body), status=status, content_type="text/xml", charset="utf-8")


def _inside(value: Content) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return escape("".join(sign for sign in value if sign.isprintable()))
    return elements(value)
