"""The farm's public keys: fetched from its (balanced) address, kept for a while, fetched anew when it has others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from mfalb.errors import MfalbError
from mfalb.reference.tls import client_context

_KEPT_S: Final = 300.0
_AGAIN_AFTER_S: Final = 5.0  # tokens with made-up key ids cannot make us ask more often
_TIMEOUT_S: Final = 10.0
_LIMIT_BYTES: Final = 64 * 1024
_OK: Final = 200


class KeysUnavailable(MfalbError):  # noqa: N818 - says what the keys are
    """The farm's keys cannot be had; `reason` is a short log label."""

    def __init__(self, reason: str) -> None:
        super().__init__("The sign-in service is not available. Please try again in a few minutes.")
        self.reason = reason


class KeySource:
    """The key set at one address. `now` gives seconds on a clock that never goes back."""

    def __init__(self, url: str, session: aiohttp.ClientSession, now: Callable[[], float]) -> None:
        self._url = url
        self._session = session
        self._now = now
        self._keys: dict[str, Any] | None = None
        self._fetched_at = 0.0

    async def keys(self, *, is_anew: bool = False) -> dict[str, Any]:
        """The key set; with `is_anew` one that was fetched within seconds. Raises KeysUnavailable."""
        age_s = self._now() - self._fetched_at
        if self._keys is None or age_s > (_AGAIN_AFTER_S if is_anew else _KEPT_S):
            self._keys = await self._fetch()
            self._fetched_at = self._now()
        return self._keys

    async def _fetch(self) -> dict[str, Any]:
        try:
            async with self._session.get(self._url, allow_redirects=False) as response:
                if response.status != _OK:
                    raise KeysUnavailable(f"status_{response.status}")
                body = await _read(response.content)
            keys = json.loads(body)
        except (OSError, aiohttp.ClientError, ValueError) as error:
            raise KeysUnavailable(type(error).__name__) from None
        if not isinstance(keys, dict):
            raise KeysUnavailable("no_key_set")
        return keys


async def _read(content: aiohttp.StreamReader) -> bytes:
    body = b""
    while chunk := await content.readany():
        body += chunk
        if len(body) > _LIMIT_BYTES:
            raise KeysUnavailable("too_long")
    return body


def key_session(ca: str | None) -> aiohttp.ClientSession:
    """The HTTP session to fetch keys with, which believes the authority in `ca`. Raises ValueError."""
    connector = aiohttp.TCPConnector(ssl=client_context(ca), force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
