"""Asks an aiohttp application without a socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest.mock import Mock

from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request


class Asked:
    """An application, and what it answers."""

    def __init__(self, application: web.Application) -> None:
        self._application = application
        application.freeze()

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> web.Response:
        payload = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
        payload.feed_data(body)
        payload.feed_eof()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = make_mocked_request(method, path, headers=named, app=self._application, payload=payload)
        response = await self._application._handle(request)
        assert isinstance(response, web.Response)
        return response

    async def json(self, path: str) -> Any:
        return json.loads((await self.ask("GET", path)).text or "")

    async def post_json(self, path: str, table: object) -> tuple[int, Any]:
        response = await self.ask("POST", path, json.dumps(table).encode())
        return response.status, json.loads(response.text or "null")
