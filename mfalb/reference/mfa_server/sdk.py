"""The Web Service SDK front of an MFA Server: SOAP 1.1 over HTTP.

Callers sign in by HTTP Basic, or by a client certificate that is mapped to that account one to one. What they can call
is in `sdk_schema.py`, what it does in `sdk_operations.py`.
"""

from __future__ import annotations

import hmac
import ssl
from base64 import b64decode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mfalb.reference.asmx import BODY_LIMIT_BYTES, Answer, Asmx, Description
from mfalb.reference.config.mfa_server import MfaServerSettings
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.sdk_answers import NAMESPACE
from mfalb.reference.mfa_server.sdk_operations import Operation
from mfalb.reference.mfa_server.sdk_schema import OPERATIONS
from mfalb.wire.soap import Envelope

PATH: Final = "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
_DESCRIPTION: Final = Description(PATH, NAMESPACE, OPERATIONS, Path(__file__).parent / "templates")


class SdkFront:
    """The SDK's HTTP application."""

    def __init__(self, settings: MfaServerSettings, operations: Mapping[str, Operation], faults: Faults) -> None:
        self._server = settings.name
        self._account = settings.account
        callers = settings.callers
        self._fingerprints = frozenset(() if callers is None else (one.lower() for one in callers.fingerprints))
        self._operations = operations
        self._faults = faults
        self._asmx = Asmx(self._server, _DESCRIPTION, self._answer)

    def application(self) -> web.Application:
        application = web.Application(
            client_max_size=BODY_LIMIT_BYTES, middlewares=[self._faults.middleware, self._signed_in]
        )
        application.router.add_route("*", "/{path:.*}", self._asmx.handle)
        application.on_response_prepare.append(self._sign)
        return application

    @web.middleware
    async def _signed_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """IIS authenticates before it serves anything, the help page included."""
        if not self._is_mapped(request) and not self._is_account(request.headers.get("Authorization", "")):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="PfWsSdk"'}, text="401\n")
        return await handler(request)

    async def _sign(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Every answer says who made it, aiohttp's own refusals, too."""
        response.headers["X-Served-By"] = self._server

    def _is_mapped(self, request: web.Request) -> bool:
        """Whether the caller has shown a certificate that stands for the account."""
        if not self._fingerprints:
            return False
        connection = request.get_extra_info("ssl_object")
        if not isinstance(connection, ssl.SSLObject):
            return False
        certificate = connection.getpeercert(binary_form=True)  # verified by TLS, or there is none
        return certificate is not None and sha256(certificate).hexdigest() in self._fingerprints

    def _is_account(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = b64decode(encoded, validate=True)
        except ValueError:
            return False
        wanted = f"{self._account.name}:{self._account.password}".encode()
        return scheme.lower() == "basic" and hmac.compare_digest(given, wanted)

    async def _answer(self, call: Envelope) -> Answer | None:
        operation = self._operations.get(call.method)
        return None if operation is None else await operation(call.texts)
