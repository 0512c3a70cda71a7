"""A caller of the (balanced) Web Service SDK, over HTTPS with HTTP Basic."""

from __future__ import annotations

import ssl
from typing import Final

import aiohttp

from mfalb.errors import MalformedMessage, MfalbError
from mfalb.reference.config.portal import PortalSettings
from mfalb.reference.user_portal.sdk_messages import (
    BEGIN,
    NAMESPACE,
    VERIFY,
    Begun,
    begin_request,
    read_begun_untrusted,
    read_verified_untrusted,
    verify_request,
)

_TIMEOUT_S: Final = 100.0  # a phone may ring before the answer comes
_ANSWER_LIMIT_BYTES: Final = 64 * 1024  # a longer answer is none of ours: the call fails


class SdkUnavailable(MfalbError):  # noqa: N818 - says what the sign-in service is
    """The Web Service SDK gave no usable answer; `reason` is a short log label, never peer-controlled."""

    def __init__(self, reason: str) -> None:
        super().__init__("The sign-in service is not available. Please try again in a few minutes.")
        self.reason = reason


class SdkClient:
    """The two calls of a sign-in. `session` comes from `sdk_session` and stays its opener's to close."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def begin(self, user: str) -> Begun:
        """Ring or text the user; returns when the call was answered or the text was sent. Raises SdkUnavailable."""
        answer = await self._call(BEGIN, begin_request(user))
        try:
            return read_begun_untrusted(answer)
        except MalformedMessage as error:
            raise SdkUnavailable(error.reason) from None

    async def verify(self, user: str, request_id: str, otp: str) -> bool:
        """Whether `otp` is the code that was texted. Raises SdkUnavailable."""
        answer = await self._call(VERIFY, verify_request(user, request_id, otp))
        try:
            return read_verified_untrusted(answer)
        except MalformedMessage as error:
            raise SdkUnavailable(error.reason) from None

    async def _call(self, method: str, body: bytes) -> bytes:
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{NAMESPACE}/{method}"'}
        try:
            # Redirects are not followed: they would carry the code to wherever the answer says
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                if response.status != 200:  # noqa: PLR2004 - HTTP's OK
                    raise SdkUnavailable(f"status_{response.status}")
                return await _read(response.content)
        except TimeoutError:
            raise SdkUnavailable("timeout") from None
        except aiohttp.ClientError as error:
            raise SdkUnavailable(type(error).__name__) from None


async def _read(content: aiohttp.StreamReader) -> bytes:
    answer = b""
    while chunk := await content.readany():
        answer += chunk
        if len(answer) > _ANSWER_LIMIT_BYTES:
            raise SdkUnavailable("answer_too_long")
    return answer


def sdk_session(settings: PortalSettings) -> aiohttp.ClientSession:
    """The HTTP session to call the SDK with: the service account, and TLS verified with the portal's CA.

    Raises OSError when the CA file cannot be read.
    """
    context = ssl.create_default_context(cafile=settings.sdk_ca)
    return aiohttp.ClientSession(
        # A kept connection may turn out closed only once a call is on it, and a POST that may ring a phone
        # cannot be sent again: a new connection for each call has no such doubt.
        connector=aiohttp.TCPConnector(ssl=context, force_close=True),
        headers={"Authorization": settings.account.authorization},
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
    )
