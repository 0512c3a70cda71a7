"""A WebSocket client made with `websockets`, for tests that are not asynchronous.

Its own client for threads reads and writes one TLS connection in two threads at the same time, which OpenSSL does not
allow: of 2,000 connections through HAProxy, too, two to eight stood still. So its asynchronous one runs here, in a
thread.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Self, TypeVar

from websockets.asyncio.client import ClientConnection, connect

_DEADLINE_S: Final = 20.0

Value = TypeVar("Value")


class WebSocketClient:
    """One connection, open from the beginning; a context manager that closes it."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None, cookie: str = "") -> None:
        """Raises what `websockets` raises, and TimeoutError."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        headers = {"Cookie": cookie} if cookie else None
        try:
            self._connection = self._wait(_opened(url, tls, headers), _DEADLINE_S)
        except BaseException:
            self._stop()
            raise

    @property
    def cookie(self) -> str:
        """The name and value of the cookie that came with the 101."""
        response = self._connection.response
        assert response is not None
        return response.headers["Set-Cookie"].partition(";")[0]

    def recv(self, timeout_s: float = 10.0) -> str | bytes:
        """The next message. Raises ConnectionClosed and TimeoutError."""
        return self._wait(self._connection.recv(), timeout_s)

    def send(self, message: str | bytes | Sequence[str]) -> None:
        """Send a message, or one in fragments."""
        self._wait(self._connection.send(message), _DEADLINE_S)

    def ping(self) -> None:
        """Send a ping and wait for its pong."""
        self._wait(self._pong(), _DEADLINE_S)

    async def _pong(self) -> None:
        await (await self._connection.ping())

    def _wait(self, work: Coroutine[Any, Any, Value], timeout_s: float) -> Value:
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, timeout_s), self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._wait(self._connection.close(), _DEADLINE_S)
        finally:
            self._stop()


async def _opened(url: str, tls: ssl.SSLContext | None, headers: dict[str, str] | None) -> ClientConnection:
    return await connect(url, ssl=tls, additional_headers=headers, proxy=None, max_size=None)
