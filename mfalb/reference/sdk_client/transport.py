"""Calls of the Web Service SDK over HTTPS, with HTTP Basic or a client certificate, and what their failures mean."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from typing import Final

import aiohttp

from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.sdk_client.client import SdkClient
from mfalb.reference.sdk_client.failures import Level, SdkUnavailable
from mfalb.reference.sdk_client.messages import NAMESPACE
from mfalb.reference.tls import client_context

_CONNECT_TIMEOUT_S: Final = 10.0
_TIMEOUT_S: Final = 130.0  # a server holds a call for up to 120 s while a phone rings
_FAREWELL_S: Final = 0.25  # aiohttp does not wait for the end of TLS when a session is closed; its manual says so long
_ANSWER_LIMIT_BYTES: Final = 64 * 1024  # a longer answer is none of ours: the call fails
_OK: Final = 200
_SOAP_FAULT: Final = 500  # SOAP 1.1 section 6.2
_REFUSED: Final = frozenset((401, 403))

# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_MISMATCH and _IP_ADDRESS_MISMATCH
_NAME_MISMATCHES: Final = frozenset((62, 63, 64))


class HttpCaller:
    """Carries calls to one URL. `session` comes from `sdk_session` and stays its opener's to close."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def call(self, method: str, body: bytes) -> bytes:
        """The body of an answer, a SOAP Fault's included. Raises SdkUnavailable."""
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{NAMESPACE}/{method}"'}
        try:
            # Redirects are not followed: they would carry the code to wherever the answer says
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                if response.status in _REFUSED:
                    raise SdkUnavailable(Level.CREDENTIALS, f"status_{response.status}")
                if response.status not in {_OK, _SOAP_FAULT}:
                    raise SdkUnavailable(Level.UNREACHABLE, f"status_{response.status}")
                return await _read(response.content)
        except (OSError, aiohttp.ClientError) as error:
            raise failure_of(error) from None


async def _read(content: aiohttp.StreamReader) -> bytes:
    answer = b""
    while chunk := await content.readany():
        answer += chunk
        if len(answer) > _ANSWER_LIMIT_BYTES:
            raise SdkUnavailable(Level.UNREACHABLE, "answer_too_long")
    return answer


def failure_of(error: OSError | aiohttp.ClientError) -> SdkUnavailable:
    """At which level a call failed that got no answer."""
    if isinstance(error, TimeoutError):
        return SdkUnavailable(Level.UNREACHABLE, "timeout")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = error.certificate_error
        is_other_name = isinstance(reason, ssl.SSLCertVerificationError) and reason.verify_code in _NAME_MISMATCHES
        return SdkUnavailable(
            Level.HOST_NAME, "certificate_of_another_name" if is_other_name else "certificate_refused"
        )
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        # TLS 1.3 refuses a client's certificate after the handshake, so it is met while reading
        return SdkUnavailable(Level.CREDENTIALS if _is_about_our_certificate(error) else Level.UNREACHABLE, "tls")
    return SdkUnavailable(Level.UNREACHABLE, type(error).__name__)


def _is_about_our_certificate(error: BaseException) -> bool:
    """Whether the server sent an alert about our certificate: certificate_required, bad_certificate, unknown_ca..."""
    found = error if isinstance(error, ssl.SSLError) else error.__cause__
    name = found.reason if isinstance(found, ssl.SSLError) else None
    return bool(name) and "ALERT" in str(name) and ("CERT" in str(name) or "UNKNOWN_CA" in str(name))


def sdk_session(access: SdkAccess) -> aiohttp.ClientSession:
    """The HTTP session to call the SDK with: who we are, and the authority that its certificate is verified with.

    Raises ValueError for files that make no TLS.
    """
    context = client_context(access.ca, access.cert, access.key)
    return aiohttp.ClientSession(
        # A kept connection may turn out closed only once a call is on it, and a POST that may ring a phone
        # cannot be sent again: a new connection for each call has no such doubt.
        connector=aiohttp.TCPConnector(ssl=context, force_close=True),
        headers={} if access.account is None else {"Authorization": access.account.authorization},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S),
    )


async def open_sdk(access: SdkAccess, application: str, stack: AsyncExitStack) -> SdkClient:
    """A client of the SDK until the stack closes; `application` is the caller's name. Raises as sdk_session."""
    session = sdk_session(access)
    stack.push_async_callback(asyncio.sleep, _FAREWELL_S)
    await stack.enter_async_context(session)
    return SdkClient(HttpCaller(access.url, session), application)
