"""An aiohttp application asked without a socket, by somebody who keeps cookies as a browser does."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import cast
from unittest.mock import Mock
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDictProxy


@dataclass
class Page:
    """What came back."""

    status: int
    text: str
    set_cookies: SimpleCookie
    headers: CIMultiDictProxy[str]

    @property
    def served_by(self) -> str:
        return self.headers["X-Served-By"]


class WebClient:
    """One browser. Forms are posted with the hidden fields of the page that is open."""

    def __init__(self, application: web.Application, root: str = "", headers: dict[str, str] | None = None) -> None:
        self.cookies: dict[str, str] = {}
        self.headers = headers or {}
        self.root = root
        self.page = Page(0, "", SimpleCookie(), cast("CIMultiDictProxy[str]", {}))
        self.use(application)

    def use(self, application: web.Application) -> None:
        """Go on with another server, as without stickiness."""
        self._application = application
        self._application.freeze()

    async def get(self, path: str = "/") -> Page:
        return await self.ask("GET", path, b"")

    async def post(self, path: str, **fields: str) -> Page:
        """Post a form with the hidden fields of the page that is open, or others."""
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', self.page.text))
        return await self.ask("POST", path, urlencode(hidden | fields).encode())

    async def ask(self, method: str, path: str, body: bytes) -> Page:
        payload = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
        payload.feed_data(body)
        payload.feed_eof()
        headers = self.headers | {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        request = make_mocked_request(
            method, self.root + path, headers, app=self._application, payload=payload, client_max_size=2**17
        )
        try:
            response = await self._application._handle(request)
        except web.HTTPException as refusal:  # aiohttp's server makes an answer of it, too
            response = web.Response(status=refusal.status, text=refusal.text)
        assert isinstance(response, web.Response)
        await self._application.on_response_prepare.send(request, response)
        for name, morsel in response.cookies.items():
            if morsel.get("max-age") == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        self.page = Page(
            response.status, response.text or "", response.cookies, CIMultiDictProxy(response.headers.copy())
        )
        return self.page
