"""A browser without scripts, for demonstrations: cookies, pages, forms, and a new connection for each request.

New connections are what shows whether a site needs a session to stay somewhere: nothing is kept together by chance.
"""

from __future__ import annotations

import ssl
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Final, Self
from urllib.parse import urljoin

import aiohttp

from mfalb.cli.demo_failures import SignInFailed

_TIMEOUT: Final = aiohttp.ClientTimeout(total=60.0)


@dataclass(slots=True)
class _Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    """The forms of a page: where each goes, and what its fields hold before anybody types."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Form] = []
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(_Form(values["action"]))
        elif tag == "input" and self.found:
            self.found[-1].fields[values["name"]] = values.get("value", "")
        elif tag == "select" and self.found:
            self._select = values["name"]
        elif tag == "option" and self.found:
            fields = self.found[-1].fields
            if "selected" in values or self._select not in fields:
                fields[self._select] = values["value"]


@dataclass(frozen=True, slots=True)
class Page:
    """The page that is open."""

    status: int
    url: str
    served_by: str
    text: str


class DemoBrowser(AbstractAsyncContextManager["DemoBrowser"]):
    """One person at a browser."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        connector = aiohttp.TCPConnector(ssl=tls, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        self.page = Page(0, "", "", "")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, url: str) -> Page:
        """Open a page, following redirects."""
        async with self._session.get(url) as response:
            return await self._open(response)

    async def submit(self, action: str = "", **typed: str) -> Page:
        """Fill in and post the first form that goes to a path with this end. Raises SignInFailed when there is none."""
        reader = _Forms()
        reader.feed(self.page.text)
        form = next((form for form in reader.found if form.action.endswith(action)), None)
        if form is None:
            raise SignInFailed(f"{self.page.url} ({self.page.status}) has no form {action}")
        async with self._session.post(urljoin(self.page.url, form.action), data=form.fields | typed) as response:
            return await self._open(response)

    async def _open(self, response: aiohttp.ClientResponse) -> Page:
        served_by = response.headers.get("X-Served-By", "?")
        self.page = Page(response.status, str(response.url), served_by, await response.text())
        return self.page
